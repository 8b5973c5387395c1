"""An output appears whole or not at all, and nothing that was there before is lost."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

import twcodec
from twcodec.errors import OutputError
from twcodec.imaging.files import write_output

PRECIOUS = b"made by hand, nowhere else"


@pytest.fixture
def precious(tmp_path) -> Path:
    path = tmp_path / "out.twc"
    path.write_bytes(PRECIOUS)
    return path


def test_an_output_that_exists_is_kept_without_force(twc, photo, coded, precious, tmp_path):
    twc("encode", photo, precious).refused(7, "out.twc", "exists already", "-f")
    (tmp_path / "out.png").write_bytes(PRECIOUS)
    twc("decode", coded, tmp_path / "out.png").refused(7, "out.png", "exists already", "-f")
    assert precious.read_bytes() == (tmp_path / "out.png").read_bytes() == PRECIOUS


def test_force_replaces_it(twc, photo, coded_bytes, precious, tmp_path, folder):
    assert twc("encode", "-f", "--seed", 1, photo, precious).code == 0
    assert precious.read_bytes() == coded_bytes
    assert twc("decode", "--force", precious, photo).code == 0
    assert folder() == {"photo.png", "out.twc"}


def broken(coded: bytes) -> dict[str, tuple[str, bytes, tuple[str, ...], int]]:
    """What can be wrong with an input: command, its bytes, options, exit code."""
    flipped = bytearray(coded)
    flipped[len(coded) // 2] ^= 8
    later = coded[:8] + b"\2" + coded[9:]
    png = io.BytesIO()
    Image.new("RGB", (100, 100), "red").save(png, "PNG")
    return {
        "not a picture": ("encode", b"hello", (), 3),
        "half a picture": ("encode", png.getvalue()[:60], (), 3),
        "quality too high": ("encode", png.getvalue(), ("-q", "9"), 2),
        "unknown transform": ("encode", png.getvalue(), ("--transforms", "warp"), 2),
        "too many pixels": ("encode", png.getvalue(), ("--max-pixels", "9999"), 6),
        "no such device": ("encode", png.getvalue(), ("--device", "cuda:77"), 8),
        "no such model": ("encode", png.getvalue(), ("--model", "mbt2018"), 5),
        "not twc": ("decode", b"hello", (), 3),
        "cut": ("decode", coded[:-1], (), 4),
        "flipped bit": ("decode", bytes(flipped), (), 4),
        "later version": ("decode", later, (), 5),
        "too many pixels to decode": ("decode", coded, ("--max-pixels", "100"), 6),
        "no such device to decode": ("decode", coded, ("--device", "cuda:77"), 8),
        "no such model to decode": ("decode", coded, ("--model", "nosuch"), 5),
    }


@pytest.mark.parametrize("what", broken(b"0" * 100))
def test_a_failure_leaves_the_existing_output_as_it_was_and_nothing_else(twc, coded_bytes, tmp_path, folder, what):
    command, data, options, code = broken(coded_bytes)[what]
    (tmp_path / "in").write_bytes(data)
    (tmp_path / "out").write_bytes(PRECIOUS)
    done = twc(command, "-f", *options, tmp_path / "in", tmp_path / "out")
    about_the_options = code in (2, 8) or "--model" in options
    done.refused(code, *([] if about_the_options else ["/in: "]))
    assert (tmp_path / "out").read_bytes() == PRECIOUS
    assert folder() == {"in", "out"}

    (tmp_path / "out").unlink()
    assert twc(command, *options, tmp_path / "in", tmp_path / "out").code == code
    assert twc(command, *options, "-", "-", stdin=data).code == code
    assert folder() == {"in"}


def test_symbols_that_do_not_decode_are_not_written(twc, photo, tmp_path, folder, monkeypatch):
    from twcodec.exact.hyperprior import Hyperprior

    monkeypatch.setattr(Hyperprior, "verify", lambda *_: False)
    twc("encode", photo, tmp_path / "a.twc").refused(9, "photo.png", "do not decode")
    assert folder() == {"photo.png"}
    assert twc("encode", "--no-verify", photo, tmp_path / "a.twc").code == 0


def test_an_output_without_a_folder(twc, photo, coded, tmp_path, folder):
    twc("encode", photo, tmp_path / "none" / "a.twc").refused(7, "a.twc", "none", "does not exist")
    twc("encode", photo, photo / "a.twc").refused(7, "a.twc")
    twc("encode", photo, tmp_path).refused(7, str(tmp_path), "folder")
    twc("decode", coded, tmp_path, "-f").refused(7, str(tmp_path), "folder")
    assert folder() == {"photo.png", "photo.twc"}


def test_a_folder_that_may_not_be_written(twc, photo, tmp_path, mortal):
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "a.twc").write_bytes(PRECIOUS)
    closed.chmod(0o500)
    twc("encode", photo, closed / "b.twc").refused(7, "b.twc", "Permission denied")
    twc("encode", "-f", photo, closed / "a.twc").refused(7, "a.twc", "Permission denied")
    assert (closed / "a.twc").read_bytes() == PRECIOUS
    assert len(list(closed.iterdir())) == 1


def test_a_folder_that_may_not_be_entered(twc, photo, tmp_path, mortal):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o000)
    twc("encode", photo, closed / "b.twc").refused(7, "b.twc", "Permission denied")


def test_an_input_that_may_not_be_read(twc, photo, coded, tmp_path, mortal):
    photo.chmod(0o200)
    coded.chmod(0o200)
    twc("encode", photo, tmp_path / "b.twc").refused(3, "photo.png", "Permission denied")
    twc("decode", coded, tmp_path / "b.png").refused(3, "photo.twc", "Permission denied")


def test_a_working_folder_that_may_not_be_written_is_no_obstacle(twc, photo, tmp_path, monkeypatch, mortal):
    here = tmp_path / "here"
    here.mkdir()
    here.chmod(0o500)
    monkeypatch.chdir(here)
    assert twc("encode", "../photo.png", "../a.twc").code == 0
    assert twc("decode", "../a.twc", "-").code == 0


@pytest.mark.parametrize("link", ["itself", "symbolic link", "hard link", "another spelling"])
def test_the_output_must_not_be_the_input(twc, photo, tmp_path, link):
    before = photo.read_bytes()
    out = tmp_path / "out.png"
    if link == "symbolic link":
        out.symlink_to("photo.png")
    elif link == "hard link":
        out.hardlink_to(photo)
    else:
        out = photo if link == "itself" else f"{tmp_path}/./photo.png"
    twc("encode", "-f", photo, out).refused(7, "the output is the input")
    assert photo.read_bytes() == before


@contextlib.contextmanager
def largest_file(size: int):
    """As on a disk with `size` bytes left."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing(twc, photo, coded, precious, tmp_path, folder):
    with largest_file(400):
        done = twc("encode", "-q", 7, photo, tmp_path / "b.twc")
        forced = twc("encode", "-q", 7, "-f", photo, precious)
        picture = twc("decode", coded, tmp_path / "b.png")
    done.refused(7, "b.twc", "File too large")
    forced.refused(7, "out.twc", "File too large")
    picture.refused(7, "b.png", "File too large")
    assert precious.read_bytes() == PRECIOUS
    assert folder() == {"photo.png", "photo.twc", "out.twc"}


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_full_device_is_an_error(twc, photo, coded, command):
    source = photo if command == "encode" else coded
    twc(command, source, "/dev/full").refused(7, "/dev/full", "No space left")
    with Path("/dev/full").open("wb") as full:
        twc(command, source, "-", stdout=full.fileno()).refused(7, "No space left")


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_reader_that_goes_away_is_an_error_without_a_traceback(twc, photo, coded, command):
    reader, writer = os.pipe()
    os.close(reader)
    twc(command, photo if command == "encode" else coded, "-", stdout=writer).refused(7, "reader")
    os.close(writer)


