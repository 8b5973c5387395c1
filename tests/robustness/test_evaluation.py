"""An evaluation from pictures to figures: repeatable, resumable, and loud where something cannot be."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from twcodec.errors import CorruptError, TwcError, UsageError
from twcodec.robustness.aggregate import figures, interval
from twcodec.robustness.evaluation import Evaluation, Plan, key_of, sources
from twcodec.robustness.session import write_results

PLAN = Plan(
    (4.0,),
    ("none", "two-way", "guard"),
    objectives=("rate",),
    threats=("transfer", "adaptive"),
    eps=(8.0,),
    steps=8,
    eot=7,
    draws=2,
    crop=80,
)


@pytest.fixture(scope="module")
def folder(astronaut, tmp_path_factory):
    made = tmp_path_factory.mktemp("pictures")
    for i in range(2):
        Image.fromarray(astronaut[100 + 90 * i : 190 + 90 * i, 150:260]).save(made / f"{i}.png")
    Image.fromarray(astronaut[:70, :70, 0]).save(made / "grey.png")
    return made


@pytest.fixture(scope="module")
def done(codec, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation")
    evaluation = Evaluation(codec, sources(sorted(folder.iterdir()), PLAN.crop), PLAN, out)
    evaluation.run()
    return evaluation


def without_times(rows):
    return [{k: v for k, v in row.items() if not k.endswith("_ms")} for row in rows]


def test_every_cell_is_there_once(done):
    keys = [key_of(row) for row in done.rows]
    per_condition = 3 * (1 + 2 + 2)  # pictures times draws of each defence
    assert len(keys) == len(set(keys)) == 4 * per_condition
    assert {len(json.loads(line)) for line in (done.folder / "rows.jsonl").read_text().splitlines()} == {19}


def test_the_same_seed_gives_the_same_figures(codec, folder, done, tmp_path):
    again = Evaluation(codec, sources(sorted(folder.iterdir()), PLAN.crop), PLAN, tmp_path)
    assert without_times(again.run()) == without_times(done.rows)


def test_a_run_that_was_stopped_goes_on(codec, folder, done, tmp_path):
    lines = (done.folder / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines[:25]) + lines[25][:40])  # and the last line was cut
    resumed = Evaluation(codec, sources(sorted(folder.iterdir()), PLAN.crop), PLAN, tmp_path)
    assert len(resumed.rows) == 25
    assert without_times(resumed.run()) == without_times(done.rows)
    assert resumed.rows[:25] == done.rows[:25]


def test_pictures_that_are_given_to_the_codec_stay_in_the_ball(done):
    attacked = list((done.folder / "attacked").iterdir())
    by_name = {p.name: p.pixels.astype(int) for p in done.pictures}
    assert len(attacked) == 3 * (1 + 1 + 1)  # noise, against the model alone, against the defence
    for path in attacked:
        found = np.asarray(Image.open(path)).astype(int)
        assert 0 < np.abs(found - by_name[path.name.rpartition("-")[0]]).max() <= 8


def test_figures_say_what_the_rows_say(done):
    found = done.figures()
    row = next(r for r in found["attacked"] if (r["threat"], r["defence"]) == ("transfer", "none"))
    clean = {r["picture"]: r for r in done.rows if not r["attack"] and r["defence"] == "none"}
    ours = [r for r in done.rows if r["threat"] == "transfer" and r["defence"] == "none"]
    assert row["bpp_ratio"]["mean"] == pytest.approx(np.mean([r["bpp"] / clean[r["picture"]]["bpp"] for r in ours]))
    assert row["bpp_ratio"]["low"] <= row["bpp_ratio"]["mean"] <= row["bpp_ratio"]["high"]
    assert row["worst_loss_ratio"] >= row["loss_ratio"]["mean"]
    assert [check for check in found["sanity"] if not check["holds"]] == []
    assert len(found["sanity"]) == 3


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda r: {"loss": 9.0} if r["defence"] == "two-way" else {}, "two-way files are never worse"),
        (lambda r: {"bpp": 0.1} if r["threat"] == "adaptive" else {}, "adaptive attacks are at least as strong"),
        (lambda r: {"bpp": 0.1} if r["threat"] == "transfer" else {}, "attacks are stronger than noise"),
    ],
)
def test_sanity_checks_can_fail(done, change, name):
    sanity = figures([row | change(row) for row in done.rows])["sanity"]
    assert [check["name"].startswith(name) for check in sanity if not check["holds"]].count(True) == 1


def test_a_page_is_made_of_it(done):
    pytest.importorskip("matplotlib")
    from twcodec.robustness.report import write_report

    write_results(done, 2)
    page = write_report(done.folder).read_text()
    assert "two-way" in page
    assert page.count("data:image/png") >= 2
    results = json.loads((done.folder / "results.json").read_text())
    assert len(results["examples"]) == 2


def test_the_interval_is_of_the_mean():
    assert interval([2.0, 2.0]) == {"mean": 2.0, "low": 2.0, "high": 2.0}
    found = interval(list(range(11)))
    assert 2 < found["low"] < found["mean"] == 5 < found["high"] < 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"defences": ("nothing",)},
        {"qualities": ()},
        {"threats": ("oracle",)},
        {"objectives": ("x",)},
        {"attack": "x"},
        {"eps": (float("nan"),)},
        {"qualities": (2.0, 2.0)},
        {"threats": ("black",)},
        {"attack": "noise"},
    ],
)
def test_plans_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(UsageError):
        Plan(**({"qualities": (4.0,), "defences": ("none",)} | wrong))


def test_a_folder_keeps_to_its_attacks_and_pictures(codec, folder, done, tmp_path):
    """Figures of other settings would be shown as those of these."""
    pictures = sources(sorted(folder.iterdir()), PLAN.crop)
    for other in ({"steps": 9}, {"seed": 1}, {"eot": 3}):
        with pytest.raises(UsageError, match="another folder"):
            Evaluation(codec, pictures, replace(PLAN, **other), done.folder)
    changed = [replace(pictures[0], pixels=255 - pictures[0].pixels), *pictures[1:]]
    with pytest.raises(UsageError, match="another folder"):
        Evaluation(codec, changed, PLAN, done.folder)
    fewer = Evaluation(codec, pictures[:1], replace(PLAN, defences=("none",)), done.folder)
    assert {(row["picture"], row["defence"]) for row in fewer.run()} == {("0", "none")}


def test_what_are_no_rows_is_refused(codec, folder, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(CorruptError, match=r"rows\.jsonl"):
        Evaluation(codec, sources(sorted(folder.iterdir()), PLAN.crop), PLAN, tmp_path)


def test_pictures_are_told_apart_and_taken_as_they_are(folder, tmp_path):
    Image.open(folder / "0.png").save(tmp_path / "0.bmp")
    with pytest.raises(UsageError, match="two pictures"):
        sources([folder / "0.png", tmp_path / "0.bmp"], 64)
    Image.fromarray(np.eye(20) > 0).save(tmp_path / "bilevel.png")
    (bilevel,) = sources([tmp_path / "bilevel.png"], 0)
    assert set(np.unique(bilevel.pixels)) == {0, 255}
    (tmp_path / "broken.png").write_bytes((folder / "0.png").read_bytes()[:300])
    with pytest.raises(TwcError, match=r"broken\.png"):
        sources([tmp_path / "broken.png"], 0)
