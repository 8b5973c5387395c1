"""`--timeout` and `--sandbox`: files that take too long, or break the process that decodes them."""

import contextlib
import stat
import sys
from pathlib import Path

import pytest
from PIL import Image

from twcodec import isolated
from twcodec.cli import sandbox
from twcodec.cli.deadline import deadline
from twcodec.errors import CorruptError, LimitError


@pytest.fixture(scope="module")
def file(codec, astronaut, tmp_path_factory):
    path = tmp_path_factory.mktemp("sandbox") / "a.twc"
    path.write_bytes(codec.encode(Image.fromarray(astronaut[:64, :80])))
    return path


def test_a_sandbox_gives_the_same_picture_and_the_same_words(twc, file, tmp_path):
    plain, boxed = tmp_path / "plain.png", tmp_path / "boxed.png"
    a, b = twc("decode", file, plain), twc("decode", "--sandbox", file, boxed)
    assert (a.code, b.code) == (0, 0)
    assert plain.read_bytes() == boxed.read_bytes()
    assert a.err.replace("plain", "boxed") == b.err


@pytest.mark.parametrize(("damage", "code"), [(lambda d: d[:-9], 4), (lambda d: b"x" + d, 3), (lambda d: b"", 3)])
def test_a_sandbox_has_the_errors_of_its_inside(twc, file, tmp_path, damage, code):
    bad = tmp_path / "bad.twc"
    bad.write_bytes(damage(file.read_bytes()))
    boxed, plain = twc("decode", "--sandbox", bad, tmp_path / "o.png"), twc("decode", bad, tmp_path / "o.png")
    assert boxed.code == plain.code == code
    assert boxed.err == plain.err
    assert not (tmp_path / "o.png").exists()


def stand_in(tmp_path, monkeypatch, script):
    """Something else in place of the process that decodes."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(isolated.sys, "executable", str(program))


def test_a_crash_is_an_error_and_no_crash(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "kill -SEGV $$")
    with pytest.raises(CorruptError, match=r"crashed in the sandbox \(SIGSEGV\)"):
        sandbox.decoded(b"", [], 5, None, 1000)


def test_a_process_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "sleep 77.0625 & sleep 77.0625")
    with pytest.raises(LimitError, match=r"not done after 0\.5 seconds"):
        sandbox.decoded(b"", [], 0.5, None, 1000)
    assert not running("77.0625")


def test_memory_and_files_are_limited(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, f"echo x > {tmp_path}/written")
    with pytest.raises(CorruptError, match="SIGXFSZ"):
        sandbox.decoded(b"", [], 5, 1 << 30, 1000)
    assert not (tmp_path / "written").read_bytes()
    stand_in(tmp_path, monkeypatch, 'echo "$(ulimit -d) $(ulimit -c)" >&2; exit 4')
    with pytest.raises(CorruptError, match=f"{(1 << 20) + sandbox._BESIDE // 1024} 0"):
        sandbox.decoded(b"", [], 5, 1 << 30, 1000)


def test_a_flood_is_refused(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "head -c 70000000 /dev/zero; echo '{}' >&2")
    with pytest.raises(LimitError, match="over 67108864 bytes came back"):
        sandbox.decoded(b"", [], 20, None, 1000)


def running(word):
    """Whether there is a process with this argument."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes().split(b"\0"):
                return True
    return False


def test_a_deadline_ends_what_takes_too_long_and_nothing_else():
    def busy():
        try:
            while True:
                pass
        except Exception:  # what handles errors on the way must not take it for its own
            pytest.fail("it was swallowed")

    with pytest.raises(LimitError, match=r"0\.1 seconds"), deadline(0.1):
        busy()
    with deadline(60):
        pass
    with deadline(None):
        pass


@pytest.mark.parametrize("command", ["decode", "verify"])
def test_a_timeout_is_a_limit_and_leaves_nothing(twc, file, tmp_path, command):
    names = [file, tmp_path / "o.png"] if command == "decode" else [file]
    found = twc(command, "--timeout", "0.0005", *names)
    assert found.code == 6
    assert "not done after 0.0005 seconds (--timeout)" in found.err
    assert not list(tmp_path.iterdir())
    assert twc(command, "--timeout", "0", *names).code == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the largest file is a limit of Linux's")
def test_a_flood_is_not_read_to_its_end_where_it_has_none(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "exec cat /dev/zero")
    with pytest.raises(LimitError, match="over 67108864 bytes came back"):
        sandbox.decoded(b"", [], 60, None, 1000)


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "0", "-1", "soon"])
@pytest.mark.parametrize("options", [("decode",), ("decode", "--sandbox"), ("verify",)])
def test_a_timeout_that_cannot_be_meant_is_refused(twc, tmp_path, options, seconds):
    (tmp_path / "a.twc").write_bytes(b"")
    names = (tmp_path / "a.twc", tmp_path / "a.png")[: 1 + (options[0] == "decode")]
    twc(*options, "--timeout", seconds, *names).misused("is no number")
