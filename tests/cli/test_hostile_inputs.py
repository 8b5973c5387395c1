"""Files from strangers, given to the command: odd pictures, cut files, flipped bits."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

COMES_BACK = {
    "cc_cymk.jpg": "RGB",
    "jxl_flower_small.cmyk.jpg": "RGB",
    "jxl_flower_small.g.depth16.pgm": "I;16",
    "jxl_flower_small.g.png": "L",
    "jxl_flower_small.ga.png": "LA",
    "jxl_flower_small.rgb.png": "RGB",
    "jxl_flower_small.rgba.png": "RGBA",
    "pil_16bit.cropped.tif": "I;16",
    "pil_1_trns.png": "LA",
    "pil_icc_profile.png": "RGBA",
    "pil_iss634.webp": "RGBA",
    "pil_l_trns.png": "LA",
    "pil_multipage.tiff": "RGB",
    "pil_p_trns_single.png": "RGBA",
    "pil_tRNS_null_1x1.png": "RGBA",
    "pil_tiny.png": "RGBA",
    "sharp_Flag_of_the_Netherlands-16bit.png": "RGB",
    "sharp_Landscape_1.jpg": "RGB",
    "sharp_Landscape_3.jpg": "RGB",
    "sharp_Landscape_6.jpg": "RGB",
    "sharp_animated-loop-3.gif": "RGB",
    "sharp_full-transparent.png": "RGBA",
    "sharp_grey-8bit-alpha.png": "LA",
    "sharp_prophoto.png": "RGB",
    "sharp_swiss.png": "RGB",
}
"""File name: the mode in which Pillow opens the PNG that comes back."""

REFUSED = {
    "pil_broken.png": (3, "damaged"),
    "pil_truncated_image.png": (3, "truncated"),
    "sharp_corrupt-header.jpg": (3, "truncated"),
    "sharp_truncated.png": (3, "truncated"),
    "sharp_65536-uint32-limit.png": (6, "--max-pixels"),
}
DOTS = {"pil_1_trns.png", "pil_tiny.png"}
"""Patterns of single pixels, which no lossy codec keeps: their colours are not compared."""

ORIENTATION = 0x0112


@pytest.fixture
def odd(shared):
    folder = shared / "data" / "odd"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def test_the_tables_name_every_file(odd):
    assert {path.name for path in odd.iterdir()} == {*COMES_BACK, *REFUSED}


@pytest.mark.parametrize("name", COMES_BACK)
def test_an_odd_picture_comes_back(twc, odd, tmp_path, name):
    """Size, mode, orientation and alpha are those that Pillow sees in the original; the colours are close to them."""
    assert twc("encode", "-q", 6, "--ways", 1, odd / name, tmp_path / "a.twc").code == 0
    assert twc("decode", tmp_path / "a.twc", tmp_path / "b.png").code == 0
    with Image.open(odd / name) as before, Image.open(tmp_path / "b.png") as after:
        assert after.mode == COMES_BACK[name]
        assert after.size == before.size
        assert after.getexif().get(ORIENTATION, 1) == before.getexif().get(ORIENTATION, 1)
        if after.mode == "I;16":
            difference = (np.asarray(after).astype(float) - np.asarray(before)) / 257
            assert np.abs(difference).mean() < 3
            return
        old, new = np.asarray(before.convert("RGBA")).astype(int), np.asarray(after.convert("RGBA")).astype(int)
    np.testing.assert_array_equal(new[..., 3], old[..., 3])
    visible = old[..., 3] > 0
    if visible.any() and name not in DOTS:
        # CMYK goes through its profile, which Pillow's plain conversion does not know
        assert np.abs(new - old)[visible][:, :3].mean() < (25 if "cmyk" in name else 8)


@pytest.mark.parametrize("name", REFUSED)
def test_an_odd_file_is_refused_in_one_line(twc, odd, tmp_path, folder, name):
    code, word = REFUSED[name]
    twc("encode", odd / name, tmp_path / "a.twc").refused(code, name, word)
    twc("encode", "-", "-", stdin=(odd / name).read_bytes()).refused(code, word)
    assert folder() == set()


@pytest.mark.parametrize("name", ["pil_multipage.tiff", "pil_iss634.webp", "sharp_animated-loop-3.gif"])
def test_further_frames_are_left_out_with_a_warning(twc, odd, tmp_path, name):
    done = twc("encode", "--ways", 1, odd / name, tmp_path / "a.twc")
    assert done.code == 0
    assert f"{name}: warning: only the first of" in done.err


@pytest.fixture
def small(codec, astronaut, tmp_path):
    """A short file of a real picture: 48 x 40, with metadata and alpha, so that every kind of chunk is there."""
    image = Image.fromarray(astronaut[100:140, 200:248]).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    exif = image.getexif()
    exif[0x010F] = "twc"
    image.info = {"exif": exif.tobytes(), "Comment": "as it was"}
    path = tmp_path / "small.twc"
    path.write_bytes(codec.encode(image, quality=1, seed=1))
    return path


def test_a_file_cut_at_any_byte_is_reported_and_nothing_is_written(twc, small, tmp_path, folder):
    whole = small.read_bytes()
    for length in range(len(whole)):
        small.write_bytes(whole[:length])
        done = twc("decode", small, tmp_path / "b.png")
        done.refused(done.code, "small.twc")
        assert done.code in (3, 4), (length, done)
    assert folder() == {"small.twc"}


def test_two_thousand_flipped_bits_are_reported_and_nothing_is_written(twc, small, tmp_path, folder):
    whole = small.read_bytes()
    (tmp_path / "b.png").write_bytes(b"precious")
    rng = random.Random(0)
    codes = set()
    for _ in range(2000):
        flipped = bytearray(whole)
        at = rng.randrange(8 * len(whole))
        flipped[at // 8] ^= 1 << at % 8
        small.write_bytes(flipped)
        done = twc("decode", "-f", small, tmp_path / "b.png")
        done.refused(done.code, "small.twc")
        codes.add(done.code)
    assert codes <= {3, 4, 5, 6}
    assert {3, 4} <= codes
    assert (tmp_path / "b.png").read_bytes() == b"precious"
    assert folder() == {"small.twc", "b.png"}


def test_the_same_is_said_of_a_pipe_and_by_verify_and_info(twc, small):
    whole = small.read_bytes()
    for length in range(0, len(whole), 41):
        by_pipe = twc("decode", "-", "-", stdin=whole[:length])
        by_pipe.refused(by_pipe.code)
        assert twc("verify", "-", stdin=whole[:length]).code == by_pipe.code
        assert twc("info", "-", stdin=whole[:length]).code == by_pipe.code


def test_bytes_behind_the_end_are_reported(twc, small):
    small.write_bytes(small.read_bytes() + b"\0")
    twc("decode", small, "-").refused(4, "small.twc", "follow")
