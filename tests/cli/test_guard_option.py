"""`twc encode --guard avif`, and the files that it makes, on the command line."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def squares(tmp_path):
    """A small picture that the model is bad at, with alpha and text: (48, 64), black and white squares."""
    rng = np.random.default_rng(2)
    cells = np.kron(rng.integers(0, 2, (12, 16)), np.ones((4, 4), int)) * 255
    image = Image.fromarray(cells.astype(np.uint8)).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    path = tmp_path / "squares.png"
    image.save(path)
    return path


@pytest.fixture
def guarded(twc, squares, tmp_path):
    path = tmp_path / "squares.twc"
    assert twc("encode", "--guard", "avif", squares, path).code == 0
    squares.unlink()
    return path


def test_there_and_back(twc, squares, tmp_path):
    path, back = tmp_path / "a.twc", tmp_path / "a.png"
    done = twc("encode", "--guard", "avif", "-v", squares, path)
    assert (done.code, done.out) == (0, b"")
    assert "branch: guard (AVIF) (of 3)" in done.err
    assert "* guard (AVIF)" in " ".join(done.err.split())
    assert twc("verify", path).out.endswith(b"payload: AVIF (guard)\n")
    assert b"payload   AVIF (guard)" in twc("info", path).out
    assert json.loads(twc("info", "--json", path).out)["payload"] == "avif"
    assert twc("decode", path, back).code == 0
    with Image.open(squares) as before, Image.open(back) as after:
        assert (after.mode, after.size) == ("RGBA", before.size)
        difference = np.abs(np.asarray(after).astype(int) - np.asarray(before))
    assert difference[..., :3].mean() < 2
    assert not difference[..., 3].any()


def test_the_report_names_it(twc, squares, tmp_path):
    report = json.loads(twc("encode", "--json", "--guard", "avif", squares, tmp_path / "a.twc").out)
    chosen = report["branches"][report["chosen"]]
    assert (chosen["transform"], chosen["chosen"], report["loss"]) == ("guard", True, chosen["loss"])
    assert chosen["payload_bytes"] < report["bytes"]


def test_off_by_default_and_a_photograph_is_the_same_with_it(twc, squares, photo, tmp_path):
    assert "guard" not in twc("encode", squares, tmp_path / "a.twc").err
    assert json.loads(twc("info", "--json", tmp_path / "a.twc").out)["payload"] == "latents"
    files = [twc("encode", "--seed", 1, *options, photo, "-").out for options in ((), ("--guard", "avif"))]
    assert files[0] == files[1] != b""


def test_a_pipe_and_sixteen_bits(twc, squares, tmp_path):
    coded = twc("encode", "--guard", "avif", "-", "-", stdin=squares.read_bytes()).out
    assert twc("decode", "-", "-", stdin=coded).out.startswith(b"\x89PNG")
    Image.fromarray(np.full((20, 20), 700, np.uint16)).save(tmp_path / "deep.png")
    done = twc("encode", "--guard", "avif", tmp_path / "deep.png", tmp_path / "deep.twc")
    assert done.code == 0
    assert "deep.png: warning: no guard: AVIF holds 8 bits a sample, the picture has 16" in done.err
    assert twc("encode", "--guard", "jpeg", squares, "-").code == 2


def test_a_cut_file_is_reported_and_nothing_is_written(twc, guarded, tmp_path, folder):
    whole = guarded.read_bytes()
    for length in range(0, len(whole), 7):
        guarded.write_bytes(whole[:length])
        done = twc("decode", guarded, tmp_path / "b.png")
        done.refused(done.code, "squares.twc")
        assert done.code in (3, 4), (length, done)
        assert twc("verify", guarded).code == done.code
    assert folder() == {"squares.twc"}


def test_flipped_bits_are_reported_and_nothing_is_written(twc, guarded, tmp_path, folder):
    whole, rng = guarded.read_bytes(), random.Random(0)
    for at in rng.sample(range(8 * len(whole)), 400):
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        guarded.write_bytes(flipped)
        done = twc("decode", guarded, tmp_path / "b.png")
        done.refused(done.code, "squares.twc")
        assert done.code in (3, 4, 5, 6), (at, done)
    assert folder() == {"squares.twc"}
