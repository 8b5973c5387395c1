"""Real pictures from the shared data, and small ones made here."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from twcodec.imaging.picture import Metadata


@pytest.fixture(scope="session")
def odd() -> Path:
    shared = Path(os.environ.get("TWC_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "data" / "odd"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set TWC_SHARED")
    return folder


@pytest.fixture
def photo(odd: Path) -> Image.Image:
    """RGB, 510x532, with an ICC profile, EXIF and text; a plain image that knows no file."""
    with Image.open(odd / "jxl_flower_small.rgb.png") as image:
        return image.copy()


@pytest.fixture
def exif() -> bytes:
    """Orientation 6, a camera, an exposure time, and an offset of time zones: two directories."""
    tags = Image.Exif()
    tags[274], tags[271] = 6, "Camera"
    tags.get_ifd(0x8769)[0x829A] = 0.125
    return tags.tobytes().removeprefix(b"Exif\0\0")


@pytest.fixture
def metadata(odd: Path, exif: bytes) -> Metadata:
    with Image.open(odd / "pil_icc_profile.png") as image:
        icc = image.info["icc_profile"]
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/">\N{GREEK SMALL LETTER LAMDA}</x:xmpmeta>'.encode()
    text = (("Title", "Blümchen"), ("Comment", "\N{BLOSSOM} not Latin-1"), ("Comment 2", ""))
    return Metadata(icc=icc, exif=exif, xmp=xmp, text=text)


@pytest.fixture
def cmyk_profile() -> bytes:
    """A press on which magenta ink prints green, so that its use cannot be missed: 2 grid points a channel, to Lab."""
    green, white, black = (153, 68, 178), (255, 128, 128), (0, 128, 128)
    corners = [black if corner & 1 else green if corner & 4 else white for corner in range(16)]
    ramps = bytes(range(256))
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramps * 4 + bytes(sum(corners, ())) + ramps * 3
    white_point = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    start = 128 + 4 + 2 * 12
    tags = struct.pack(">I4sII4sII", 2, b"A2B0", start, len(table), b"wtpt", start + len(table), len(white_point))
    size = start + len(table) + len(white_point)
    header = struct.pack(">I4sI4s4s4s12x4s", size, b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    illuminant = struct.pack(">3i", 63190, 65536, 54061)
    return (header.ljust(68, b"\0") + illuminant).ljust(128, b"\0") + tags + table + white_point


@pytest.fixture
def ramp() -> NDArray[np.uint16]:
    """(4, 6) uint16 with both ends of the range."""
    return np.linspace(0, 65535, 24).round().astype(np.uint16).reshape(4, 6)


@pytest.fixture
def saved() -> Callable[..., bytes]:
    """An image as a file's bytes."""

    def save(image: Image.Image, format: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, format, **options)
        return file.getvalue()

    return save


@pytest.fixture
def png() -> Callable[..., bytes]:
    """A PNG datastream made by hand, for what Pillow does not write."""

    def make(
        size: tuple[int, int],
        depth: int,
        colour: int,
        rows: list[bytes],
        *extra: tuple[bytes, bytes],
        interlace: int = 0,
    ) -> bytes:
        header = struct.pack(">II5B", *size, depth, colour, 0, 0, interlace)
        pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
        chunks = [(b"IHDR", header), *extra, (b"IDAT", pixels), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)

    return make


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
