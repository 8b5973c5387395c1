"""From a path, a pipe or bytes to a Pillow image whose header was parsed and whose size was checked.

Nothing here changes Pillow's process-wide settings. `Image.open` is not used, because it knows one limit for the
whole process and reports a picture above it without its sides; `_identify` does the same walk over the plugins.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

from PIL import Image

from twcodec.container.chunks import MAGIC
from twcodec.container.limits import DEFAULT_LIMITS, Limits
from twcodec.errors import LimitError, TwcError, UnreadableError

Source: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | Image.Image"

DEFAULT_MAX_PIXELS = DEFAULT_LIMITS.pixels


_RUNS_OTHER_PROGRAMS = frozenset({"EPS", "WMF"})
"""Formats that Pillow renders with Ghostscript or the operating system, which a codec must not start for its input."""

_TRUNCATED = "the picture is truncated; get the whole file"

_PREFIX = 16
"""Bytes by which plugins know their format."""

_BLOCK = 1 << 20
_BYTES_PER_PIXEL = 16
_SMALL_FILE = 64 << 20
"""A pipe may hold `_SMALL_FILE` and 16 bytes for each pixel allowed: `cat /dev/zero |` must come to an end."""


@contextmanager
def opened(source: Source, max_pixels: int) -> Iterator[Image.Image]:
    """Parse the header of `source` and give its Pillow image, not decoded yet; close what was opened here on leaving.

    A stream is read from where it stands to its end, and left open. A Pillow image is given back as it is.
    Raises UnreadableError for what Pillow does not know, LimitError for a size outside the limits; inside the block
    every error of Pillow becomes one of the two as well.
    """
    with _pillow_errors():
        if isinstance(source, Image.Image):
            check_size(source.size, max_pixels)
            yield source
        else:
            with _stream(source, max_pixels) as stream:
                image = _identify(stream)
                check_size(image.size, max_pixels)
                yield image


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raise LimitError unless `size`, (width, height) in pixels, is one that the container takes too."""
    width, height = size
    if width < 1 or height < 1:
        raise UnreadableError(f"{width}x{height} has no pixels")
    Limits(pixels=max_pixels).check_size(width, height)


@contextmanager
def _stream(source: str | os.PathLike[str] | bytes | BinaryIO, max_pixels: int) -> Iterator[BinaryIO]:
    """A seekable stream of the picture's bytes, from the first to the last."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        with open_file(Path(source)) as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            yield file if regular else slurp(file, max_pixels)
    else:
        yield slurp(source, max_pixels)


def open_file(path: Path) -> BinaryIO:
    """UnreadableError: the system says why."""
    try:
        return path.open("rb")
    except OSError as error:
        raise UnreadableError(error.strerror or "cannot be opened") from error


def slurp(pipe: BinaryIO, max_pixels: int) -> io.BytesIO:
    """The rest of a stream that may not be able to seek, held in memory. LimitError: it does not end."""
    limit = _SMALL_FILE + _BYTES_PER_PIXEL * max_pixels
    held = io.BytesIO()
    while block := pipe.read(_BLOCK):
        if held.tell() + len(block) > limit:
            raise LimitError(f"the input is longer than {limit} bytes; raise the limit with --max-pixels")
        held.write(block)
        if held.tell() == len(block) and not _accepted(block[:_PREFIX]):
            break  # no plugin will want the rest: `_identify` says so
    return held


def _accepted(prefix: bytes) -> bool:
    """Whether a plugin may know this input. Zeros need a signature of theirs: /dev/zero has no end."""
    Image.init()
    accepts = [accept for _, accept in Image.OPEN.values()]
    return any(prefix) or any(accept(prefix) for accept in accepts if accept)


def _identify(stream: BinaryIO) -> Image.Image:
    """Let the plugins look at the header, the common ones first, in Pillow's order."""
    stream.seek(0)
    prefix = stream.read(_PREFIX)
    if not prefix:
        raise UnreadableError("the input is empty")
    if prefix.startswith(MAGIC[:4]):
        raise UnreadableError("this is a TWC file already; decode it with: twc decode")
    reasons: list[str] = []
    tried: set[str] = set()
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        for name in [name for name in Image.ID if name not in tried]:
            tried.add(name)
            image = _parse(name, stream, prefix, reasons)
            if image is not None:
                return image
    raise UnreadableError(reasons[0] if reasons else "no picture format that Pillow reads")


def _parse(name: str, stream: BinaryIO, prefix: bytes, reasons: list[str]) -> Image.Image | None:
    """The picture if the plugin `name` knows it; adds a reason where it knows the signature but not the rest."""
    factory, accept = Image.OPEN[name]
    try:
        accepted = accept(prefix) if accept else True
    except (IndexError, struct.error):  # fewer bytes than its signature has
        return None
    if not accepted:
        return None
    if isinstance(accepted, str):
        reasons.append(_one_line(accepted))
        return None
    if name in _RUNS_OTHER_PROGRAMS:
        raise UnreadableError(f"{name} is a drawing, not a picture of pixels; render it to PNG first")
    stream.seek(0)
    try:
        return factory(stream, "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:
        if accept:
            reasons.append(_what_is_wrong(error))
        return None


@contextmanager
def _pillow_errors() -> Iterator[None]:
    """Turn whatever a decoder raises on hostile bytes into one line of ours."""
    try:
        yield
    except TwcError:
        raise
    except Image.DecompressionBombError as error:
        raise LimitError(
            f"above the {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels that Pillow decodes in this format"
        ) from error
    except MemoryError as error:
        raise LimitError("not enough memory to decode the picture; use a smaller one") from error
    except Exception as error:
        raise UnreadableError(_what_is_wrong(error)) from error


def _what_is_wrong(error: Exception) -> str:
    """Truncated or damaged, as far as the error of a plugin tells; plugins wrap the end of the data in others."""
    ends = (EOFError, IndexError, struct.error)
    if isinstance(error, ends) or any(isinstance(inner, ends) for inner in error.args):
        return _TRUNCATED
    text = _one_line(error)
    if "truncated" in text.lower():
        return _TRUNCATED
    return f"the picture is damaged, or of a kind that Pillow cannot decode: {text}"


def _one_line(error: object) -> str:
    """The text of an error without line breaks, at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
