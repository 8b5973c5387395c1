"""PNG of 16 bits a sample in colour or with alpha, which Pillow does not write (PNG specification, 5, 9 and 11)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from twcodec.imaging.picture import WIDE, Picture
from twcodec.imaging.present import to_image
from twcodec.imaging.write import deliver, write_image

_COLOUR_TYPES = {"LA": 4, "RGB": 2, "RGBA": 6}
_SIGNATURE = 8
_SUB = 1
_BAND = 1 << 20
"""Bytes of the rows that are filtered and compressed at once, at least one row."""

_MOST = 1 << 30
"""Bytes of a chunk; PNG allows twice as many."""


def write_png16(picture: Picture, fo: BinaryIO) -> tuple[str, ...]:
    """Write samples of 16 bits, alpha widened from 8. Returns warnings, as `write_image`, and raises what it raises."""
    file = io.BytesIO()
    one = replace(picture, samples=np.zeros((1, 1, picture.samples.shape[2]), np.uint8), depth=8)
    one = one if picture.alpha is None else replace(one, alpha=np.zeros((1, 1), np.uint8))
    example = io.BytesIO()
    warnings = write_image(to_image(one), example, "PNG", picture.metadata)  # its metadata are these
    file.write(example.getvalue()[:_SIGNATURE])
    for kind, payload in _chunks(example.getvalue()):
        if kind == b"IHDR":
            shape = picture.width, picture.height, 16, _COLOUR_TYPES[picture.mode], 0, 0, 0
            payload = struct.pack(">IIBBBBB", *shape)
        if kind != b"IDAT":
            _add(file, kind, payload)
            continue
        for part in _compressed(picture):
            _add(file, b"IDAT", part)
    deliver(file, fo)
    return warnings


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Of a sound file, all pixels of which are in one chunk."""
    at = _SIGNATURE
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def _add(file: BinaryIO, kind: bytes, payload: bytes) -> None:
    file.write(struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload)))


def _compressed(picture: Picture) -> Iterator[bytes]:
    """The pixels, band by band, each byte less that of the pixel before."""
    pack = zlib.compressobj(1)
    rows = max(1, _BAND // (8 * picture.width))
    for start in range(0, picture.height, rows):
        band = _wide(picture, slice(start, start + rows))
        stream = np.ascontiguousarray(band, ">u2").view(np.uint8).reshape(len(band), -1)
        step = 2 * band.shape[2]
        filtered = np.empty((len(band), 1 + stream.shape[1]), np.uint8)
        filtered[:, 0] = _SUB
        filtered[:, 1 : 1 + step] = stream[:, :step]
        np.subtract(stream[:, step:], stream[:, :-step], out=filtered[:, 1 + step :])
        yield from _cut(pack.compress(filtered.data))
    yield from _cut(pack.flush())


def _cut(stream: bytes) -> Iterator[bytes]:
    """Nothing, or a piece for each chunk."""
    for start in range(0, len(stream), _MOST):
        yield stream[start : start + _MOST]


def _wide(picture: Picture, rows: slice) -> NDArray[Any]:
    samples = picture.samples[rows]
    if picture.alpha is None:
        return samples
    return np.concatenate([samples, picture.alpha[rows, :, None].astype(np.uint16) * WIDE], axis=2)
