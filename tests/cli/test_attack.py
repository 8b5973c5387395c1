"""`twc attack` and `twc evaluate` as they are typed."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo(astronaut, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(astronaut[130:210, 140:230]).save(path)
    return path


def test_attack_writes_a_picture_in_the_ball(twc, photo, tmp_path):
    out = tmp_path / "out.png"
    done = twc("attack", "--objective", "rate", "--threat", "transfer", "--steps", 4, "--eps", 3, "--json", photo, out)
    assert done.code == 0
    figures = json.loads(done.out)
    a, b = (np.asarray(Image.open(path)).astype(int) for path in (photo, out))
    assert 0 < np.abs(a - b).max() <= 3
    assert figures["attacked"]["undefended"]["bpp"] > figures["clean"]["undefended"]["bpp"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--threat", "black"], 2),
        (["--threat", "none"], 2),
        (["--eps", "-1"], 2),
        (["--attack", "pdg"], 2),
        (["--model", "nothing"], 5),
        (["-q", "9"], 2),
    ],
)
def test_what_cannot_be_meant_is_refused(twc, photo, tmp_path, arguments, code):
    assert twc("attack", *arguments, photo, tmp_path / "out.png").code == code
    assert not (tmp_path / "out.png").exists()


def test_evaluate_leaves_a_report(twc, photo, tmp_path):
    pytest.importorskip("matplotlib")
    report = tmp_path / "report"
    how = ["-q", 4, "--defences", "none,two-way", "--objectives", "rate", "--threats", "transfer", "--steps", 3]
    done = twc("evaluate", *how, "--draws", 1, "--crop", 64, photo, "-o", report)
    assert done.code == 0, done.err
    assert {"report.html", "results.json", "table.csv", "rows.jsonl"} <= {p.name for p in report.iterdir()}


def test_evaluate_refuses_what_it_does_not_know(twc, photo, tmp_path):
    assert twc("evaluate", "--defences", "hope", photo, "-o", tmp_path / "r").code == 2
    assert twc("evaluate", tmp_path / "nothing", "-o", tmp_path / "r").code == 3
    assert twc("evaluate", "-q", "x", photo, "-o", tmp_path / "r").code == 2
