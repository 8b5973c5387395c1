"""A file with metadata of every kind, and what TWC's own decoder makes of it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import twcodec
import twcodec.pillow

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "formats" / "vectors"
VALID = sorted((VECTORS / "valid").glob("*.twc"))
MALFORMED = sorted((VECTORS / "malformed").glob("*.twc"))
ICC = struct.pack(">I4sI4s4s4s12s4s", 600, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"", b"acsp").ljust(
    600, b"\0"
)
XMP = b"<x:xmpmeta/>"
ON_THE_CPU = twcodec.pillow._Configuration(device="cpu")


@pytest.fixture(autouse=True)
def on_the_cpu():
    """What a test configures is not left to the next."""
    if twcodec.pillow._codecs.configuration != ON_THE_CPU:
        twcodec.pillow.configure(device="cpu")


@pytest.fixture(scope="module")
def photo(astronaut) -> Image.Image:
    return Image.fromarray(astronaut[:90, :120])


@pytest.fixture(scope="module")
def exif() -> Image.Exif:
    """Turned by a quarter, and a camera."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    tags[ExifTags.Base.Model] = "A camera"
    return tags


@pytest.fixture(scope="module")
def full(photo, exif) -> Image.Image:
    """With metadata of every kind."""
    image = photo.copy()
    image.info = {"exif": exif.tobytes(), "icc_profile": ICC, "xmp": XMP, "Title": "A title", "Artist": "N.N."}
    return image


@pytest.fixture(scope="module")
def data(codec, full) -> bytes:
    return codec.encode(full, 3, seed=1)


@pytest.fixture
def path(data, tmp_path) -> Path:
    (tmp_path / "photo.twc").write_bytes(data)
    return tmp_path / "photo.twc"


@pytest.fixture(scope="module")
def decoded(codec, data) -> Image.Image:
    return codec.decode(data)


def same(one: Image.Image, other: Image.Image) -> bool:
    return (one.mode, one.size) == (other.mode, other.size) and one.tobytes() == other.tobytes()


def saved(image: Image.Image, **options) -> bytes:
    held = io.BytesIO()
    image.save(held, format="TWC", **options)
    return held.getvalue()


def in_mode(photo: Image.Image, mode: str) -> Image.Image:
    """A photograph in any mode of Pillow's."""
    if mode.startswith("I;16"):
        wide = np.asarray(photo.convert("L")).astype(np.uint16) * 257
        return Image.fromarray(wide.astype(">u2") if mode == "I;16B" else wide)
    if mode == "I":
        return in_mode(photo, "I;16").convert("I")
    if mode in ("LA", "RGBA", "PA", "La", "RGBa"):
        bare = photo.convert({"LA": "L", "La": "L", "PA": "P"}.get(mode, "RGB"))
        bare.putalpha(Image.linear_gradient("L").resize(photo.size))
        return bare.convert(mode) if mode in ("La", "RGBa") else bare
    if mode == "LAB":
        return Image.merge("LAB", photo.split())
    return photo.convert(mode)
