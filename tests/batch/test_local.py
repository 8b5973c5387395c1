"""Worker processes: they do what one command does, die with their parent, and take nothing with them when they die."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batch.conftest import done, lines, tree
from twcodec.batch import local
from twcodec.batch.local import FatalError, LocalEngine
from twcodec.batch.tasks import Job, Task

LONG = 60.0


def children(of: int) -> list[int]:
    """The worker processes of a process."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, parent = int(status.parent.name), int(status.read_text().rpartition(")")[2].split()[1])
            if parent == of and b"twcodec.batch.process" in (status.parent / "cmdline").read_bytes():
                found.append(pid)
    return found


def until(condition: Callable[[], object], seconds: float = LONG) -> None:
    """Wait for it; fail when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def gone(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.fixture
def begin(tmp_path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """begin("--jobs", "2"): `twc batch encode in -o out`, as a process of its own."""
    running = []

    def start(*more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "twcodec", "batch", "encode", "in", "-o", "out", *more]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **streams)
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def count(folder: Path) -> int:
    """Outputs that are there."""
    return len(list(folder.glob("*.twc")))


def outputs(folder: Path) -> Counter[str]:
    return Counter(record["output"] for record in done(folder))


def verified(twc, folder: Path) -> None:
    """Every output decodes, is as the manifest has it, and nothing else lies there."""
    import hashlib

    for record in done(folder):
        assert hashlib.sha256((folder / record["output"]).read_bytes()).hexdigest() == record["sha256"]
    assert tree(folder) == sorted(outputs(folder))
    assert twc("verify", *folder.glob("*.twc")).code == 0


def test_processes_make_what_single_commands_make(begin, twc, fill, small, tmp_path, monkeypatch):
    fill("in/a.png", "in/b.jpg", "in/c.png")
    small(3).convert("L").save(tmp_path / "in" / "grey.png")
    rgba = small(4).convert("RGBA")
    rgba.putalpha(small(5).convert("L"))
    rgba.save(tmp_path / "in" / "rgba.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    process = begin("--jobs", "2", "--json")
    out, err = process.communicate(timeout=LONG)
    assert (process.returncode, err) == (1, b"")
    assert json.loads(out.splitlines()[-1])["done"] == 5
    verified(twc, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    for record in done(tmp_path / "out"):
        single = twc("encode", "--seed", record["seed"], record["source"], "-")
        assert single.out == (tmp_path / "out" / record["output"]).read_bytes(), record["source"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_what_was_begun(begin, fill, tmp_path, number, code):
    fill(*(f"in/{i:03d}.png" for i in range(120)))
    process = begin("--jobs", "1")
    until(lambda: count(tmp_path / "out") >= 2)
    workers = children(process.pid)
    os.killpg(process.pid, number)  # as a terminal does
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == code
    assert b"finishing what was begun" in err
    assert all(map(gone, workers))
    begun = {line["output"] for line in lines(tmp_path / "out") if line["status"] == "started"}
    assert begun == set(outputs(tmp_path / "out")) == set(tree(tmp_path / "out"))
    assert 2 <= len(begun) < 120


def test_ctrl_c_before_anything_is_begun_is_as_quiet(begin, fill, tmp_path):
    fill("in/a.png", "in/b.png")
    process = begin("--jobs", "2")
    until(lambda: len(children(process.pid)) == 2)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert b"2 not begun, of 2" in err
    assert tree(tmp_path / "out") == []


@pytest.fixture
def slow(fill, astronaut, tmp_path) -> None:
    """A small picture, and one that takes seconds."""
    import numpy as np
    from PIL import Image

    fill("in/a.png")
    Image.fromarray(np.tile(astronaut, (4, 4, 1))).save(tmp_path / "in" / "b.png", compress_level=0)


def test_a_process_does_not_even_finish_its_picture_when_its_parent_is_killed(begin, slow, tmp_path):
    process = begin("--jobs", "1")
    until(lambda: count(tmp_path / "out") == 1)
    (worker,) = children(process.pid)
    time.sleep(0.2)
    process.kill()
    process.wait()
    until(lambda: gone(worker), 0.5)
    assert count(tmp_path / "out") == 1


def test_a_second_ctrl_c_stops_at_once_and_leaves_nothing_half_done(begin, slow, tmp_path):
    process = begin("--jobs", "1")
    until(lambda: count(tmp_path / "out") == 1)
    (worker,) = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
    start = time.monotonic()
    _, err = process.communicate(timeout=LONG)
    assert time.monotonic() - start < 1
    assert process.returncode == 130
    assert b"stopped; the same command goes on from here" in err
    assert b"Traceback" not in err
    assert gone(worker)
    assert tree(tmp_path / "out") == ["a.twc"]


def test_a_run_that_is_killed_again_and_again_is_whole_in_the_end(begin, twc, fill, tmp_path):
    """SIGKILL of the parent: its processes die, too; the next run goes on, and in the end all is there, done once."""
    fill(*(f"in/{i:03d}.png" for i in range(70)))
    rng = random.Random(4)
    for _ in range(3):
        kill_in_the_middle(begin("--jobs", "2", "--quiet"), tmp_path / "out", rng.random() * 0.2)
    assert 3 <= count(tmp_path / "out") < 70  # or it was never killed in the middle
    process = begin("--jobs", "2")
    assert process.communicate(timeout=LONG)[0] == b""
    assert process.returncode == 0
    assert outputs(tmp_path / "out") == Counter({f"{i:03d}.twc": 1 for i in range(70)})
    verified(twc, tmp_path / "out")


def kill_in_the_middle(process: subprocess.Popen[bytes], folder: Path, seconds: float) -> None:
    """So long after the first output that it makes. Its processes die with it."""
    before = count(folder)
    until(lambda: count(folder) > before)
    time.sleep(seconds)
    workers = children(process.pid)
    process.kill()
    process.wait()
    until(lambda: all(map(gone, workers)), 2)


def test_a_process_that_is_killed_takes_nothing_with_it(begin, twc, fill, tmp_path):
    fill(*(f"in/{i:03d}.png" for i in range(60)))
    process = begin("--jobs", "2")
    until(lambda: count(tmp_path / "out") >= 3)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    process.communicate(timeout=LONG)
    assert process.returncode == 0
    assert outputs(tmp_path / "out") == Counter({f"{i:03d}.twc": 1 for i in range(60)})
    verified(twc, tmp_path / "out")


FAKE = """
import json, os, signal, sys
if os.path.exists("starts"):
    with open("starts", "r+") as file:
        left = int(file.read())
        file.seek(0)
        file.write(str(left - 1).ljust(9))
    if left > 0:
        os.kill(os.getpid(), signal.SIGKILL)
