"""The codec as an object: a model on a device, ready for many pictures."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image

from twcodec import forks
from twcodec.codec import decode as decoding
from twcodec.codec import encode as encoding
from twcodec.codec import guard, target
from twcodec.codec.precision import check_bf16, for_decoding
from twcodec.codec.resources import check_max_memory
from twcodec.codec.runtime import running
from twcodec.codec.settings import MAX_THREADS, Guard, Metric, Precision, Score, Settings, TransformMode
from twcodec.codec.view import WHOLE, View
from twcodec.container import Container, Limits
from twcodec.container.header import AVIF
from twcodec.container.limits import DEFAULT_LIMITS
from twcodec.errors import MissingError, UnsupportedError, UsageError
from twcodec.imaging.present import to_image
from twcodec.imaging.read import read_picture
from twcodec.models import catalogue
from twcodec.models.model import Model

if TYPE_CHECKING:
    from twcodec.codec.report import Report
    from twcodec.exact.symbols import Symbols
    from twcodec.imaging.picture import Picture

Source = Any
"""What a picture is read from: a path, bytes, a binary stream or a PIL image."""


class Codec:
    """Encodes and decodes with one model on one device. Threads may share it.

    max_memory holds for one call at a time. Each checks it for itself, so calls that run at once in several threads may
    take it several times: divide it among them.
    A file that was made with another embedded model is decoded with that one, loaded when it is first needed.
    """

    def __init__(
        self, model: Model, precision: Precision = "auto", threads: int | None = None, max_memory: int | None = None
    ) -> None:
        self.model, self._precision, self._threads, self._max_memory = model, precision, threads, max_memory
        self._others: dict[bytes, Model] = {model.digest: model}
        self._lock = threading.Lock()
        _codecs.add(self)

    def encode(
        self,
        image: Source,
        quality: float | None = None,
        ways: int = 2,
        transform: TransformMode = "auto",
        seed: int | None = None,
        metric: Metric = "mse",
        metadata: str = "all",
        *,
        icc: str = "keep",
        transforms: tuple[str, ...] = (),
        verify: bool = True,
        score: Score = "exact",
        guard: Guard = "none",
        effort: int = 0,
        target_bpp: float | None = None,
        target_size: int | None = None,
        target_psnr: float | None = None,
        max_pixels: int = DEFAULT_LIMITS.pixels,
    ) -> bytes:
        """Compress a picture (a PIL image, a path, bytes or a stream) to the bytes of a TWC file.

        quality: the model's scale, 1 to 7 for the default; None is 4, or a model's only one. ways, transform,
        transforms, seed, metric, score, guard, effort: see `Settings`. target_bpp, target_size, target_psnr: bits a
        pixel, bytes or dB to aim at in place of a quality: at most one.
        metadata: "all" or "none". icc: "keep", or "srgb" to convert colours by the ICC profile.
        Errors: UsageError, UnreadableError, LimitError, VerificationError, MissingError.
        """
        settings = Settings(
            quality,
            ways,
            transform,
            tuple(transforms),
            seed,
            metric,
            verify=verify,
            score=score,
            guard=guard,
            effort=effort,
            target_bpp=target_bpp,
            target_size=target_size,
            target_psnr=target_psnr,
        )
        picture = read(image, metadata, max_pixels, icc)
        return self.encode_picture(picture, settings)[0]

    def decode(
        self,
        data: bytes,
        *,
        crop: tuple[int, int, int, int] | None = None,
        scale: int = 1,
        max_pixels: int = DEFAULT_LIMITS.pixels,
    ) -> Image:
        """The picture in the bytes of a TWC file, as a PIL image with its metadata in `info`.

        crop: left, top, width, height of the part that is wanted. scale: 2, 4 or 8 for a half, a quarter, an eighth of
        the sides. Errors: UnreadableError, CorruptError, UnsupportedError, LimitError, UsageError.
        """
        return to_image(self.decode_picture(data, Limits(pixels=max_pixels), View(crop, scale)))

    def encode_picture(self, picture: Picture, settings: Settings) -> tuple[bytes, Report]:
        """As `encode`, from a picture that was read, with the report of what was tried."""
        precision = settings.precision if settings.precision != "auto" else self._precision
        with running(self.model.device, self._threads):
            settings = replace(settings, precision=precision)
            encode = target.encode if settings.target else encoding.encode
            return encode(self.model, picture, settings, self._max_memory)

    def decode_picture(self, data: bytes | Container, limits: Limits = DEFAULT_LIMITS, view: View = WHOLE) -> Picture:
        """As `decode`, before it becomes a PIL image. data: of a file that was parsed already, its container."""
        container = _parsed(data, limits)
        if container.header.kind == AVIF:
            return guard.decode(container, self._max_memory, view)
        with running(self.model.device, self._threads):
            model = self._model_for(container)
            return decoding.decode(model, container, for_decoding(self._precision), self._max_memory, view)

    def decode_symbols(self, data: bytes, limits: Limits = DEFAULT_LIMITS) -> Symbols:
        """The integer symbols in a file, the same on every device, checked against the file's checksum.

        UsageError: it has none, since its payload is AVIF. Other errors as `decode`.
        """
        container = Container.from_bytes(data, limits)
        if container.header.kind == AVIF:
            raise UsageError("the file holds an AVIF stream, the guard, and no symbols; decode its picture instead")
        with running(self.model.device, self._threads):
            return decoding.decode_symbols(self._model_for(container), container, self._max_memory)

    def verify(self, data: bytes | Container, limits: Limits = DEFAULT_LIMITS) -> None:
        """Decode every symbol and everything that is carried, but no pixels: those of AVIF only. Errors as `decode`.

        data: as for `decode_picture`.
        """
        container = _parsed(data, limits)
        if container.header.kind == AVIF:
            guard.decode(container, self._max_memory)
            return
        with running(self.model.device, self._threads):
            decoding.verify(self._model_for(container), container, self._max_memory)

    def _model_for(self, container: Container) -> Model:
        digest = container.header.digest
        with self._lock:
            if digest not in self._others:
                name, data = catalogue.read_by_digest(digest)
                self._others[digest] = Model(data, name, self.model.device)
            return self._others[digest]


def _parsed(data: bytes | Container, limits: Limits) -> Container:
    return data if isinstance(data, Container) else Container.from_bytes(data, limits)


_codecs: weakref.WeakSet[Codec] = weakref.WeakSet()


def _after_fork() -> None:
    """In the new process, where no other thread loads a model."""
    for codec in _codecs:
        codec._lock = threading.Lock()


forks.in_child(_after_fork)


def open_codec(
    model: str = catalogue.DEFAULT,
    device: str = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    *,
    quality: float | None = None,
    digest: bytes | None = None,
    max_memory: int | None = None,
) -> Codec:
    """A codec with a model: a name of the catalogue or the path of a model file.

    quality: which of the models of a published architecture, "mbt2018", that have one quality each; None is 4. digest:
    of the model that a file needs: see `catalogue.read`.
    device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1". precision: in which the networks
    compute: "auto" is bf16 for encoding where the device is faster in it, fp32 for decoding.
    threads: for torch on the CPU; None is torch's own choice, but no more than the processors that affinity and
    control groups allow. max_memory: bytes that the process may use in all while one call runs, see
    `Codec`; None is a share of what is free at each call. Errors: UnsupportedError, MissingError, UsageError.
    """
    Settings(precision=precision)
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"{threads} threads; 1 to {MAX_THREADS} are possible")
    check_max_memory(max_memory)
    found = find_device(device)
    if precision == "bf16":
        check_bf16(found)
    name, data = catalogue.read(model, quality, digest)
    try:
        with running(found, None):
            return Codec(Model(data, name, found), precision, threads, max_memory)
    except UnsupportedError as error:
        raise UnsupportedError(f"the model {model}: {error}") from None


def find_device(name: str) -> torch.device:
    """The torch device that `name` means. UsageError: no such kind. MissingError: it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and index.isdecimal())):
        raise UsageError(f"unknown device {name!r}; there are: auto, cpu, cuda, cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not there or int(index or 0) >= there:
        raise MissingError(f"the device {name} is not there ({there} CUDA devices); use --device cpu")
    return torch.device("cuda", int(index) if index else torch.cuda.current_device())


def read(image: Source, metadata: str = "all", max_pixels: int = DEFAULT_LIMITS.pixels, icc: str = "keep") -> Picture:
    """Read a picture from a path, bytes, a stream or a PIL image."""
    if icc not in ("keep", "srgb"):
        raise UsageError(f"icc {icc!r} is unknown; there are: keep, srgb")
    if metadata not in ("all", "none"):
        raise UsageError(f"metadata {metadata!r} is unknown; there are: all, none")
    if not isinstance(image, (str, bytes, os.PathLike, Image)) and not hasattr(image, "read"):
        raise UsageError(f"a picture is a PIL image, a path, bytes or a stream, not {type(image).__name__}")
    return read_picture(image, metadata=metadata, icc=icc, max_pixels=max_pixels)  # type: ignore[arg-type]
