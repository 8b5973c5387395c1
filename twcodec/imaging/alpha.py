"""The alpha plane <-> the payload of the container's ALPH chunk, lossless.

Normative. The payload is one byte, the method, and what the method says:

method 0   exactly one more byte, the value of every sample: a payload of 2 bytes.
method 1   a PNG datastream to the end of the payload, with these chunks and no others, every CRC-32 correct:
           the signature 89 50 4E 47 0D 0A 1A 0A;
           IHDR, 13 bytes: width and height of the picture, bit depth 8, colour type 0 (greyscale), compression
           method 0, filter method 0, interlace method 0 (none);
           one or more IDAT, together one zlib stream, complete and nothing behind it, that inflates to exactly
           height * (width + 1) bytes, the first of each width + 1 being a filter type from 0 to 4;
           IEND, 0 bytes, the last of the payload.
A sample of 0 is transparent and 255 opaque; it is not premultiplied. Every other payload is corrupt.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from twcodec.errors import CorruptError

_CONSTANT = 0
_PNG = 1
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FILTERS = 5


def pack_alpha(alpha: NDArray[np.uint8]) -> bytes:
    """The payload for an alpha plane (H, W)."""
    value = int(alpha.flat[0])
    if (alpha == value).all():
        return bytes([_CONSTANT, value])
    png = io.BytesIO()
    Image.fromarray(alpha).save(png, "PNG", compress_level=9)
    return bytes([_PNG]) + png.getvalue()


def unpack_alpha(payload: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """The alpha plane (height, width) of a payload. Allocates a small multiple of height * width at most.

    Raises CorruptError for every payload that the format does not allow.
    """
    if not payload:
        raise CorruptError("the alpha plane is empty; get the file again")
    method, data = payload[0], payload[1:]
    if method == _CONSTANT and len(data) == 1:
        return np.full((height, width), data[0], dtype=np.uint8)
    if method == _PNG:
        _check_pixels(_check_chunks(data, height, width), height, width)
        return _decode(data)
    raise CorruptError(f"the alpha plane has method {method} and {len(data)} bytes, which no version writes")


def _check_chunks(png: bytes, height: int, width: int) -> bytes:
    """Walk the datastream as the format allows it, and give the bytes of its IDAT chunks."""
    header = struct.pack(">II5B", width, height, 8, 0, 0, 0, 0)
    if not png.startswith(_SIGNATURE):
        raise CorruptError("the alpha plane is no PNG datastream")
    position, kinds, pixels = len(_SIGNATURE), [], bytearray()
    while position < len(png):
        kind, data, position = _chunk(png, position)
        kinds.append(kind)
        if kind == b"IHDR" and data != header:
            raise CorruptError(f"the alpha plane is not {width}x{height}, greyscale, 8 bits, not interlaced")
        if kind == b"IDAT":
            pixels += data
        if kind == b"IEND" and data:
            raise CorruptError("the alpha plane has bytes in its IEND chunk")
    if kinds != [b"IHDR", *[b"IDAT"] * (len(kinds) - 2), b"IEND"]:
        raise CorruptError("the alpha plane must be IHDR, IDAT and IEND, complete and nothing else")
    return bytes(pixels)


def _chunk(png: bytes, position: int) -> tuple[bytes, bytes, int]:
    """Type and data of the chunk at `position`, and where the next one starts."""
    if position + 12 > len(png):
        raise CorruptError("the alpha plane is truncated")
    length, kind = struct.unpack_from(">I4s", png, position)
    end = position + 12 + length
    if end > len(png):
        raise CorruptError("the alpha plane is truncated")
    if zlib.crc32(png[position + 4 : end - 4]) != int.from_bytes(png[end - 4 : end], "big"):
        raise CorruptError(f"the alpha plane is damaged: CRC-32 of its {kind!r} chunk")
    return kind, png[position + 8 : end - 4], end


def _check_pixels(stream: bytes, height: int, width: int) -> None:
    """Raise CorruptError unless the zlib stream holds the rows and nothing else. Pillow would pass over the rest."""
    size = height * (width + 1)
    inflater = zlib.decompressobj()
    try:
        rows = inflater.decompress(stream, size + 1)
    except zlib.error as error:
        raise CorruptError(f"the alpha plane is damaged: {error}") from error
    if len(rows) != size or not inflater.eof or inflater.unused_data:
        raise CorruptError("the alpha plane does not inflate to its own size")
    if max(rows[:: width + 1]) >= _FILTERS:
        raise CorruptError("the alpha plane has an unknown filter type")


def _decode(png: bytes) -> NDArray[np.uint8]:
    try:
        # The plugin itself, not Image.open: its pixel limit is the process's, and ours was kept already.
        with PngImageFile(io.BytesIO(png)) as image:
            return np.array(image, dtype=np.uint8)
    except Exception as error:
        raise CorruptError(f"the alpha plane is damaged: {' '.join(str(error).split())[:200]}") from error
