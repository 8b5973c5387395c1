import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from twcodec.errors import UnreadableError, UsageError
from twcodec.models import file as model_file
from twcodec.training.crops import batch, load
from twcodec.training.files import CHECKPOINT, SNAPSHOT
from twcodec.training.run import Run, RunSettings, open_run

from .conftest import TINY

CPU = torch.device("cpu")
SETTINGS = RunSettings(steps=12, batch=2, patch=64, lr=2e-3, warmup=3, amp=False, network=TINY)


def advance(run, found, steps):
    for _ in range(steps):
        run.advance(batch(found, run.step, run.settings.seed, run.settings.batch, run.settings.patch, 7))


def weights(run):
    return [*run.network.state_dict().values(), *run.average.values()]


@pytest.mark.parametrize("adversarial", [0.0, 4.0])
def test_a_run_that_was_stopped_and_resumed_equals_an_uninterrupted_one(photographs, tmp_path, adversarial):
    found, settings = load([photographs], 64).train, replace(SETTINGS, adversarial=adversarial)
    whole = open_run(tmp_path / "whole", settings, CPU, lambda run: None)
    advance(whole, found, 12)
    part = open_run(tmp_path / "part", settings, CPU, lambda run: None)
    for steps in (5, 1, 6):
        advance(part, found, steps)
        part.save(tmp_path / "part")
        torch.manual_seed(steps)  # what another process would have drawn by now
        part = open_run(tmp_path / "part", settings, CPU, lambda run: pytest.fail("started anew"))
    assert part.step == 12
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(part), strict=True))


def test_training_learns(photographs, tmp_path):
    found = load([photographs], 64).train
    run = open_run(tmp_path, replace(SETTINGS, steps=60), CPU, lambda run: None)
    losses = []
    for _ in range(60):
        losses.append(float(run.advance(batch(found, run.step, 0, 2, 64, 7)).total.detach()))
    assert sum(losses[-15:]) < 0.8 * sum(losses[:15])


def test_a_callers_autocast_changes_nothing(photographs):
    """Its cache of cast weights would outlive the step: training would go on with the weights of the first one."""
    found, runs = load([photographs], 64).train, [Run(replace(SETTINGS, amp=True), CPU) for _ in range(2)]
    advance(runs[0], found, 6)
    with torch.autocast("cpu", enabled=False):
        advance(runs[1], found, 6)
    assert all(torch.equal(a, b) for a, b in zip(*map(weights, runs), strict=True))


def test_the_learning_rate_rises_and_falls_to_nothing():
    run = Run(replace(SETTINGS, steps=100, warmup=10), CPU)
    rates = []
    for run.step in range(101):
        rates.append(run._rate())
    assert rates[0] == pytest.approx(2e-4)
    assert max(rates) == pytest.approx(2e-3, rel=0.1)
    assert rates[100] == 0
    assert all(a >= b for a, b in itertools.pairwise(rates[12:]))


def test_minutes_end_a_run_too():
    run = Run(replace(SETTINGS, minutes=2.0), CPU)
    run.seconds = 60
    assert run.progress == 0.5
    run.seconds = 121
    assert run.progress == 1


def test_a_folder_with_another_run_is_left_alone(photographs, tmp_path):
    open_run(tmp_path, SETTINGS, CPU, lambda run: None)
    with pytest.raises(UsageError, match=r"other settings: lr 0.002 there, 0.001 here"):
        open_run(tmp_path, replace(SETTINGS, lr=1e-3), CPU, lambda run: None)
    (tmp_path / "settings.json").write_text("[")
    with pytest.raises(UnreadableError, match="does not describe a run"):
        open_run(tmp_path, SETTINGS, CPU, lambda run: None)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a checkpoint", None])
def test_a_damaged_checkpoint_is_reported(tmp_path, damage):
    run = open_run(tmp_path, SETTINGS, CPU, lambda run: None)
    run.save(tmp_path)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    assert len(whole) > 1000
    (tmp_path / CHECKPOINT).write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(UnreadableError, match="cannot be used"):
        open_run(tmp_path, SETTINGS, CPU, lambda run: None)


def test_another_runs_checkpoint_is_refused(tmp_path):
    other = open_run(tmp_path / "other", replace(SETTINGS, seed=5), CPU, lambda run: None)
    other.save(tmp_path / "other")
    run = open_run(tmp_path / "run", SETTINGS, CPU, lambda run: None)
    run.save(tmp_path / "run")
    (tmp_path / "other" / CHECKPOINT).replace(tmp_path / "run" / CHECKPOINT)
    with pytest.raises(UnreadableError, match="another run"):
        open_run(tmp_path / "run", SETTINGS, CPU, lambda run: None)


