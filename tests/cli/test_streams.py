"""What a process does to the streams it was given: pipes, terminals, closed ones, and none at all."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "numpy", "PIL"}


def modules_after(*args) -> tuple[int, set[str]]:
    """Exit code of a command in a fresh interpreter, and which of the heavy modules it has imported."""
    code = "import sys\nfrom twcodec.cli.main import _code_of\ncode = _code_of(sys.argv[1:])\nprint('\\n', code, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, check=True)
    number, *names = done.stdout.decode().splitlines()[-1].split()
    return int(number), HEAVY.intersection(names)


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["encode", "--help"], ["decode", "--help"]])
def test_help_imports_nothing_heavy(args):
    assert modules_after(*args) == (0, set())


def test_info_imports_nothing_heavy(coded):
    assert modules_after("info", coded) == (0, set())
    assert modules_after("info", "--json", coded) == (0, set())


def test_a_file_that_is_refused_by_its_header_imports_no_torch(coded, tmp_path):
    coded.write_bytes(coded.read_bytes()[:-9])
    for command in (("decode", coded, tmp_path / "b.png"), ("verify", coded)):
        code, heavy = modules_after(*command)
        assert code == 4
        assert "torch" not in heavy


def test_a_typo_imports_nothing_heavy():
    assert modules_after("encode", "--qualiti", "3", "a", "b") == (2, set())


def test_the_console_script_is_the_module(coded, process):
    script = Path(sys.executable).with_name("twc")
    if not os.access(script, os.X_OK):
        pytest.skip("twc is not installed beside this interpreter")
    for args in (["--version"], ["info", str(coded)], ["info", "nowhere"], ["decode"]):
        as_script = subprocess.run([str(script), *args], capture_output=True, check=False)
        as_module = process(*args)
        assert (as_script.returncode, as_script.stdout) == (as_module.code, as_module.out)
        assert as_script.stderr.decode() == as_module.err


@pytest.fixture
def terminal():
    """The end of a pseudoterminal that a program sees."""
    master, slave = pty.openpty()
    yield slave
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_data_is_not_written_to_a_terminal(photo, coded, process, terminal, command):
    done = process(command, photo if command == "encode" else coded, "-", stdout=terminal)
    done.refused(2, "terminal")


@pytest.mark.parametrize("args", [["info", "-"], ["verify", "-"], ["decode", "-", "b.png"], ["encode", "-", "b.twc"]])
def test_a_picture_is_not_read_from_a_terminal(process, terminal, tmp_path, args):
    process(*args, stdin=terminal, cwd=tmp_path).refused(2, "terminal")
    assert not list(tmp_path.iterdir())


def closed(*descriptors: int):
    """For subprocess: the child starts without these."""

    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return {"preexec_fn": close}


@pytest.mark.parametrize("args", [["info", "-"], ["decode", "-", "b.png"], ["encode", "-", "b.twc"]])
def test_a_closed_standard_input_is_unreadable(process, tmp_path, args):
    process(*args, cwd=tmp_path, **closed(0)).refused(3, "closed")


def test_a_closed_standard_output_takes_no_data(process, coded):
    process("decode", coded, "-", **closed(1)).refused(7, "closed")


@pytest.mark.parametrize("args", [["info"], ["info", "--json"], ["--version"]])
@pytest.mark.parametrize(
    "how",
    ["closed", "full", "gone"],
)
def test_a_result_that_cannot_be_printed_is_an_output_error(process, coded, args, how):
    args = [*args, coded] if "info" in args else args
    if how == "closed":
        done = process(*args, **closed(1))
    elif how == "full":
        with Path("/dev/full").open("wb") as full:
            done = process(*args, stdout=full)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        done = process(*args, stdout=writer)
        os.close(writer)
    assert done.code == 7 or (how == "closed" and args == ["--version"])  # click's help and version
    assert len(done.err.splitlines()) <= 1


def test_without_any_stream_a_file_is_encoded_all_the_same(process, photo, tmp_path):
    assert process("encode", photo, tmp_path / "a.twc", **closed(0, 1, 2)).code == 0
    assert process("info", tmp_path / "a.twc").code == 0


def test_a_closed_or_full_standard_error_changes_no_exit_code(process, coded):
    assert process("info", coded, **closed(2)).code == 0
    assert process("info", "nowhere", **closed(2)).code == 3
    with Path("/dev/full").open("wb") as full:
        assert process("info", "nowhere", stderr=full).code == 3


def test_a_usage_error_with_a_full_standard_error_is_still_one(process):
    with Path("/dev/full").open("wb") as full:
        assert process("bogus", stderr=full).code == 2


def test_a_usage_error_never_goes_to_standard_output(process):
    done = process("bogus", **closed(2))
    assert (done.code, done.out) == (2, b"")


def test_a_standard_input_that_does_not_block_is_waited_for(process, coded):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with subprocess.Popen(["bash", "-c", f"sleep 0.7; cat '{coded}'"], stdout=writer):
        os.close(writer)
        done = process("info", "-", stdin=reader)
    os.close(reader)
    assert done.code == 0


def test_a_small_file_needs_little_memory(process, coded):
    import resource

    limit = 600 << 20
    done = process("info", coded, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    assert done.code == 0


def test_a_terminal_as_output_is_refused_before_the_work(twc, photo, monkeypatch, terminal):
    from twcodec.codec import codec

    def no_work(*_):
        raise AssertionError("the picture was encoded before its output was refused")

    monkeypatch.setattr(codec.Codec, "encode_picture", no_work)
    with os.fdopen(os.dup(terminal), "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert twc("encode", photo, "-").code == 2


ENVIRONMENTS = [
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1:strict"},
    {"PYTHONWARNINGS": "error"},
]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_name_in_any_script_is_printed_in_any_locale(process, coded, environment):
    name = coded.with_name("büro 写真.twc")
    coded.rename(name)
    env = {**os.environ, **environment}
    assert process("info", name, env=env).code == 0
    assert process("info", "--json", name, env=env).code == 0
    process("info", f"{name}s", env=env).refused(3, ".twcs")


def test_nothing_a_library_prints_gets_into_the_data(twc, photo, monkeypatch):
    """Once data goes to standard output, prints go to standard error."""
    from twcodec.cli import encode

    def noisy(name, force, fsync, write=encode.write_output):
        manager = write(name, force, fsync=fsync)
        file = manager.__enter__()
        os.write(1, b"noise\n")
        file.write(b"")
        return _Again(manager, file)

    class _Again:
        def __init__(self, manager, file):
            self.manager, self.file = manager, file

        def __enter__(self):
            return self.file

        def __exit__(self, *error):
            return self.manager.__exit__(*error)

    monkeypatch.setattr(encode, "write_output", noisy)
    done = twc("encode", "--quiet", photo, "-")
    assert done.code == 0
    assert b"noise" not in done.out
    assert done.err == "noise\n"


@pytest.mark.parametrize("module", ["torch", "constriction", "safetensors"])
def test_a_dependency_that_is_missing_is_named(photo, module):
    code = f"import sys; sys.modules[{module!r}] = None; from twcodec.cli.main import run; run(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, "encode", photo, "-"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (8, b"")
    assert len(done.stderr.splitlines()) == 1
    assert module in done.stderr.decode()


def test_a_reader_that_has_seen_enough_blames_no_file(coded, tmp_path):
    """`twc info *.twc | head -1`: code 7, not "some files failed"."""
    command = f"{sys.executable} -m twcodec info {coded} {coded} {coded}"
    script = f"set -o pipefail; (sleep 0.5; {command} 2>{tmp_path}/err; echo $? >{tmp_path}/code) | true"
    subprocess.run(["bash", "-c", script], check=False, timeout=60)
    assert (tmp_path / "code").read_text().strip() == "7"
    assert (tmp_path / "err").read_text() == "twc: the reader of standard output went away\n"