print('{"ready": true, "lanes": 1}', flush=True)
sys.stdin.readline()
for line in sys.stdin:
    task = json.loads(line)
    if task["source"] == "deadly" or (task["source"] == "once" and not os.path.exists(task["target"])):
        open(task["target"], "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    print(json.dumps({"key": task["key"], "record": {"status": "done"}}), flush=True)
"""


@pytest.fixture
def fake(monkeypatch, tmp_path) -> Callable[[list[str]], dict[str, dict]]:
    """fake(sources): what comes of each, of processes that die of "deadly", and of the first sight of "once".

    The file "starts" says how many of them die before they are ready.
    """
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    monkeypatch.chdir(tmp_path)
    popen = subprocess.Popen
    monkeypatch.setattr(local.subprocess, "Popen", lambda _, **k: popen([sys.executable, str(script)], **k))

    def run(sources: list[str]) -> dict[str, dict]:
        tasks = [Task(f"{i} {source}", source, str(tmp_path / f"{i}.out")) for i, source in enumerate(sources)]
        results = list(LocalEngine([Job("encode"), Job("encode")]).run(iter(tasks)))
        assert sorted(task.key for task, _ in results) == sorted(task.key for task in tasks)
        return {task.key: record for task, record in results}

    return run


def test_what_kills_its_process_is_given_up_after_two_and_nothing_else_is(fake):
    records = fake(["a", "deadly", "b", "c", "d", "e", "deadly"])
    failed = {key: record for key, record in records.items() if record["status"] == "failed"}
    assert list(map(str.split, sorted(failed))) == [["1", "deadly"], ["6", "deadly"]]
    for record in failed.values():
        assert record["error"] == "the process that worked on it was killed by SIGKILL, perhaps for want of memory"
        assert record["code"] == 6


def test_the_last_picture_has_its_second_chance_too(fake):
    assert fake(["once"]) == {"0 once": {"status": "done"}}


def test_processes_that_die_as_they_start_are_started_again_but_not_for_ever(fake, tmp_path):
    (tmp_path / "starts").write_text("2".ljust(9))
    assert len(fake(["a", "b", "c"])) == 3
    (tmp_path / "starts").write_text("1000".ljust(9))
    with pytest.raises(FatalError, match="end before they are ready: one was killed by SIGKILL"):
        fake(["a", "b", "c"])


def test_no_engine_without_a_model_or_a_device(begin, fill, tmp_path):
    fill("in/a.png")
    process = begin("--device", "cuda:77")
    out, err = process.communicate(timeout=LONG)
    assert (process.returncode, out, len(err.splitlines())) == (8, b"", 1)
    assert b"cuda:77" in err


@pytest.fixture
def tiny(tmp_path) -> Iterator[Path]:
    """A disk of 200 kB."""
    folder = tmp_path / "out"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_run_damages_nothing_and_it_goes_on_with_room(begin, twc, fill, tmp_path, tiny):
    fill(*(f"in/{i:02d}.png" for i in range(12)))
    (tiny / "ballast").write_bytes(bytes(200 * 1024 - 5 * 4096))
    process = begin("--jobs", "1")
    out, err = process.communicate(timeout=LONG)
    assert (process.returncode, out) == (7, b"")
    assert b"No space left on device" in err.splitlines()[-1]
    assert b"when that is mended, the same command goes on from here" in err.splitlines()[-1]
    (tiny / "ballast").unlink()
    before = outputs(tiny)
    verified_but_for_unrecorded(tiny, before)
    process = begin("--jobs", "1")
    process.communicate(timeout=LONG)
    assert process.returncode == 0
    assert outputs(tiny) == Counter({f"{i:02d}.twc": 1 for i in range(12)})
    verified(twc, tiny)


def verified_but_for_unrecorded(folder: Path, recorded: Counter[str]) -> None:
    """Whole outputs only. The manifest lacks some if there was no room for its line either: they are made again."""
    import twcodec

    assert all(name.endswith(".twc") for name in tree(folder))
    assert set(recorded) <= set(tree(folder))
    for path in folder.glob("*.twc"):
        assert twcodec.decode(path.read_bytes()).size == (64, 48)


def test_nothing_is_imported_from_the_current_folder(fill, tmp_path):
    """Pictures may come with a random.py beside them."""
    fill("in/a.png")
    for name in ("random.py", "numpy.py", "twcodec.py"):
        (tmp_path / "in" / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit(3)\n")
    command = [str(Path(sys.executable).with_name("twc")), "batch", "encode", "a.png", "-o", "out", "--jobs", "1"]
    run = subprocess.run(command, cwd=tmp_path / "in", capture_output=True, text=True)
    assert not (tmp_path / "ran").exists()
    assert run.returncode == 0, run.stderr
    made = str(tmp_path / "in" / "out" / "a.twc")
    boxed = [command[0], "decode", "--sandbox", made, str(tmp_path / "b.png")]
    assert subprocess.run(boxed, cwd=tmp_path / "in").returncode == 0
    assert not (tmp_path / "ran").exists()
