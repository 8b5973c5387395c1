"""A picture goes in, a file comes out, and the picture comes back: by name, by pipe, in any format."""

from __future__ import annotations

import io
import json
import os
import subprocess
import threading

import numpy as np
import pytest
from PIL import Image


def difference(path_or_bytes, pixels) -> float:
    source = io.BytesIO(path_or_bytes) if isinstance(path_or_bytes, bytes) else path_or_bytes
    with Image.open(source) as image:
        assert image.size == (pixels.shape[1], pixels.shape[0])
        return float(np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels).mean())


def test_a_photograph_comes_back(twc, photo, pixels, tmp_path):
    done = twc("encode", photo, tmp_path / "a.twc")
    assert (done.code, done.out) == (0, b"")
    assert "120x96 RGB" in done.err
    assert len(done.err.splitlines()) == 1
    assert (tmp_path / "a.twc").stat().st_size < photo.stat().st_size / 10
    done = twc("decode", tmp_path / "a.twc", tmp_path / "b.png")
    assert (done.code, done.out) == (0, b"")
    assert difference(tmp_path / "b.png", pixels) < 6


def test_a_higher_quality_is_a_larger_file_and_a_closer_picture(twc, photo, pixels, tmp_path):
    results = []
    for quality in ("1", "3.5", "7"):
        assert twc("encode", "-q", quality, "--transform", "never", photo, tmp_path / "a.twc", "-f").code == 0
        assert twc("decode", tmp_path / "a.twc", tmp_path / "b.png", "-f").code == 0
        results.append(((tmp_path / "a.twc").stat().st_size, -difference(tmp_path / "b.png", pixels)))
    assert results == sorted(results)
    assert len(set(results)) == 3


def test_the_same_seed_makes_the_same_file(twc, photo, coded_bytes, tmp_path):
    assert twc("encode", "--seed", 1, photo, tmp_path / "a.twc").code == 0
    assert (tmp_path / "a.twc").read_bytes() == coded_bytes


def test_pipes_carry_the_same_bytes_as_files(twc, photo, coded, tmp_path):
    piped = twc("encode", "--seed", 1, "-", "-", stdin=photo.read_bytes())
    assert (piped.code, piped.out) == (0, coded.read_bytes())
    assert twc("encode", "--seed", 1, photo, "-").out == piped.out
    assert twc("encode", "--seed", 1, "-", tmp_path / "a.twc", stdin=photo.read_bytes()).code == 0
    assert (tmp_path / "a.twc").read_bytes() == piped.out

    assert twc("decode", coded, tmp_path / "b.png").code == 0
    expected = (tmp_path / "b.png").read_bytes()
    assert twc("decode", "-", "-", stdin=piped.out).out == expected
    assert twc("decode", coded, "-").out == expected


def test_processes_in_a_pipeline_give_what_files_give(twc, photo, coded, tmp_path, shell_env):
    assert twc("decode", coded, tmp_path / "b.png").code == 0
    line = "set -o pipefail; cat photo.png | $TWC encode --seed 1 - - | $TWC decode - - | cmp - b.png"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=shell_env, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr.decode()
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "option", "format"),
    [
        ("b.png", (), "PNG"),
        ("b.jpg", (), "JPEG"),
        ("b.TIFF", (), "TIFF"),
        ("b.webp", (), "WEBP"),
        ("b", (), "PNG"),
        ("b.png", ("--format", "bmp"), "BMP"),
        ("b.unknown", ("--format", "jpg"), "JPEG"),
    ],
)
def test_the_format_is_the_extensions_or_the_one_asked_for(twc, coded, pixels, tmp_path, name, option, format):
    assert twc("decode", *option, coded, tmp_path / name).code == 0
    assert difference(tmp_path / name, pixels) < 6
    with Image.open(tmp_path / name) as image:
        assert image.format == format


@pytest.mark.parametrize(("option", "format"), [((), "PNG"), (("--format", "tiff"), "TIFF")])
def test_a_pipe_gets_png_or_the_format_asked_for(twc, coded, option, format):
    assert Image.open(io.BytesIO(twc("decode", *option, coded, "-").out)).format == format


@pytest.mark.parametrize("name", ["b.xyz", "b.twc", "b.pdf", "b."])
def test_an_extension_that_names_no_picture_is_refused_before_anything_is_done(twc, coded, tmp_path, name):
    twc("decode", coded, tmp_path / name).refused(2, name, "--format")


