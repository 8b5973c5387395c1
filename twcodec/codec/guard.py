"""The guard: a conventional stream beside the learned branches, for pictures on which all of them fail.

Two-way compression helps against pictures made to fool one branch. Nothing bounds what a picture can cost that fools
all of them, or that no network ever learnt; an AVIF stream at the quality that meets the same lambda does. It is sent
when every learned branch costs more than `THRESHOLD` times as much, so that no picture costs more than that: not even
for who knows the model, the transforms and the seed. Decoding one takes neither model nor torch.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from twcodec.codec import resources
from twcodec.codec.beside import carried
from twcodec.codec.view import WHOLE, View
from twcodec.container.header import COLOURS, Header
from twcodec.errors import CorruptError, LimitError
from twcodec.imaging import avif
from twcodec.imaging.picture import Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from twcodec.container import Container

THRESHOLD = 2.0
"""How many times the guard's loss the best learned branch must cost before the guard is sent.

The default model costs 0.91 to 1.14 times as much as the guard on Kodak, up to 1.6 times on other clean photographs,
dark and smooth ones at high qualities; on pictures that no network learnt, ten times and more. benchmarks/guard.py
measures it.
"""

SEARCH_SPEED, SPEED = 9, 6
"""libavif's: of the streams that find the quality, a tenth of the time, and of the one that may be sent."""

_STEP = 3
_FIBONACCI = (21, 13)
"""Two in a row; their sum less one is how many qualities there are: 3, 6, .. 99."""

_WHITE, _HALF = 255, 128
"""Mode 1 is coded as grey, 0 or 255, and thresholded."""

_CODING, _DECODING = 48, 24
"""Bytes a pixel: what aom takes, 39 as measured, and our copies; and dav1d's frame, libavif's, Pillow's and ours."""


@dataclass(frozen=True)
class Guard:
    """An AVIF stream that could be sent. quality: libavif's. samples: (H, W, C), what decoding gives back."""

    payload: bytes
    quality: int
    samples: NDArray[np.uint8]

    @property
    def crc(self) -> int:
        """What the header holds: CRC-32 of the decoded samples, by rows, then columns, then channels."""
        return zlib.crc32(self.samples.tobytes())


Loss = Callable[[Guard], float]
"""Of the file that a guard would make, as the branches' losses are computed."""


def obstacle(picture: Picture, max_memory: int | None = None) -> str | None:
    """Why there can be no guard for a picture, in one line; None where there can. MissingError: Pillow has no AVIF.

    max_memory: bytes that the process may use in all.
    """
    avif.check_support()
    if picture.depth > 8:
        return f"no guard: AVIF holds 8 bits a sample, the picture has {picture.depth}"
    if max(picture.width, picture.height) > avif.MAX_SIDE:
        return f"no guard: a side is longer than the {avif.MAX_SIDE} pixels that AVIF has here"
    needed, allowed = _memory(_CODING * picture.width * picture.height, max_memory)
    if needed > allowed:
        wanted, there = resources.at_least(needed), resources.at_most(allowed)
        return f"no guard: coding it as AVIF takes about {wanted}, {there} are allowed"
    return None


def find(picture: Picture, loss: Loss) -> Guard:
    """The stream with the lowest loss, as far as eight encodings tell.

    Seven quick ones, a Fibonacci search (Kiefer 1953) over 33 qualities, which finds the lowest loss if there is one
    dip; then a careful one at that quality.
    """

    @cache
    def tried(at: int) -> float:
        return loss(_made(picture, _STEP * at, SEARCH_SPEED))

    low, (far, near) = 0, _FIBONACCI
    while far > near:
        if tried(low + far) < tried(low + near):
            low += near
        far, near = near, far - near
    return _made(picture, _STEP * (low + 1), SPEED)


def _made(picture: Picture, quality: int, speed: int) -> Guard:
    samples = picture.samples * _WHITE if picture.depth == 1 else picture.samples
    payload = avif.pack_avif(samples.astype("uint8", copy=False), quality, speed)
    channels = picture.samples.shape[2]
    return Guard(payload, quality, _samples(payload, picture.height, picture.width, channels, picture.depth))


def _samples(payload: bytes, height: int, width: int, channels: int, depth: int) -> NDArray[np.uint8]:
    found = avif.unpack_avif(payload, height, width, channels)
    return (found >= _HALF).astype(found.dtype) if depth == 1 else found


def decode(container: Container, max_memory: int | None = None, view: View = WHOLE) -> Picture:
    """The picture in a file whose payload is AVIF, as it is wanted. max_memory: bytes that the process may use in all.

    CorruptError: the stream is not what the header says, or the decoded samples are not those of the encoder.
    LimitError: more memory is needed than is allowed. MissingError: Pillow has no AVIF.
    """
    header = container.header
    view.window(header.height, header.width)
    view.depth_of(header.depth)
    _check_memory(header, max_memory)
    samples = _samples(container.data, header.height, header.width, COLOURS[header.mode], header.depth)
    if zlib.crc32(samples.tobytes()) != header.symbols_crc:
        raise CorruptError("the checksum of the decoded samples does not match; the file is damaged")
    plane, metadata = carried(container)  # last: two bytes are an alpha plane of any size
    return view.cut(Picture(samples, header.mode, header.depth, plane, metadata))


def _check_memory(header: Header, max_memory: int | None) -> None:
    needed, allowed = _memory(_DECODING * header.width * header.height, max_memory)
    if needed > allowed:
        raise LimitError(
            f"this picture needs about {resources.at_least(needed)}, {resources.at_most(allowed)} are allowed; "
            "allow more, or give a smaller picture"
        )


def _memory(more: int, max_memory: int | None) -> tuple[int, int]:
    """Bytes of the process that there would be, and that there may be."""
    return resources.resident() + more, resources.budget(max_memory)