def test_weights_that_are_no_numbers_never_replace_a_checkpoint(photographs, tmp_path):
    found = load([photographs], 64).train
    run = open_run(tmp_path, SETTINGS, CPU, lambda run: None)
    advance(run, found, 2)
    run.save(tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with torch.no_grad():
        run.learnt[0][0] = float("nan")
    with pytest.raises(UsageError, match="lower --lr"):
        run.save(tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_start_that_fails_leaves_nothing(tmp_path):
    def fails(_run):
        raise UsageError("no")

    with pytest.raises(UsageError):
        open_run(tmp_path / "run", SETTINGS, CPU, fails)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_is_a_program_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    open_run(tmp_path, SETTINGS, CPU, lambda run: None)
    torch.save(Bomb(), tmp_path / CHECKPOINT)
    with pytest.raises(UnreadableError):
        open_run(tmp_path, SETTINGS, CPU, lambda run: None)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_step_and_saves_and_the_run_goes_on_to_the_same_model(
    photographs, tiny_model, tmp_path, name
):
    tiny = tmp_path / "tiny.safetensors"
    tiny.write_bytes(tiny_model)
    steps = ("--steps", "60", "--save-every", "999")
    subprocess.run(command(photographs, tmp_path / "a", tiny, *steps, "--quiet"), check=True)
    process = subprocess.Popen(
        command(photographs, tmp_path / "b", tiny, *steps),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    lines = [process.stderr.readline() for _ in range(1)]  # "... pictures to learn from": the steps follow
    while not (tmp_path / "b" / "settings.json").exists():
        time.sleep(0.002)
    time.sleep(0.15)
    process.send_signal(getattr(signal, name))
    lines += process.stderr.read().splitlines()
    assert process.wait() == {"SIGINT": 130, "SIGTERM": 143}[name]
    assert "Traceback" not in "".join(lines)
    if "stopped at step" in lines[-1]:  # else it came before the first step, or after the last
        assert (tmp_path / "b" / CHECKPOINT).exists()
    subprocess.run(command(photographs, tmp_path / "b", tiny, *steps, "--quiet"), check=True)
    models = [(tmp_path / run / "model.safetensors").read_bytes() for run in "ab"]
    assert models[0] == models[1]


def test_a_run_that_is_over_keeps_its_model(photographs, tiny_model, tmp_path):
    """Files may have been made with it."""
    tiny = tmp_path / "tiny.safetensors"
    tiny.write_bytes(tiny_model)
    run = command(photographs, tmp_path / "run", tiny, "--steps", "2")
    first = subprocess.run(run, capture_output=True, text=True, check=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    second = subprocess.run(run, capture_output=True, text=True, check=True)
    assert "is over; its model stays" in second.stderr
    assert second.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == before


def command(photographs, folder, tiny, *more):
    arguments = [photographs, "-o", folder, "--init", tiny, "--batch", "2", "--patch", "64", "--precision", "fp32"]
    return [sys.executable, "-m", "twcodec", "train", *map(str, arguments), "--threads", "1", *more]


def test_a_killed_run_goes_on_and_gives_the_same_model(photographs, tiny_model, tmp_path):
    """The whole command, killed with SIGKILL once it has saved, against one that ran through."""
    tiny = tmp_path / "tiny.safetensors"
    tiny.write_bytes(tiny_model)
    steps = ("--steps", "40", "--save-every", "0.001")
    done = subprocess.run(command(photographs, tmp_path / "a", tiny, *steps, "--json"), capture_output=True, check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    process = subprocess.Popen(command(photographs, tmp_path / "b", tiny, *steps), stderr=subprocess.DEVNULL)
    while not (tmp_path / "b" / SNAPSHOT).exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "b" / "model.safetensors").exists()
    again = subprocess.run(
        command(photographs, tmp_path / "b", tiny, *steps), capture_output=True, check=True, text=True
    )
    assert "going on from step" in again.stderr
    models = [(tmp_path / run / "model.safetensors").read_bytes() for run in "ab"]
    assert models[0] == models[1]
    assert events[-1]["event"] == "done"
    assert events[-1]["digest"] == model_file.digest_of(models[0]).hex()
    assert len(events[-1]["held_out"]) == 7
    entry = json.loads((tmp_path / "b" / "entry.json").read_text())
    assert {"origin", "pictures", "steps", "minutes", "hardware", "date"} <= set(entry["provenance"])


def test_the_model_that_comes_out_codes_pictures(photographs, tiny_model, tmp_path, crop):
    import twcodec

    tiny = tmp_path / "tiny.safetensors"
    tiny.write_bytes(tiny_model)
    subprocess.run(command(photographs, tmp_path / "run", tiny, "--steps", "2", "--quiet"), check=True)
    codec = twcodec.open_codec(str(tmp_path / "run" / "model.safetensors"), device="cpu")
    file = codec.encode(photographs / "00.png", 6)
    assert codec.decode(file).size == (200, 160)
    snapshot = twcodec.open_codec(str(tmp_path / "run" / SNAPSHOT), device="cpu")
    assert snapshot.decode(snapshot.encode(photographs / "00.png", 6)).size == (200, 160)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no-such-folder", "-o", "run"], 3, "no such file or folder"),
        ([".", "-o", "run", "--init", "nothing"], 2, "0 pictures of at least 256 pixels"),
        ([".", "-o", "run", "--patch", "100"], 2, "a multiple of 64"),
        ([".", "-o", "run", "--init", "mystery"], 5, "unknown model"),
        ([".", "-o", "run", "--init", "default-1"], 5, "of family 'residual-dct'"),
        ([".", "-o", "run", "--device", "tpu"], 2, "unknown device"),
        ([".", "-o", "run", "--lr", "nan"], 2, "not a number"),
        ([".", "-o", "run", "--minutes", "inf"], 2, "not a number"),
        (["x" * 5000, "-o", "run"], 3, "no such file"),
        (["."], 2, "--output"),
        ([".", "-o", "run", "--steps", "0"], 2, "--steps"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_written(tmp_path, arguments, code, words):
    done = subprocess.run(
        [sys.executable, "-m", "twcodec", "train", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert not (tmp_path / "run").exists()
