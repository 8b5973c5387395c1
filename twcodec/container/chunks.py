"""The frame of a TWC file: magic, version, chunks with length, type and CRC-32 (formats/twc-1.md, section 2)."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from construct import Bytes, Int8ub, Int32ub, Struct

from twcodec.container.limits import Limits
from twcodec.errors import CorruptError, LimitError, UnreadableError, UnsupportedError

MAGIC = bytes.fromhex("89545743 0D0A1A0A")
MAJOR, MINOR = 1, 0

_PREFIX = Struct("magic" / Bytes(8), "major" / Int8ub, "minor" / Int8ub)
_CHUNK = Struct("length" / Int32ub, "type" / Bytes(4))
_CRC = Struct("crc" / Int32ub)
PREFIX_BYTES: int = _PREFIX.sizeof()
FRAME_BYTES: int = _CHUNK.sizeof() + _CRC.sizeof()

Chunk = tuple[bytes, bytes]
"""Type (4 letters) and payload."""


def is_ancillary(kind: bytes) -> bool:
    """Whether a decoder that does not know this chunk may go on without it: the first letter is lower case."""
    return bool(kind[0] & 0x20)


def join(chunks: Iterable[Chunk]) -> bytes:
    """A whole file: the prefix, the chunks, and TEND with the CRC-32 of everything before it."""
    out = bytearray(_PREFIX.build({"magic": MAGIC, "major": MAJOR, "minor": MINOR}))
    for kind, payload in chunks:
        out += _framed(kind, payload)
    out += _framed(b"TEND", _CRC.build({"crc": zlib.crc32(out)}))
    return bytes(out)


def split(data: bytes, limits: Limits) -> list[Chunk]:
    """The chunks of a whole file, TEND left out, every length and checksum checked.

    Errors: UnreadableError (no TWC file), UnsupportedError (major version), LimitError, CorruptError.
    """
    _check_length(len(data), limits)
    _check_prefix(data)
    chunks = list(_walk(data, limits))
    if not chunks or chunks[-1][0] != b"TEND":
        raise CorruptError("truncated: the closing TEND chunk is missing")
    end = len(data) - FRAME_BYTES - len(chunks[-1][1])
    if chunks[-1][1] != _CRC.build({"crc": zlib.crc32(data[:end])}):
        raise CorruptError("damaged: the checksum of the whole file does not match")
    return chunks[:-1]


def layout(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Type and payload bytes of every chunk in the order of a file that was parsed already, TEND too."""
    at = PREFIX_BYTES
    while at < len(data):
        head = _CHUNK.parse(data[at : at + 8])
        yield head.type, head.length
        at += head.length + FRAME_BYTES


def without_data(stream: BinaryIO, limits: Limits) -> list[Chunk]:
    """HEAD and the ancillary chunks of a seekable stream, from its first byte; the others are passed over unread.

    Only what is read is checked, and a file that was cut ends where it was cut: `split` must see it before a symbol is
    decoded. Errors: UnreadableError (no TWC file), UnsupportedError (major version), LimitError, CorruptError.
    """
    stream.seek(0, os.SEEK_END)
    end = stream.tell()  # not every stream's seek says it
    _check_length(end, limits)
    stream.seek(0)
    _check_prefix(stream.read(PREFIX_BYTES))
    at, found = PREFIX_BYTES, []
    for _ in range(limits.chunks):
        stream.seek(at)
        start = stream.read(_CHUNK.sizeof())
        following = at + FRAME_BYTES + int.from_bytes(start[:4], "big")
        if len(start) < _CHUNK.sizeof() or following > end or start[4:] == b"TEND":
            break
        if start[4:] == b"HEAD" or is_ancillary(start[4:]):
            frame = start + stream.read(following - at - len(start))
            found.append(_next_chunk(frame, 0, at)[:2])
        at = following
    return found


def _framed(kind: bytes, payload: bytes) -> bytes:
    crc = zlib.crc32(payload, zlib.crc32(kind))
    return bytes(_CHUNK.build({"length": len(payload), "type": kind})) + payload + bytes(_CRC.build({"crc": crc}))


def _check_length(length: int, limits: Limits) -> None:
    if length > limits.file_bytes:
        raise LimitError(f"the file has {length} bytes, the limit is {limits.file_bytes}")


def _check_prefix(data: bytes) -> None:
    if not data:
        raise UnreadableError("the input is empty, a TWC file was expected")
    if data[:8] != MAGIC:
        cut = MAGIC.startswith(data[:8])
        what = f"truncated after {len(data)} bytes" if cut else "this is not a TWC file (its first 8 bytes differ)"
        raise UnreadableError(what + ("" if cut else _transfer_hint(data)))
    if len(data) < PREFIX_BYTES:
        raise CorruptError(f"truncated after {len(data)} bytes")
    major = _PREFIX.parse(data).major
    if major != MAJOR:
        raise UnsupportedError(f"format version {major}, this twc reads version {MAJOR}; decode it with a matching twc")


def _transfer_hint(data: bytes) -> str:
    """The magic shows what a transfer in text mode does to a file, as PNG's does."""
    if data[:4] == MAGIC[:4] or data[1:4] == MAGIC[1:4]:
        return "; it looks like one that was changed on its way, by a transfer in text mode perhaps"
    return ""


def _walk(data: bytes, limits: Limits) -> Iterator[Chunk]:
    """Chunks up to and including TEND, which must be the last bytes of the file."""
    at, count = PREFIX_BYTES, 0
    while at < len(data):
        kind, payload, following = _next_chunk(data, at)
        count += 1
        if count > limits.chunks:
            raise LimitError(f"the file has more than {limits.chunks} chunks")
        yield kind, payload
        at = following
        if kind == b"TEND" and at != len(data):
            raise CorruptError(f"{len(data) - at} bytes follow the closing TEND chunk")


def _next_chunk(data: bytes, at: int, before: int = 0) -> tuple[bytes, bytes, int]:
    """Type, payload and the offset behind the chunk that begins at byte `at` of `data`, which begins at `before`."""
    left = len(data) - at - FRAME_BYTES
    if left < 0:
        raise CorruptError(f"truncated: the file ends inside a chunk, after {len(data)} bytes")
    head = _CHUNK.parse(data[at : at + 8])
    if head.length > left:
        raise CorruptError(f"truncated: a chunk at byte {at} claims {head.length} bytes, {left} are there")
    body_end = at + 8 + head.length
    crc = _CRC.parse(data[body_end : body_end + 4]).crc
    if crc != zlib.crc32(data[at + 4 : body_end]):
        raise CorruptError(f"damaged: the checksum of the chunk at byte {before + at} does not match")
    if not head.type.isalpha():
        raise CorruptError(f"the chunk at byte {before + at} has a type that is not four letters")
    return head.type, data[at + 8 : body_end], body_end + 4