def test_an_unknown_format_is_refused_with_those_there_are(twc, coded, tmp_path):
    twc("decode", coded, tmp_path / "b.png", "--format", "gifs").refused(2, "gifs", "PNG", "JPEG")


def test_twc_is_not_encoded_again(twc, coded, tmp_path):
    twc("encode", coded, tmp_path / "b.twc").refused(3, "photo.twc", "twc decode")


def test_a_picture_is_not_decoded(twc, photo, tmp_path):
    twc("decode", photo, tmp_path / "b.png").refused(3, "photo.png", "not a TWC file")
    twc("info", photo).refused(3, "photo.png", "not a TWC file")
    twc("verify", photo).refused(3, "photo.png", "not a TWC file")


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_an_empty_input_is_called_empty(twc, tmp_path, folder, command):
    (tmp_path / "empty").touch()
    twc(command, tmp_path / "empty", tmp_path / "b").refused(3, "empty", "the input is empty")
    twc(command, "-", tmp_path / "b", stdin=b"").refused(3, "the input is empty")
    twc(command, "/dev/null", tmp_path / "b").refused(3, "/dev/null", "the input is empty")
    assert folder() == {"empty"}


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_folder_or_nothing_as_input(twc, tmp_path, folder, command):
    twc(command, tmp_path, tmp_path / "b").refused(3, str(tmp_path), "directory")
    twc(command, tmp_path / "nowhere", tmp_path / "b").refused(3, "nowhere", "No such file")
    assert folder() == set()


def test_a_named_pipe_is_an_input(twc, photo, coded_bytes, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    feeder = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(photo.read_bytes()))
    feeder.start()
    assert twc("encode", "--seed", 1, tmp_path / "pipe", tmp_path / "a.twc").code == 0
    feeder.join()
    assert (tmp_path / "a.twc").read_bytes() == coded_bytes


def test_an_endless_device_is_a_limit_not_a_hang(twc, tmp_path, folder):
    """8 million pixels may need 64 MiB and 16 bytes a pixel; zeros without end are cut off there, if not before."""
    done = twc("encode", "--max-pixels", 1000, "/dev/zero", tmp_path / "a.twc")
    done.refused(done.code, "/dev/zero")
    assert done.code in (3, 6)
    assert folder() == set()


def test_forcing_a_transform_writes_it_into_the_file(twc, photo, tmp_path):
    assert twc("encode", "--transform", "always", "--transforms", "flip-turn", photo, tmp_path / "a.twc").code == 0
    info = json.loads(twc("info", "--json", tmp_path / "a.twc").out)
    assert (info["transformed"], info["transform"]) == (True, "flip-turn")


def test_metadata_none_leaves_the_exif_out_and_turns_the_picture_upright(twc, pixels, tmp_path):
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x010F], exif[0x0112] = "twc", 6
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    for option, maker, size in (("all", "twc", (120, 96)), ("none", None, (96, 120))):
        assert twc("encode", "--metadata", option, tmp_path / "a.jpg", tmp_path / "a.twc", "-f").code == 0
        assert twc("decode", tmp_path / "a.twc", tmp_path / "b.png", "-f").code == 0
        with Image.open(tmp_path / "b.png") as back:
            assert (back.getexif().get(0x010F), back.size) == (maker, size)


def test_an_animation_warns_on_standard_error_that_frames_are_left_out(twc, pixels, tmp_path):
    frames = [Image.fromarray(np.roll(pixels, i, 0)) for i in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    done = twc("encode", tmp_path / "a.gif", "-")
    assert done.code == 0
    assert done.out.startswith(b"\x89TWC")
    assert "a.gif: warning: only the first of 3" in done.err
    assert twc("encode", "--quiet", tmp_path / "a.gif", tmp_path / "a.twc").err == ""


def test_a_format_that_cannot_hold_the_picture_warns(twc, pixels, tmp_path):
    image = Image.fromarray(pixels).convert("RGBA")
    image.putalpha(100)
    image.save(tmp_path / "a.png")
    assert twc("encode", tmp_path / "a.png", tmp_path / "a.twc").code == 0
    done = twc("decode", tmp_path / "a.twc", tmp_path / "b.jpg")
    assert done.code == 0
    assert "b.jpg: warning:" in done.err
