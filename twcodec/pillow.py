"""TWC as a format of Pillow's.

    import twcodec.pillow
    from PIL import Image
    with Image.open("photo.twc") as image:
        image.save("smaller.twc", quality=2)

The import registers it. `Image.open` reads the header and the metadata, without torch; torch and the model are loaded
with the first pixels, once, and shared by all images and threads. `configure` says on which device.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile

import twcodec
from twcodec import forks
from twcodec.codec import guard
from twcodec.codec.resources import check_max_memory
from twcodec.container import Container, Header, Limits, chunks
from twcodec.container.header import AVIF
from twcodec.container.limits import DEFAULT_LIMITS
from twcodec.errors import CorruptError, TwcError, UnreadableError, UnsupportedError, UsageError
from twcodec.imaging.carried import as_info, carried
from twcodec.imaging.metadata import from_chunks
from twcodec.models import catalogue, official
from twcodec.transforms import by_id

if TYPE_CHECKING:
    from twcodec.codec.codec import Codec

__all__ = ["TwcImageFile", "configure", "register"]

FORMAT = "TWC"
MIME = "image/x-twc"

_NO_WAY_TO_WRITE = frozenset({"F"})
"""Modes of Pillow's that the codec cannot bring to one of its own; see `imaging.modes`."""

_METADATA = ("exif", "icc_profile", "xmp")
"""Options of `save` that other plugins have, too, by their keys in `info`."""


@dataclass(frozen=True)
class _Configuration:
    model: str = catalogue.DEFAULT
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    max_memory: int | None = None
    max_pixels: int = DEFAULT_LIMITS.pixels

    @property
    def limits(self) -> Limits:
        return Limits(pixels=self.max_pixels)


class _Codecs:
    """The configuration, and the codecs that are kept: one, and those of a few models that `save` was asked for."""

    MOST = 4

    def __init__(self) -> None:
        self.configuration = _Configuration()
        self._kept: dict[tuple[str, float | None], Codec] = {}
        self._lock = threading.Lock()

    def configure(self, configuration: _Configuration) -> None:
        with self._lock:
            self.configuration = configuration
            self._kept = {}

    def get(self, model: str | None = None, quality: float | None = None) -> Codec:
        """The codec with a model, loaded at the first call. quality: see `open_codec`; most models need none."""
        with self._lock:
            how = self.configuration
            name = how.model if model is None else model
            key = name, quality if name in official.ARCHITECTURES else None
            codec = self._kept.pop(key, None) or twcodec.open_codec(
                name, how.device, how.precision, how.threads, quality=key[1], max_memory=how.max_memory
            )
            self._kept[key] = codec  # the last of them: the first is the one that was not wanted for longest
            for forgotten in list(self._kept)[: -self.MOST]:
                del self._kept[forgotten]
            return codec

    def after_fork(self) -> None:
        """In the new process, where no other thread holds the lock. `codec.runtime` sees to torch's threads."""
        self._lock = threading.Lock()


_codecs = _Codecs()
forks.in_child(_codecs.after_fork)


class TwcImageFile(ImageFile.ImageFile):
    """A TWC file that `Image.open` has found.

    info: what `twcodec.decode` has in it, and "twc": quality, model (None: neither embedded nor stored), digest,
    transform, ways and payload, as `twc info` has them.
    """

    format = FORMAT
    format_description = "TWC image"
    n_frames = 1
    is_animated = False

    def _open(self) -> None:
        """Raises SyntaxError for what is no sound TWC file, with which Pillow goes on; OSError for a later version."""
        try:
            found = chunks.without_data(self._stream(), DEFAULT_LIMITS)
            if not found or found[0][0] != b"HEAD":
                raise CorruptError("the first chunk is not HEAD")
            header = Header.from_bytes(found[0][1])
            self.info.update(as_info(from_chunks(found)), twc=_about(header))
        except TwcError as error:
            raise _as_pillow_expects(error) from error
        self._mode = header.mode
        self._size = header.width, header.height
        # Pillow looks whether there are tiles to load; no decoder of its own may take this one up.
        self.tile = [ImageFile._Tile("twc", (0, 0, *self.size), 0, self.mode)]

    @property
    def text(self) -> dict[str, str]:
        """The texts by their keywords, as PNG's plugin has them. Those of `info`: a copy's are the same."""
        return {str(key): value for key, value in self.info.items() if isinstance(value, str)}

    def verify(self) -> None:
        """Compare the checksums, without torch. OSError: damaged. As with other formats, nothing can be loaded then."""
        with _oserrors():
            Container.from_bytes(self._bytes(), _codecs.configuration.limits)
        super().verify()

    def load(self) -> Any:
        """Decode, if that is still to be done. OSError: the file cannot be decoded; there is no part of a picture."""
        if self.tile:
            with _oserrors():
                image = _decoded(self._bytes())
            if (image.mode, image.size) != (self.mode, self.size):
                raise OSError("the file has changed since it was opened")
            self.im = image.im
            self.readonly = 0  # its memory is nobody else's
            self.tile = []
            if self._exclusive_fp:
                self._stream().close()
            self.fp = None
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Where it is defined, Pillow's incremental parser waits for the whole file."""

    def _bytes(self) -> bytes:
        stream = self._stream()
        stream.seek(0)
        data: bytes = stream.read(DEFAULT_LIMITS.file_bytes + 1)
        return data

    def _stream(self) -> Any:
        if self.fp is None:
            raise ValueError("the image's file is closed")
        return self.fp


