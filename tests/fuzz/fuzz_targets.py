"""What is fuzzed: functions of bytes that may refuse them with one of twc's own errors, and nothing else.

Anything else, an exception, a hang, too much memory, or an answer that is not what it should be, is a finding.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import cache

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import torch

from twcodec.codec.codec import Codec, open_codec
from twcodec.container import Container, Limits
from twcodec.errors import CorruptError, LimitError, TwcError, UnreadableError, UnsupportedError
from twcodec.exact import coder
from twcodec.imaging.read import read_picture
from twcodec.models import catalogue
from twcodec.models.model import Model
from twcodec.transforms import BY_NAME

MEMORY = 1 << 30
"""Bytes that the process may use in all, more than which no input is worth."""

PIXELS = 1 << 18
_PREFIX, _FRAME = 10, 12


@cache
def _codec() -> Codec:
    torch.set_num_threads(1)
    return open_codec("default", device="cpu", threads=1, max_memory=MEMORY)


def container(data: bytes) -> None:
    """The parser. What it takes, it writes again so that it takes it again, as the same."""
    try:
        found = Container.from_bytes(data, Limits(pixels=PIXELS))
    except TwcError:
        return
    assert Container.from_bytes(found.to_bytes(), Limits(pixels=PIXELS)) == found


def container_repaired(data: bytes) -> None:
    """The parser behind checksums that are right, as an attacker makes them."""
    container(repaired(data))


def range_decoder(data: bytes) -> None:
    """The range decoder on any bytes, with real tables and any indices; what decodes, encodes to the same symbols."""
    entropy = _codec().model.family.entropy
    if len(data) < 4:
        return
    count, seed = struct.unpack(">HH", data[:4])
    tables = entropy._y_coder
    index = np.random.default_rng(seed).integers(0, len(tables._models), count % 4096).astype(np.uint8)
    try:
        symbols = tables.decode(coder.new_decoder(data[4:]), index)
    except CorruptError:
        return
    encoder = coder.new_encoder()
    tables.encode(encoder, symbols.astype(np.int32), index)
    again = tables.decode(coder.new_decoder(coder.finish(encoder)), index)
    assert np.array_equal(symbols, again)


def decode(data: bytes) -> None:
    """The whole decoder, behind checksums that are right."""
    try:
        picture = _codec().decode_picture(repaired(data), Limits(pixels=PIXELS))
    except (CorruptError, UnsupportedError, LimitError, UnreadableError):
        return
    assert picture.samples.size <= 4 * PIXELS


def transforms(data: bytes) -> None:
    """Every transform of any seed on any small size is undone exactly, and says what size it makes."""
    if len(data) < 9:
        return
    which, seed, height, width = struct.unpack(">BIHH", data[:9])
    height, width = 1 + height % 80, 1 + width % 80
    transform = list(BY_NAME.values())[which % len(BY_NAME)]
    draw = transform.from_seed(seed, height, width)
    x = torch.arange(height * width, dtype=torch.int32).view(1, height, width)
    turned = draw.apply(x)
    assert tuple(turned.shape[1:]) == tuple(draw.size(height, width))
    assert torch.equal(draw.undo(turned), x)


def model_file(data: bytes) -> None:
    """A model file: the header of a real one with anything changed."""
    whole = _real_model()
    length = int.from_bytes(whole[:8], "little")
    # a safetensors file: the header's length, the header, the tensors
    for candidate in (data, len(data).to_bytes(8, "little") + data + whole[8 + length :]):
        try:
            Model(candidate, "fuzzed", torch.device("cpu"))
        except TwcError:
            continue


@cache
def _real_model() -> bytes:
    return catalogue.read("default-1")[1]


def imaging(data: bytes) -> None:
    """Whatever Pillow reads, or does not."""
    try:
        picture = read_picture(io.BytesIO(data), max_pixels=PIXELS)
    except TwcError:
        return
    assert picture.samples.shape[0] * picture.samples.shape[1] <= PIXELS


def repaired(data: bytes) -> bytes:
    """The file with all checksums right, as far as its chunks can be told apart."""
    out, at = bytearray(data[:_PREFIX]), _PREFIX
    while at + _FRAME <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if at + _FRAME + length > len(data):
            return bytes(out) + data[at:]
        if kind == b"TEND":
            body = struct.pack(">I", zlib.crc32(out))
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
        at += _FRAME + length
    return bytes(out) + data[at:]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "container": container,
    "container-repaired": container_repaired,
    "range-decoder": range_decoder,
    "decode": decode,
    "transforms": transforms,
    "model-file": model_file,
    "imaging": imaging,
}
