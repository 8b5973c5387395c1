"""What an AVIF stream says of its size before anything decodes it: of the AV1 inside, not of the wrapper around.

A decoder takes memory for the size in AV1's own sequence header, and scales the picture to what the wrapper says
afterwards: 781 bytes that claim 16 x 16 pixels may cost 8192 x 8192. So both must be the header's.
"""

from __future__ import annotations

import struct

from twcodec.errors import CorruptError

_LOCATION = struct.Struct(">4sIBBHHHHII")
"""The box iloc, with its type: version 0 and flags, sizes of its fields, one item, its number, no other file, one
extent, and where that begins and how long it is."""

_SEQUENCE_HEADER = 1
_HAS_SIZE = 0b10
_SIZE_WITHIN = 7
"""Bytes of a sequence header in which its size lies, with up to 16 bits a side."""

_FLAGS = 0b1000_0111
"""Of an OBU's first byte, all but the type: forbidden, extension, has a size, reserved."""


def check_size(stream: bytes, height: int, width: int) -> None:
    """CorruptError unless all of the AVIF stream's coded data is one AV1 picture of this size."""
    data, sizes = _coded(stream), []
    at = 0
    while at < len(data):
        kind, begin, at = _unit(data, at)
        if kind == _SEQUENCE_HEADER:
            sizes.append(_size(data[begin:at]))
    if not sizes or set(sizes) != {(width, height)}:
        raise CorruptError(f"the AV1 picture inside the AVIF stream is not one of {width}x{height} pixels")


def _coded(stream: bytes) -> bytes:
    """What is in mdat, the last box, which must be the one item that iloc names, and all of it."""
    before, found, coded = stream.partition(b"mdat")
    begin = len(before) + len(found)
    location = _LOCATION.pack(b"iloc", 0, 0x44, 0, 1, 1, 0, 1, begin, len(coded))
    box = struct.pack(">I", len(coded) + 8)
    if not before.endswith(box) or before.count(b"iloc") != 1 or location not in before:
        raise CorruptError("the AVIF stream is not laid out as one coded picture at its end")
    return coded


def _unit(data: bytes, at: int) -> tuple[int, int, int]:
    """Type of the OBU at a byte, where its contents begin, and where they end (AV1 specification, section 5.3)."""
    first, size, begin = data[at], 0, at + 1
    if first & _FLAGS != _HAS_SIZE:
        raise CorruptError("the AV1 data inside the AVIF stream cannot be walked through")
    for place in range(0, 32, 7):
        if begin >= len(data):
            break
        size |= (data[begin] & 127) << place
        begin += 1
        if data[begin - 1] < 128:
            if begin + size <= len(data):
                return first >> 3, begin, begin + size
            break
    raise CorruptError("the AV1 data inside the AVIF stream end too early")


def _size(header: bytes) -> tuple[int, int]:
    """Width and height in a sequence header of a still picture, the short form (section 5.5.1)."""
    bits = "".join(f"{byte:08b}" for byte in header[:_SIZE_WITHIN])
    if len(bits) < 18 or bits[3:5] != "11":
        raise CorruptError("the AV1 data inside the AVIF stream are no still picture")
    of_width, of_height = int(bits[10:14], 2) + 1, int(bits[14:18], 2) + 1
    middle, end = 18 + of_width, 18 + of_width + of_height
    if len(bits) < end:
        raise CorruptError("the AV1 data inside the AVIF stream end too early")
    return int(bits[18:middle], 2) + 1, int(bits[middle:end], 2) + 1