def register() -> None:
    """Tell Pillow about TWC. The import of this module has done so; another time does no harm."""
    Image.register_open(FORMAT, TwcImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, ".twc")
    Image.register_mime(FORMAT, MIME)


def configure(
    model: str = catalogue.DEFAULT,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    *,
    max_memory: int | None = None,
    max_pixels: int = DEFAULT_LIMITS.pixels,
) -> None:
    """With what every image is loaded and saved from now on, see `open_codec`; what is left out is as at first.

    max_pixels: beside Pillow's own limit. The codecs that were kept are dropped; nothing is loaded before it is needed,
    so that a device that is not there is told then. UsageError: max_memory cannot be meant.
    """
    check_max_memory(max_memory)
    _codecs.configure(_Configuration(model, device, precision, threads, max_memory, max_pixels))


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(chunks.MAGIC)


def _about(header: Header) -> dict[str, Any]:
    """`info["twc"]`."""
    without_model = header.kind == AVIF
    return {
        "quality": header.quality,
        "model": None if without_model else catalogue.name_of(header.digest),
        "digest": header.digest.hex(),
        "transform": _transform(header),
        "ways": header.ways,
        "payload": "avif" if without_model else "latents",
    }


def _transform(header: Header) -> str:
    if not header.transformed:
        return "identity"
    try:
        return by_id(header.transform).name
    except UnsupportedError:  # said when it is loaded
        return f"unknown ({header.transform})"


def _decoded(data: bytes) -> Image.Image:
    """The one place where pixels are made; a reduced size for `draft` would be asked for here."""
    from twcodec.imaging.present import to_image

    how = _codecs.configuration
    container = Container.from_bytes(data, how.limits)
    if container.header.kind == AVIF:  # no torch
        return to_image(guard.decode(container, how.max_memory))
    return to_image(_codecs.get().decode_picture(container))


def _save(image: Image.Image, stream: IO[bytes], filename: str | bytes) -> None:
    """Write for `Image.save`. Options that `Codec.encode` does not know are passed over, as by other plugins."""
    if image.mode in _NO_WAY_TO_WRITE:
        raise OSError(f"cannot write mode {image.mode} as {FORMAT}")
    asked = image.encoderinfo
    with _oserrors():
        codec = _codecs.get(asked.get("model"), asked.get("quality"))
        known = inspect.signature(codec.encode).parameters
        options = {name: value for name, value in asked.items() if name in known and name != "image"}
        options.setdefault("max_pixels", _codecs.configuration.max_pixels)
        data = codec.encode(_with_metadata(image, asked), **options)
    stream.write(data)


def _with_metadata(image: Image.Image, asked: Mapping[str, Any]) -> Image.Image:
    """A copy with the metadata that `save` was given in place of the image's own; the image itself if it was none."""
    given = {key: asked[key] for key in _METADATA if key in asked}
    if not given:
        return image
    found = carried(image)
    plain = image.copy()
    plain.info = {key: value for key, value in image.info.items() if key == "transparency"}
    plain.info.update({**dict(found.text), **as_info(found)})
    for key, value in given.items():
        plain.info[key] = value.tobytes() if isinstance(value, Image.Exif) else value
    return plain


def _as_pillow_expects(error: TwcError) -> Exception:
    """What `_open` raises. A file that another version or a higher limit would open is TWC: the reason must be seen."""
    if isinstance(error, (UnreadableError, CorruptError)):
        return SyntaxError(str(error))
    return OSError(str(error))


@contextmanager
def _oserrors() -> Iterator[None]:
    """Errors of twc's as OSError, which those who use Pillow expect; options that cannot be meant stay ValueError."""
    try:
        yield
    except UsageError:
        raise
    except TwcError as error:
        said = str(error)
        raise OSError(f"image file is {said}" if said.startswith("truncated") else said) from error


register()
