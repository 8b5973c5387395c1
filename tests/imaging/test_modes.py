"""Which mode each kind of image comes back in, sample by sample."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from twcodec.errors import UnreadableError
from twcodec.imaging.picture import Metadata
from twcodec.imaging.present import to_image
from twcodec.imaging.read import read_picture


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_a_mode_of_the_format_comes_back_exactly(mode: str, photo: Image.Image, ramp: NDArray[np.uint16]) -> None:
    image = Image.fromarray(ramp) if mode == "I;16" else photo.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(photo.getchannel("G"))
    picture = read_picture(image)
    back = to_image(picture)
    assert (picture.mode, back.mode, back.size) == (mode, mode, image.size)
    assert back.tobytes() == image.tobytes()
    assert picture.samples.flags.writeable
    assert picture.samples.dtype == (np.uint16 if mode == "I;16" else np.uint8)
    assert picture.samples.max() == {"1": 1, "I;16": 65535}.get(mode, picture.samples.max())


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_other_colour_becomes_rgb(mode: str, photo: Image.Image) -> None:
    picture = read_picture(photo.convert("RGBA").convert(mode) if mode == "LAB" else photo.convert(mode))
    assert picture.mode == "RGB"
    assert np.abs(picture.samples.astype(int) - np.asarray(photo)).mean() < 4


@pytest.mark.parametrize(("mode", "straight"), [("La", "LA"), ("RGBa", "RGBA")])
def test_premultiplied_colour_is_divided(mode: str, straight: str) -> None:
    premultiplied = Image.new(straight, (2, 2), (200,) * (len(straight) - 1) + (128,)).convert(mode)
    picture = read_picture(premultiplied)
    assert picture.mode == straight
    assert picture.alpha is not None
    assert (picture.alpha == 128).all()
    assert np.abs(picture.samples.astype(int) - 200).max() <= 1


def test_a_palette_of_colours_becomes_rgb_and_a_palette_of_greys_l(photo: Image.Image) -> None:
    assert read_picture(photo.quantize(16)).mode == "RGB"
    greys = Image.new("P", (4, 4))
    greys.putpalette([9, 9, 9, 200, 200, 200])
    greys.putpixel((1, 1), 1)
    picture = read_picture(greys)
    assert picture.mode == "L"
    assert np.unique(picture.samples).tolist() == [9, 200]
    greys.info["transparency"] = 1
    picture = read_picture(greys)
    assert picture.mode == "LA"
    assert picture.alpha is not None
    assert np.argwhere(picture.alpha == 0).tolist() == [[1, 1]]


def test_a_palette_with_an_rgb_profile_stays_in_colour(metadata: Metadata, saved: Callable[..., bytes]) -> None:
    greys = Image.new("P", (4, 4))
    greys.putpalette([9, 9, 9])
    picture = read_picture(saved(greys, "PNG", icc_profile=metadata.icc))
    assert (picture.mode, picture.metadata.icc) == ("RGB", metadata.icc)


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I"])
def test_sixteen_bits_come_in_any_byte_order(mode: str, ramp: NDArray[np.uint16]) -> None:
    raw = ramp.astype({"I;16B": ">u2", "I": "<i4"}.get(mode, "<u2")).tobytes()
    picture = read_picture(Image.frombytes(mode, (6, 4), raw))
    assert (picture.mode, picture.depth) == ("I;16", 16)
    np.testing.assert_array_equal(picture.samples[..., 0], ramp)


@pytest.mark.parametrize("value", [-1, 65536])
def test_wider_integers_are_refused_with_advice(value: int) -> None:
    with pytest.raises(UnreadableError, match=r"scale them to 0\.\.65535"):
        read_picture(Image.new("I", (2, 2), value))


def test_floating_point_is_refused_with_advice() -> None:
    with pytest.raises(UnreadableError, match="scale them"):
        read_picture(Image.new("F", (2, 2), 0.5))


@pytest.mark.parametrize(
    ("depth", "row", "key", "mode", "samples"),
    [
        (1, b"\xa0", 1, "LA", [255, 0, 255, 0]),
        (2, b"\xd8", 3, "LA", [255, 85, 170, 0]),
        (4, b"\xf1\x20", 15, "LA", [255, 17, 34, 0]),
        (8, b"\x07\x08\x09\x0a", 7, "LA", [7, 8, 9, 10]),
        (16, struct.pack(">4H", 400, 0, 401, 65535), 400, "LA", [2, 0, 2, 255]),
    ],
)
def test_the_transparent_grey_of_png_becomes_alpha(
    depth: int, row: bytes, key: int, mode: str, samples: list[int], png: Callable[..., bytes]
) -> None:
    picture = read_picture(png((4, 1), depth, 0, [row], (b"tRNS", struct.pack(">H", key))))
    assert picture.mode == mode
    assert picture.samples.ravel().tolist() == samples
    assert picture.alpha is not None
    transparent = [value == samples[0] for value in samples] if depth < 16 else [True, False, False, False]
    assert (picture.alpha[0] == 0).tolist() == transparent
    assert any("16 bits" in warning for warning in picture.warnings) == (depth == 16)


def test_the_transparent_colour_of_png_becomes_alpha(png: Callable[..., bytes]) -> None:
    row = bytes([1, 2, 3, 1, 2, 4])
    picture = read_picture(png((2, 1), 8, 2, [row], (b"tRNS", struct.pack(">3H", 1, 2, 3))))
    assert picture.mode == "RGBA"
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 255]]
    deep = struct.pack(">6H", 1000, 2000, 3000, 9000, 2000, 3000)
    picture = read_picture(png((2, 1), 16, 2, [deep], (b"tRNS", struct.pack(">3H", 1000, 2000, 3000))))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 255]]


def test_sixteen_bit_grey_with_alpha_stays_grey(png: Callable[..., bytes]) -> None:
    picture = read_picture(png((1, 1), 16, 4, [struct.pack(">2H", 0x1234, 0x5678)]))
    assert (picture.mode, picture.samples.item()) == ("LA", 0x12)
    assert picture.alpha is not None
    assert picture.alpha.item() == 0x56


def test_text_that_poses_as_a_transparent_colour_is_text(png: Callable[..., bytes]) -> None:
    picture = read_picture(png((1, 1), 8, 0, [b"\7"], (b"tEXt", b"transparency\x007")))
    assert picture.mode == "L"
    assert picture.metadata.text == (("transparency", "7"),)


def test_opaque_alpha_is_kept(photo: Image.Image) -> None:
    picture = read_picture(photo.convert("RGBA"))
    assert picture.alpha is not None
    assert (picture.alpha == 255).all()


def test_an_image_given_is_not_changed(odd: Path, photo: Image.Image) -> None:
    before = (photo.mode, photo.size, dict(photo.info), photo.tobytes())
    read_picture(photo, metadata="none")
    assert (photo.mode, photo.size, dict(photo.info), photo.tobytes()) == before
    with Image.open(odd / "pil_p_trns_single.png") as lazy, Image.open(odd / "pil_p_trns_single.png") as untouched:
        read_picture(lazy)
        assert (lazy.mode, lazy.info, lazy.getpalette("RGBA")) == (
            untouched.mode, untouched.info, untouched.getpalette("RGBA"),
        )  # fmt: skip
        assert lazy.tobytes() == untouched.tobytes()
