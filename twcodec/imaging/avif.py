"""Samples <-> an AVIF still picture: the DATA of payload kind 1, the guard (formats/twc-1.md, section 11).

An AV1 decoder gives planes that the standard fixes to the bit, but how they become RGB it leaves to the library, and
libraries round differently. So that part is ours, in integers. Pillow shows no planes; but it copies them unchanged
where the stream calls them GBR, so the stream is given to it with that word in place of its own.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, features

from twcodec.errors import CorruptError, LimitError, MissingError
from twcodec.imaging import av1

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SIDE = 32768
"""Pixels: libavif opens nothing longer."""

_COLOUR = b"colrnclx"
"""Type of the box that says how colours are meant, and its kind: primaries, transfer and matrix follow, u16 each, and
the flag of the full range."""

_MATRIX = slice(len(_COLOUR) + 4, len(_COLOUR) + 6)
_BT601, _IDENTITY = b"\0\6", b"\0\0"
_FULL_RANGE = 0x80
_BAND = 1 << 18
"""Pixels that are converted at a time: bounds the memory."""


def check_support() -> None:
    """MissingError unless this Pillow reads and writes AVIF."""
    if not features.check("avif"):
        raise MissingError(
            "the file or --guard needs AVIF, which this Pillow was built without; "
            "install one that has it: pip install --force-reinstall --only-binary :all: 'pillow>=11.3'"
        )


def pack_avif(samples: NDArray[np.uint8], quality: int, speed: int) -> bytes:
    """The stream for (H, W, C) bytes, C = 1 or 3, without metadata. quality: libavif's, 0 to 100. speed: 0 to 10.

    One thread, since with more the stream depends on how many.
    """
    image = Image.fromarray(samples if samples.shape[2] == 3 else samples[..., 0])
    kind = "4:4:4" if samples.shape[2] == 3 else "4:0:0"
    out = io.BytesIO()
    image.save(out, "AVIF", quality=quality, speed=speed, subsampling=kind, range="full", max_threads=1)
    return out.getvalue()


def unpack_avif(stream: bytes, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """The (height, width, channels) samples of a stream, the same in every decoder.

    Nothing is decoded unless the stream itself says that it has this size. CorruptError: it is not AVIF, or not as the
    format wants it. MissingError: Pillow cannot read AVIF.
    """
    check_support()
    av1.check_size(stream, height, width)
    try:
        planes = _planes(_as_planes(stream), height, width, channels)
    except MemoryError:
        raise LimitError("not enough memory to decode the AVIF stream") from None
    except CorruptError:
        raise
    except Exception as error:  # whatever a plugin raises on hostile bytes
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise CorruptError(f"the AVIF stream cannot be decoded: {text}") from None
    return planes if channels == 1 else _to_rgb(planes)


def _as_planes(stream: bytes) -> bytes:
    """The stream with its colours called GBR, whose planes a library hands out as they are."""
    at = stream.find(_COLOUR)
    said = stream[at : at + _MATRIX.stop + 1]
    if stream.count(_COLOUR) != 1 or said[_MATRIX] != _BT601 or said[_MATRIX.stop :] != bytes([_FULL_RANGE]):
        raise CorruptError("the AVIF stream does not say once that its colours are those of BT.601 in full range")
    return stream[: at + _MATRIX.start] + _IDENTITY + stream[at + _MATRIX.stop :]


def _planes(stream: bytes, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """(height, width, 1) grey, or (height, width, 3) in the order V, Y, U."""
    from PIL.AvifImagePlugin import AvifImageFile

    with AvifImageFile(io.BytesIO(stream)) as image:
        if image.size != (width, height):
            found = f"{image.size[0]}x{image.size[1]}"
            raise CorruptError(f"the AVIF stream has {found} pixels, the header claims {width}x{height}")
        frames = getattr(image, "n_frames", 1)
        if frames != 1 or image.mode not in ("L", "RGB"):  # before Pillow 12 grey is RGB
            raise CorruptError(f"the AVIF stream has {frames} frames in mode {image.mode}; one, opaque, was expected")
        found_channels = len(image.getbands())
        image.load()
        planes = np.asarray(image).reshape(height, width, found_channels)
    if channels == 3 and found_channels == 1:
        raise CorruptError("the AVIF stream is grey, the header claims colour")
    if channels == 1 and found_channels == 3:
        if (planes[..., :1] != planes).any():
            raise CorruptError("the AVIF stream is in colour, the header claims grey")
        planes = planes[..., :1]
    return np.ascontiguousarray(planes)


def _to_rgb(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB of V, Y, U: BT.601 in full range, in units of 2^-16, halves upwards."""
    out = np.empty_like(planes)
    rows = max(1, _BAND // planes.shape[1])
    for top in range(0, len(planes), rows):
        v, y, u = (planes[top : top + rows, :, c].astype(np.int32) - shift for c, shift in enumerate((128, 0, 128)))
        red = y + ((91881 * v + 32768) >> 16)
        green = y + ((-22553 * u - 46802 * v + 32768) >> 16)
        blue = y + ((116130 * u + 32768) >> 16)
        out[top : top + rows] = np.stack((red, green, blue), axis=2).clip(0, 255)
    return out
