"""Metadata <-> payloads of the container's iCCP, eXIf, xMPd and tEXt chunks. Needs neither numpy nor Pillow.

Normative. Each payload is: u8 method (0 stored, 1 zlib), u32 big-endian length of the data before packing, then the
data as it is (method 0: exactly that many bytes) or one zlib stream (method 1: complete, nothing behind it,
inflating to exactly that many bytes). The data of iCCP is an ICC profile, of eXIf a TIFF structure without the
`Exif` prefix, of xMPd an XMP packet, of tEXt keyword, value, keyword, value, ..., each UTF-8 without NUL and parted
from the next by a NUL. Each type occurs at most once.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

from twcodec.errors import CorruptError, LimitError
from twcodec.imaging.picture import Metadata

MAX_PAYLOAD = 16 << 20
"""Bytes of one payload before packing."""

_STORED = 0
_ZLIB = 1
_HEAD = struct.Struct(">BI")
MAX_PAIRS = 4096
"""Keywords with their values: a few kilobytes could inflate to millions."""

_KINDS = (b"iCCP", b"eXIf", b"xMPd", b"tEXt")


def pack(data: bytes) -> bytes:
    """The payload for `data`, deflated where that is smaller. Raises LimitError above `MAX_PAYLOAD`."""
    if len(data) > MAX_PAYLOAD:
        raise LimitError(
            f"{len(data)} bytes of metadata, the limit is {MAX_PAYLOAD}; leave it out with --metadata none"
        )
    deflated = zlib.compress(data, 9)
    if len(deflated) < len(data):
        return _HEAD.pack(_ZLIB, len(data)) + deflated
    return _HEAD.pack(_STORED, len(data)) + data


def unpack(payload: bytes, limit: int = MAX_PAYLOAD) -> bytes:
    """The data of a payload. Checks its length before it inflates, and never holds more than `limit` bytes of it.

    Raises LimitError when it says to be longer than `limit`, CorruptError for everything else that is off.
    """
    if len(payload) < _HEAD.size:
        raise CorruptError(f"metadata of {len(payload)} bytes is too short to be any")
    method, length = _HEAD.unpack_from(payload)
    if length > limit:
        raise LimitError(f"metadata of {length} bytes, the limit is {limit}")
    body = payload[_HEAD.size :]
    if method == _STORED:
        data, complete = body, True
    elif method == _ZLIB:
        data, complete = _inflate(body, length)
    else:
        raise CorruptError(f"metadata has method {method}, which no version writes")
    if len(data) != length or not complete:
        raise CorruptError(f"metadata should be {length} bytes and is not; the file is damaged")
    return data


def to_chunks(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """(type, payload) of each chunk, in the order they are written. Raises LimitError for too much of it."""
    if len(metadata.text) > MAX_PAIRS:
        pairs = len(metadata.text)
        raise LimitError(f"{pairs} pairs of text metadata, the limit is {MAX_PAIRS}; leave it out with --metadata none")
    parts = (metadata.icc, metadata.exif, metadata.xmp, _text_data(metadata.text))
    plain = [(kind, data) for kind, data in zip(_KINDS, parts, strict=True) if data]
    return [(kind, pack(data)) for kind, data in plain]


def from_chunks(chunks: Iterable[tuple[bytes, bytes]]) -> Metadata:
    """The metadata in (type, payload) pairs; types that are no metadata are passed over.

    Raises CorruptError or LimitError, see `unpack`.
    """
    found: dict[bytes, bytes] = {}
    for kind, payload in chunks:
        if kind not in _KINDS:
            continue
        if kind in found:
            raise CorruptError(f"two {kind.decode()} chunks, where one is allowed")
        found[kind] = unpack(payload)
    icc, exif, xmp, text = (found.get(kind) or None for kind in _KINDS)
    return Metadata(icc=icc, exif=exif, xmp=xmp, text=_text_pairs(text))


def _inflate(stream: bytes, length: int) -> tuple[bytes, bool]:
    """At most length + 1 bytes of a zlib stream, and whether it ended where its bytes do."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(stream, length + 1)
    except zlib.error as error:
        raise CorruptError(f"metadata is damaged: {error}") from error
    return data, inflater.eof and not inflater.unused_data


def _text_data(pairs: Iterable[tuple[str, str]]) -> bytes:
    """All parts in UTF-8, with a NUL between them. A NUL in one could not be told from those, so it is left out."""
    return b"\0".join(part.replace("\0", "").encode("utf-8", "replace") for pair in pairs for part in pair)


def _text_pairs(data: bytes | None) -> tuple[tuple[str, str], ...]:
    if data is None:
        return ()
    try:
        parts = data.decode().split("\0")
    except UnicodeDecodeError as error:
        raise CorruptError("text metadata is not UTF-8") from error
    if len(parts) > 2 * MAX_PAIRS:
        raise LimitError(f"{len(parts) // 2} pairs of text metadata, the limit is {MAX_PAIRS}")
    if len(parts) % 2:
        raise CorruptError("text metadata must be pairs of a keyword and a value")
    return tuple(zip(parts[::2], parts[1::2], strict=True))
