"""Faults at the worst moments, a few for each kind; `benchmarks/faults.py` has all of them, many times."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from twcodec.batch import storage
from twcodec.cli.deadline import deadline
from twcodec.cli.importing import ending_signals, undisturbed
from twcodec.errors import LimitError
from twcodec.imaging import unfinished
from twcodec.imaging.files import write_output

FAULTY = Path(__file__).resolve().parents[2] / "benchmarks" / "faulty.py"
PRECIOUS = b"made by hand, nowhere else"


@pytest.fixture
def steps(monkeypatch) -> list[str]:
    """What happens to files, in order: "sync FILE", "rename", "sync FOLDER/"."""
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        temporary = path.name.startswith(".twc-")
        slash = "/" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else ""
        seen.append(f"sync {'temporary' if temporary else path.name}{slash}")
        fsync(descriptor)

    def renamed(*args) -> None:
        seen.append("rename")
        replace(*args)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return seen


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_with_fsync_the_data_are_on_the_disk_before_the_name_and_then_the_name(
    twc, photo, coded, tmp_path, steps, command
):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.png").symlink_to("there/real.png")
    source = photo if command == "encode" else coded
    assert twc(command, "-f", source, tmp_path / "link.png").code == 0
    assert steps == ["rename"]
    steps.clear()
    assert twc(command, "-f", "--fsync", source, tmp_path / "link.png").code == 0
    assert steps == ["sync temporary", "rename", "sync there/"]


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_fsync_does_no_harm_where_there_is_no_disk(twc, photo, coded, tmp_path, steps, command):
    source = photo if command == "encode" else coded
    reader, writer = os.pipe()
    assert twc(command, "--fsync", source, "-", stdout=writer).code == 0
    os.close(writer)
    os.close(reader)
    assert twc(command, "--fsync", "--format=png" if command == "decode" else "-v", source, "/dev/null").code == 0
    steps.clear()
    with (tmp_path / "file").open("wb") as file:
        assert twc(command, "--fsync", source, "-", stdout=file.fileno()).code == 0
    assert steps == ["sync file"]


def failing(monkeypatch, folders: bool) -> None:
    fsync = os.fsync

    def broken(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == folders:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)


def test_data_that_do_not_reach_the_disk_replace_nothing(twc, photo, tmp_path, folder, monkeypatch):
    (tmp_path / "a.twc").write_bytes(PRECIOUS)
    failing(monkeypatch, folders=False)
    twc("encode", "-f", "--fsync", photo, tmp_path / "a.twc").refused(7, "a.twc", "Input/output error")
    assert (tmp_path / "a.twc").read_bytes() == PRECIOUS
    assert folder() == {"photo.png", "a.twc"}


def test_a_name_that_does_not_reach_the_disk_is_told_of(twc, photo, coded_bytes, tmp_path, folder, monkeypatch):
    failing(monkeypatch, folders=True)
    done = twc("encode", "--seed", 1, "--fsync", photo, tmp_path / "a.twc")
    done.refused(7, "a.twc", "complete, but may not be on the disk: Input/output error")
    assert (tmp_path / "a.twc").read_bytes() == coded_bytes
    assert folder() == {"photo.png", "a.twc"}


def test_of_a_batch_new_folders_are_synced_too(tmp_path, steps):
    storage._way_to_disk.cache_clear()
    storage.write(str(tmp_path / "new" / "deep" / "a.twc"), b"1", overwrite=True, fsync=True)
    before, after = steps[: steps.index("rename")], steps[steps.index("rename") :]
    assert before[:2] == ["sync new/", f"sync {tmp_path.name}/"]
    assert before[-1] == "sync temporary"
    assert after == ["rename", "sync deep/"]
    steps.clear()
    storage.write(str(tmp_path / "new" / "deep" / "b.twc"), b"1", overwrite=True, fsync=True)
    assert steps == ["sync temporary", "rename", "sync deep/"], "folders are synced once"


@pytest.mark.parametrize(
    ("moment", "what", "code", "kept"),
    [
        ("opened", "SIGTERM", 143, True),
        ("half", "SIGINT", 130, True),
        ("renamed", "SIGHUP", 129, False),
        ("half", "ENOSPC", 7, True),
    ],
)
def test_at_every_step_the_output_is_the_old_one_or_the_new_one(
    photo, coded_bytes, tmp_path, folder, moment, what, code, kept
):
    out = tmp_path / "a.twc"
    out.write_bytes(PRECIOUS)
    command = [sys.executable, FAULTY, moment, what, "encode", "-f", "--seed", "1", "--fsync", photo, out]
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert out.read_bytes() == (PRECIOUS if kept else coded_bytes)
    assert folder() == {"photo.png", "a.twc"}


def test_a_second_signal_while_the_first_ones_files_are_removed(tmp_path, folder, monkeypatch):
    unlink, signals = os.unlink, [KeyboardInterrupt]

    def interrupted(path: str) -> None:
        if signals:
            raise signals.pop()
        unlink(path)

    monkeypatch.setattr(os, "unlink", interrupted)
    output = write_output(str(tmp_path / "a.twc"), force=True)
    output.__enter__().write(b"1")
    with pytest.raises(KeyboardInterrupt):
        output.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert len(folder()) == 1
    unfinished.remove()  # what `cli.main` does last
    assert folder() == set()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_the_interpreter_ends_says_nothing(name):
    code = (
        f"import atexit, os, signal; atexit.register(lambda: os.kill(os.getpid(), signal.{name}))\n"
        "from twcodec.cli.main import run; run(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert done.returncode < 0
    assert done.stderr == b""


def test_signals_that_were_ignored_stay_so():
    """As nohup has it, and as shells have it for what runs in the background."""
    code = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "import atexit; atexit.register(lambda: [os.kill(os.getpid(), n) for n in (signal.SIGHUP, signal.SIGINT)])\n"
        "from twcodec.cli.main import run; run(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


IMPORTING = """
import os, signal, sys, time
from twcodec.cli import importing, main