def test_a_reader_that_stops_halfway_is_an_error_without_a_traceback(codec, astronaut, tmp_path, shell_env):
    """More than a pipe holds, so that the decoder is still writing when head has enough."""
    (tmp_path / "big.twc").write_bytes(codec.encode(Image.fromarray(astronaut)))
    line = '$TWC decode --format bmp big.twc - | head -c 10; echo " ${PIPESTATUS[0]}"'
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=shell_env, capture_output=True, check=True)
    assert done.stdout.endswith(b" 7\n")
    assert len(done.stdout) == 10 + 3
    assert len(done.stderr.splitlines()) == 1


def test_devices_are_written_as_they_are_and_need_no_force(twc, photo):
    null = Path("/dev/null")
    before = null.stat().st_ino
    assert twc("encode", photo, null).code == 0
    assert null.stat().st_ino == before


def test_a_named_pipe_is_written_and_stays_one(twc, photo, coded_bytes, tmp_path, folder):
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    assert twc("encode", "--seed", 1, photo, tmp_path / "pipe").code == 0
    reader.join()
    assert got == [coded_bytes]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert folder() == {"photo.png", "pipe"}


def test_a_symbolic_link_stays_one_and_its_target_is_replaced(twc, photo, coded_bytes, precious, tmp_path):
    (tmp_path / "there").mkdir()
    precious.rename(tmp_path / "there" / "real.twc")
    (tmp_path / "link.twc").symlink_to("there/real.twc")
    twc("encode", photo, tmp_path / "link.twc").refused(7, "exists already")
    assert twc("encode", "-f", "--seed", 1, photo, tmp_path / "link.twc").code == 0
    assert (tmp_path / "link.twc").readlink() == Path("there/real.twc")
    assert (tmp_path / "there" / "real.twc").read_bytes() == coded_bytes


def test_a_link_to_nothing_needs_force_and_makes_its_target(twc, photo, tmp_path):
    (tmp_path / "link.twc").symlink_to("later.twc")
    twc("encode", photo, tmp_path / "link.twc").refused(7, "exists already")
    assert twc("encode", "-f", photo, tmp_path / "link.twc").code == 0
    assert (tmp_path / "link.twc").is_symlink()
    assert (tmp_path / "later.twc").stat().st_size > 100


