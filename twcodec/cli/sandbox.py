"""Decoding in a process that may do little: what a file from a stranger breaks, it breaks there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from typing import IO, Any

from twcodec import isolated
from twcodec.codec import resources
from twcodec.errors import CorruptError, ExitCode, LimitError, MissingError, TwcError

MOST_SECONDS = 600.0
"""Where nobody says how many."""

_BESIDE = 1 << 30
"""Bytes beside the picture's: torch's own, and what libraries map."""

_BYTES_A_PIXEL, _LEAST_BYTES = 16, 1 << 26
"""Of the picture file that comes back, at most: eight bytes a pixel, its metadata, and whatever a format adds."""

_MOST_WORDS, _BLOCK = 1 << 16, 1 << 16

_PATIENCE = 0.05
"""Seconds between two looks at how much has come."""

_KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TWC_MODEL_DIR", "GOMP_SPINCOUNT", "VIRTUAL_ENV", "PYTHONPATH")
"""Environment variables that the process sees."""


def decoded(
    data: bytes, arguments: list[str], timeout: float | None, max_memory: int | None, max_pixels: int
) -> tuple[bytes, dict[str, Any]]:
    """What `twc decode --json - -` with these arguments makes of the data and says of it, in a process of its own.

    It may write to no file, dump no core, and take no more memory and processor time than it is given. Errors: its own;
    LimitError: the time is over; CorruptError: it crashed. MissingError: not on this system.
    """
    try:
        import resource  # noqa: F401
    except ImportError:
        raise MissingError("--sandbox needs resource limits, which this system does not have") from None
    seconds, memory = timeout or MOST_SECONDS, resources.budget(max_memory)
    command = [*isolated.command("twcodec.__main__"), "decode", "--quiet", "--json", *arguments, "-", "-"]
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        preexec_fn=_limits(seconds, memory),  # no other thread runs here
    )
    most = max(_LEAST_BYTES, _BYTES_A_PIXEL * max_pixels)
    try:
        out, words = _talk(process, data, seconds, most)
    finally:
        process.kill()
        process.wait()
    if len(out) > most:
        raise LimitError(f"a picture file of over {most} bytes came back from the sandbox")
    if process.returncode:
        raise _error(process.returncode, words.decode(errors="replace"))
    return out, json.loads(words.splitlines()[-1])


def _talk(process: subprocess.Popen[bytes], data: bytes, seconds: float, most: int) -> tuple[bytes, bytes]:
    """Give it the data, and take what it says on both outputs, but not much more than `most` bytes.

    LimitError: it has not ended after so many seconds.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    out, words = bytearray(), bytearray()
    threads = [
        threading.Thread(target=_feed, args=(process.stdin, data), daemon=True),
        threading.Thread(target=_drain, args=(process.stdout, out, most), daemon=True),
        threading.Thread(target=_drain, args=(process.stderr, words, _MOST_WORDS), daemon=True),
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    while process.poll() is None and len(out) <= most and time.monotonic() < end:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
    late = process.poll() is None and len(out) <= most
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # and what it may have started, which holds the pipes
    for thread in threads:
        thread.join()
    process.stdout.close()
    process.stderr.close()
    if late:
        raise LimitError(f"not done after {seconds:g} seconds (--timeout)")
    return bytes(out), bytes(words)


def _feed(file: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError), file:
        file.write(data)


def _drain(file: IO[bytes], into: bytearray, most: int) -> None:
    """Until its end, or until there is too much."""
    while len(into) <= most and (block := file.read(_BLOCK)):
        into += block


def _limits(seconds: float, memory: int) -> Any:
    """What the process does to itself before it becomes twc."""
    processors = resources.processors()

    def limit() -> None:
        import resource

        for which, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CPU, int(seconds * processors) + 1),
            (resource.RLIMIT_DATA, memory + _BESIDE),
        ):
            hard = resource.getrlimit(which)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(which, (most, most))

    return limit


def _error(code: int, words: str) -> TwcError:
    """The error that the process had. Its words are its last line's, without the command's and the pipe's names."""
    line = (words.strip().splitlines() or [""])[-1].removeprefix("twc: ").removeprefix("standard input: ")
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        if -code in (signal.SIGXCPU, signal.SIGKILL):
            return LimitError(f"the sandbox ended it by {name}: it took too much time or memory")
        return CorruptError(f"decoding crashed in the sandbox ({name}); please report this file")
    kinds = {int(kind.exit_code): kind for kind in reversed(TwcError.__subclasses__())}
    return kinds.get(code, CorruptError)(line or f"decoding ended with code {ExitCode(code)}")
