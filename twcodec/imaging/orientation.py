"""Which way up a picture is: EXIF's tag 274, or XMP's tiff:Orientation, and the transposition that it asks for."""

from __future__ import annotations

import re
import struct

from PIL import Image

from twcodec.imaging.picture import Metadata

_TAG = 274
_FIELD = {3: "HH", 4: "I"}
"""How SHORT and LONG fill the four bytes of a value; the standard says SHORT, some writers LONG."""
_XMP = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])""")
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(metadata: Metadata) -> int:
    """1 (upright) to 8, as EXIF counts them. EXIF goes before XMP; what cannot be parsed is upright."""
    found = exif_orientation(metadata.exif or b"") or xmp_orientation(metadata.xmp or b"")
    return found or 1


def upright(image: Image.Image, turn: int) -> Image.Image:
    """The image as it should be looked at, for an orientation of `turn`."""
    return image.transpose(_TRANSPOSES[turn]) if turn in _TRANSPOSES else image


def exif_orientation(exif: bytes) -> int | None:
    """Tag 274 in the first directory of a TIFF structure, or None. Never raises: the bytes come from strangers."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(entries):
            at = start + 2 + 12 * entry
            tag, kind, count = struct.unpack_from(order + "HHI", exif, at)
            if tag == _TAG and kind in _FIELD and count == 1:
                value = struct.unpack_from(order + _FIELD[kind], exif, at + 8)[0]
                return int(value) if 1 <= value <= 8 else None
    except struct.error:
        return None
    return None


def xmp_orientation(xmp: bytes) -> int | None:
    """tiff:Orientation of an XMP packet, as attribute or element, or None."""
    match = _XMP.search(xmp)
    return int(match[1]) if match else None
