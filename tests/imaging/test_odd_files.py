"""Every odd file either comes back as it was, or is refused for what is wrong with it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from twcodec.errors import LimitError, TwcError, UnreadableError
from twcodec.imaging.orientation import orientation
from twcodec.imaging.present import to_image
from twcodec.imaging.read import read_picture
from twcodec.imaging.write import write_image

READABLE = {
    "cc_cymk.jpg": ("RGB", (600, 397), 1),
    "jxl_flower_small.cmyk.jpg": ("RGB", (510, 532), 1),
    "jxl_flower_small.g.depth16.pgm": ("I;16", (510, 532), 1),
    "jxl_flower_small.g.png": ("L", (510, 532), 1),
    "jxl_flower_small.ga.png": ("LA", (510, 532), 1),
    "jxl_flower_small.rgb.png": ("RGB", (510, 532), 1),
    "jxl_flower_small.rgba.png": ("RGBA", (510, 532), 1),
    "pil_16bit.cropped.tif": ("I;16", (64, 64), 1),
    "pil_1_trns.png": ("LA", (64, 64), 1),
    "pil_icc_profile.png": ("RGBA", (57, 57), 1),
    "pil_iss634.webp": ("RGBA", (245, 245), 1),
    "pil_l_trns.png": ("LA", (64, 64), 1),
    "pil_multipage.tiff": ("RGB", (10, 10), 1),
    "pil_p_trns_single.png": ("RGBA", (64, 64), 1),
    "pil_tRNS_null_1x1.png": ("RGBA", (1, 1), 1),
    "pil_tiny.png": ("RGBA", (4, 4), 1),
    "sharp_Flag_of_the_Netherlands-16bit.png": ("RGB", (900, 600), 1),
    "sharp_Landscape_1.jpg": ("RGB", (600, 450), 1),
    "sharp_Landscape_3.jpg": ("RGB", (600, 450), 3),
    "sharp_Landscape_6.jpg": ("RGB", (450, 600), 6),
    "sharp_animated-loop-3.gif": ("RGB", (370, 285), 1),
    "sharp_full-transparent.png": ("RGBA", (300, 300), 1),
    "sharp_grey-8bit-alpha.png": ("LA", (400, 300), 1),
    "sharp_prophoto.png": ("RGB", (1, 1), 1),
    "sharp_swiss.png": ("RGB", (68, 68), 1),
}
REFUSED: dict[str, tuple[type[TwcError], str]] = {
    "pil_broken.png": (UnreadableError, "damaged"),
    "pil_truncated_image.png": (UnreadableError, "truncated"),
    "sharp_corrupt-header.jpg": (UnreadableError, "truncated"),
    "sharp_truncated.png": (UnreadableError, "truncated"),
    "sharp_65536-uint32-limit.png": (LimitError, "65536x65536 is 4294967296 pixels, .* --max-pixels"),
}
EXACT_RGBA = [name for name in READABLE if not name.endswith((".pgm", ".tif")) and "cmyk" not in name]


def test_the_tables_name_every_file(odd: Path) -> None:
    assert {path.name for path in odd.iterdir()} == {*READABLE, *REFUSED}


@pytest.mark.parametrize("name", READABLE)
def test_a_readable_file_comes_back_from_png_as_it_was(name: str, odd: Path) -> None:
    mode, size, turn = READABLE[name]
    picture = read_picture(odd / name)
    assert (picture.mode, (picture.width, picture.height)) == (mode, size)
    assert orientation(picture.metadata) == turn
    assert (picture.alpha is not None) == (mode in ("LA", "RGBA"))

    file = io.BytesIO()
    assert write_image(to_image(picture), file) == ()
    again = read_picture(file.getvalue())
    assert (again.mode, again.depth, again.metadata) == (picture.mode, picture.depth, picture.metadata)
    np.testing.assert_array_equal(again.samples, picture.samples)
    if picture.alpha is not None:
        np.testing.assert_array_equal(np.asarray(again.alpha), picture.alpha)


@pytest.mark.parametrize("name", EXACT_RGBA)
def test_the_colours_are_those_that_pillow_shows(name: str, odd: Path) -> None:
    with Image.open(odd / name) as image:
        expected = np.asarray(image.convert("RGBA"))
    np.testing.assert_array_equal(np.asarray(to_image(read_picture(odd / name)).convert("RGBA")), expected)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_file_is_refused_for_what_is_wrong_with_it(name: str, odd: Path) -> None:
    error, message = REFUSED[name]
    with pytest.raises(error, match=message) as caught:
        read_picture(odd / name)
    assert name not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("turn", [1, 3, 6])
def test_without_metadata_the_pixels_are_turned_upright(turn: int, odd: Path) -> None:
    path = odd / f"sharp_Landscape_{turn}.jpg"
    picture = read_picture(path, metadata="none")
    assert (picture.width, picture.height) == (600, 450)
    with Image.open(path) as image:
        np.testing.assert_array_equal(picture.samples, np.asarray(ImageOps.exif_transpose(image)))
    assert picture.metadata.exif is None


def test_cmyk_comes_out_close_to_the_picture_it_was_made_from(odd: Path) -> None:
    cmyk = read_picture(odd / "jxl_flower_small.cmyk.jpg")
    rgb = read_picture(odd / "jxl_flower_small.rgb.png")
    difference = np.abs(cmyk.samples.astype(int) - rgb.samples).mean()
    assert difference < 10, "an inverted picture is off by a hundred"
    assert "CMYK" in cmyk.warnings[0]


@pytest.mark.parametrize(
    ("name", "left_out"), [("sharp_animated-loop-3.gif", 9), ("pil_multipage.tiff", 2), ("pil_iss634.webp", 41)]
)
def test_further_frames_are_named_in_a_warning(name: str, left_out: int, odd: Path) -> None:
    (warning,) = read_picture(odd / name).warnings
    assert f"{left_out} left out" in warning


def test_reduced_depth_is_named_in_a_warning(odd: Path) -> None:
    (warning,) = read_picture(odd / "sharp_Flag_of_the_Netherlands-16bit.png").warnings
    assert "16 bits" in warning