def test_a_link_to_itself_is_no_place_for_an_output(twc, photo, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    twc("encode", "-f", photo, tmp_path / "loop").refused(7, "loop")
    assert (tmp_path / "loop").is_symlink()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(twc, photo, tmp_path, umask):
    before = os.umask(umask)
    try:
        assert twc("encode", photo, tmp_path / "a.twc").code == 0
        assert twc("decode", tmp_path / "a.twc", tmp_path / "b.png").code == 0
    finally:
        os.umask(before)
    for name in ("a.twc", "b.png"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask


def while_reading(photo: Path, pipe: Path, act) -> threading.Thread:
    """Feed a command through a named pipe; `act` happens after it has checked its output, before it has its input."""
    os.mkfifo(pipe)

    def feed() -> None:
        with pipe.open("wb") as writer:  # waits until the command opens the other end
            act()
            writer.write(photo.read_bytes())

    thread = threading.Thread(target=feed)
    thread.start()
    return thread


def test_an_output_that_appears_meanwhile_is_kept(twc, photo, tmp_path, folder):
    out = tmp_path / "a.twc"
    thread = while_reading(photo, tmp_path / "pipe", lambda: out.write_bytes(PRECIOUS))
    twc("encode", tmp_path / "pipe", out).refused(7, "a.twc", "exists already")
    thread.join()
    assert out.read_bytes() == PRECIOUS
    assert folder() == {"photo.png", "pipe", "a.twc"}


def test_an_output_that_appears_at_the_last_moment_is_kept(tmp_path, folder):
    """Between the last look and the rename."""
    out = tmp_path / "a.twc"
    output = write_output(str(out), force=False)
    output.__enter__().write(b"new")
    out.write_bytes(PRECIOUS)
    with pytest.raises(OutputError, match="exists already"):
        output.__exit__(None, None, None)
    assert out.read_bytes() == PRECIOUS
    assert folder() == {"a.twc"}


@pytest.mark.parametrize("out", ["exists.twc", "none/a.twc", "."])
def test_an_output_that_cannot_be_is_refused_before_the_work(twc, photo, tmp_path, monkeypatch, out):
    from twcodec.codec import codec

    def no_work(*_):
        raise AssertionError("the picture was encoded before its output was refused")

    monkeypatch.setattr(codec.Codec, "encode_picture", no_work)
    (tmp_path / "exists.twc").touch()
    assert twc("encode", photo, tmp_path / out).code == 7


def test_a_folder_that_disappears_meanwhile_is_an_error(twc, photo, tmp_path):
    (tmp_path / "there").mkdir()
    thread = while_reading(photo, tmp_path / "pipe", (tmp_path / "there").rmdir)
    twc("encode", tmp_path / "pipe", tmp_path / "there" / "a.twc").refused(7, "a.twc", "there")
    thread.join()


def test_of_several_writers_to_one_name_one_wins_and_its_file_is_whole(photo, tmp_path, folder, capfd):
    from twcodec.cli.main import _code_of

    out = tmp_path / "a.twc"

    def write(quality: int) -> int:
        return _code_of(["encode", "-q", str(quality), str(photo), str(out)])

    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(write, (1, 3, 5, 7)))
    assert sorted(codes) == [0, 7, 7, 7]
    assert twcodec.info(out.read_bytes()).quality == (1, 3, 5, 7)[codes.index(0)]
    assert folder() == {"photo.png", "a.twc"}


HANGS = """
import os, sys, time
def wait(*_, **__):
    print("ready", flush=True)
    time.sleep(60)
os.link = os.replace = wait
from twcodec.cli.main import run
run(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SIGINT", 130),
        ("SIGTERM", 143),
        ("SIGHUP", 129),
    ],
)
def test_a_signal_before_the_rename_leaves_nothing(photo, precious, tmp_path, folder, name, code):
    """The process stops where the temporary file is complete and has not its name yet."""
    import signal

    command = [sys.executable, "-c", HANGS, "encode", "-f", str(photo), str(precious)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline() == b"ready\n"
        assert len(folder()) == 3
        run.send_signal(getattr(signal, name))
        err = run.stderr.read().decode()
        assert run.wait(30) == code
    assert precious.read_bytes() == PRECIOUS
    assert folder() == {"photo.png", "out.twc"}
    assert "Traceback" not in err
    assert err.strip() == ("twc: interrupted" if name == "SIGINT" else "")


def test_a_replaced_file_stays_as_private_as_it_was(twc, photo, precious):
    precious.chmod(0o600)
    assert twc("encode", "-f", photo, precious).code == 0
    assert stat.S_IMODE(precious.stat().st_mode) == 0o600


def test_an_empty_input_name_is_usage(twc, precious):
    twc("encode", "", precious).refused(2, "empty file name")


def test_a_picture_name_for_a_twc_file_is_remarked_on(twc, photo, tmp_path):
    assert "TWC file, whatever its name" in twc("encode", photo, tmp_path / "a.jpg").err


def test_three_letters_are_no_truncated_picture(twc, tmp_path):
    (tmp_path / "abc.txt").write_text("abc")
    twc("encode", tmp_path / "abc.txt", tmp_path / "x.twc").refused(3, "no picture format that Pillow reads")