def disturbed(args):
    with importing.undisturbed():
        try:
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))
            time.sleep(0.01)
        except BaseException:  # as code in C forgets what a handler has raised
            print("forgotten")
        print("imported", flush=True)
    return 0

main._code_of = disturbed
main.run([])
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_torch_is_imported_is_not_forgotten(name):
    done = subprocess.run([sys.executable, "-c", IMPORTING, name], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-getattr(signal, name), b"", b"")


def test_a_time_limit_that_ends_while_torch_is_imported_waits_for_it():
    steps = []

    def slow() -> None:
        with deadline(0.3):
            with undisturbed():
                time.sleep(0.5)
                steps.append("imported")
            time.sleep(5)

    with pytest.raises(LimitError, match="not done after"):
        slow()
    assert steps == ["imported"]


NOTICING = """
import signal, sys
from twcodec.cli.main import run

class Finder:
    def find_spec(name, path=None, target=None):
        if name == "numpy":
            print("numpy,", signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), file=sys.stderr)

sys.meta_path.insert(0, Finder)
run(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "arguments",
    ["encode a.png b.twc", "decode a.twc b.png", "verify a.twc", "compare a.png a.png", "compare a.twc a.twc"],
)
def test_numpy_is_imported_where_no_signal_can_cut_it_in_half(arguments, tmp_path):
    vectors = Path(__file__).resolve().parents[2] / "formats" / "vectors"
    shutil.copy(next(vectors.glob("valid/guard-rgba-*.twc")), tmp_path / "a.twc")
    Image.new("RGB", (20, 30)).save(tmp_path / "a.png")
    command = [sys.executable, "-c", NOTICING, *arguments.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    plain = f"numpy, {signal.SIG_DFL} {signal.SIG_DFL}"
    assert [line for line in done.stderr.splitlines() if line.startswith("numpy,")] == [plain]


def test_handlers_are_as_they_were_after_an_import():
    before = [signal.getsignal(number) for number in ending_signals()]
    with undisturbed():
        assert [signal.getsignal(number) for number in ending_signals()] != before
    assert [signal.getsignal(number) for number in ending_signals()] == before


def test_a_working_folder_that_was_removed_is_no_obstacle_and_stays_the_one(photo, coded_bytes, tmp_path, shell_env):
    """Relative names are not suddenly those of another folder."""
    line = 'cd gone && rmdir ../gone && { $TWC encode --seed 1 ../photo.png ../a.twc; $TWC encode "$0" b.twc; }'
    (tmp_path / "gone").mkdir()
    environment = {**shell_env, "TWC": str(Path(sys.executable).with_name("twc"))}
    line = line.replace("..", str(tmp_path))
    done = subprocess.run(["bash", "-c", line, photo], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (tmp_path / "a.twc").read_bytes() == coded_bytes, done.stderr
    assert done.returncode == 7
    assert b"b.twc: the output cannot be written: No such file" in done.stderr
