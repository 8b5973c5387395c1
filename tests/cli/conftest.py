"""The command line as a function and as a process, and pictures to feed it.

`twc` runs in this process, since one that imports torch costs seconds; `process` is for what only a process has.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from twcodec.cli.main import _code_of


@dataclass(frozen=True)
class Result:
    """What a command did: exit code, standard output, standard error."""

    code: int
    out: bytes
    err: str

    def refused(self, code: int, *words: str) -> None:
        """One line that names what is wrong, nothing on standard output, and this exit code."""
        assert (self.code, self.out) == (code, b""), self
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("twc: "), self.err
        for word in words:
            assert word in lines[0], self.err

    def misused(self, *words: str) -> None:
        """A usage error, click's or ours: exit code 2, nothing on standard output, the reason in the last line."""
        assert (self.code, self.out) == (2, b""), self
        for word in words:
            assert word in self.err.splitlines()[-1], self.err


@pytest.fixture(scope="package", autouse=True)
def small_and_quick() -> Iterator[None]:
    """One model for all, since loading it takes most of a second, and one thread, which small pictures need no more."""
    import torch

    from twcodec.codec import codec

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "open_codec", functools.cache(codec.open_codec))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def twc(capfdbinary, monkeypatch, tmp_path) -> Callable[..., Result]:
    """Run a command in this process: twc("info", path, stdin=bytes, stdout=descriptor)."""

    def run(*args: Any, stdin: bytes | None = None, stdout: int | None = None) -> Result:
        capfdbinary.readouterr()
        with contextlib.ExitStack() as stack:
            if stdin is not None:
                monkeypatch.setattr(sys, "stdin", stack.enter_context(_as_stdin(stdin)))
            before = os.dup(1)  # data on standard output moves descriptor 1 to standard error for good
            stack.callback(os.close, before)
            stack.callback(os.dup2, before, 1)
            if stdout is not None:
                os.dup2(stdout, 1)
            code = _code_of([os.fsdecode(a) if isinstance(a, (bytes, os.PathLike)) else str(a) for a in args])
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err, err.decode()
        return Result(code, out, err.decode())

    return run


def _as_stdin(data: bytes) -> io.TextIOWrapper:
    descriptor = os.memfd_create("stdin")
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return io.TextIOWrapper(os.fdopen(descriptor, "rb"))


@pytest.fixture
def process() -> Callable[..., Result]:
    """Run `python -m twcodec` as a process: process("info", path, **arguments of subprocess.run)."""

    def run(*args: Any, **options: Any) -> Result:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        if "input" in options:
            del streams["stdin"]
        command = [sys.executable, "-m", "twcodec", *map(str, args)]
        done = subprocess.run(command, check=False, timeout=120, **{**streams, **options})
        err = (done.stderr or b"").decode(errors="replace")
        assert "Traceback" not in err, err
        assert "Exception ignored" not in err, err
        return Result(done.returncode, done.stdout or b"", err)

    return run


@pytest.fixture
def shell_env() -> dict[str, str]:
    """For commands in a shell: $TWC runs twc."""
    return {**os.environ, "TWC": f"{sys.executable} -m twcodec"}


@pytest.fixture(scope="session")
def pixels(astronaut) -> np.ndarray:
    """(96, 120, 3) of a photograph."""
    return astronaut[40:136, 180:300]


@pytest.fixture
def photo(pixels, tmp_path) -> Path:
    """A small photograph as PNG, alone in its folder."""
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="package")
def coded_bytes(codec, pixels) -> bytes:
    """The photograph as a TWC file, made with seed 1."""
    return codec.encode(Image.fromarray(pixels), seed=1)


@pytest.fixture
def coded(coded_bytes, tmp_path) -> Path:
    """The photograph as a TWC file, alone in its folder."""
    path = tmp_path / "photo.twc"
    path.write_bytes(coded_bytes)
    return path


@pytest.fixture
def folder(tmp_path) -> Callable[[], set[str]]:
    """The names in the test's folder, hidden ones too."""
    return lambda: {path.name for path in tmp_path.iterdir()}


@pytest.fixture
def mortal() -> Iterator[None]:
    """A superuser becomes one to whom permissions apply, for this test."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    held = (ctypes.c_uint32 * 6)()
    if libc.capget(header, held) != 0:
        pytest.skip("capabilities cannot be read here")
    fewer = (ctypes.c_uint32 * 6)(*held)
    fewer[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, fewer) == 0
    yield
    assert libc.capset(header, held) == 0
