"""twc in a process in which one thing goes wrong, at one moment.

    python benchmarks/faulty.py MOMENT WHAT ARGUMENTS OF TWC...

WHAT is a signal (SIGTERM), which comes at that moment, or an error (EIO) that the system call has then. MOMENT is one
of `MOMENTS`, the steps of writing an output; "read", of the input; or "clock", and time goes backwards all along.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from typing import Any

MOMENTS = ("open", "opened", "write", "half", "written", "fsync", "rename", "renamed", "unlink", "folder")
"""Before and after the temporary file is made; before, amid and after its bytes are written; before it is synced;
before and after it gets its name; before the temporary one is removed; before the folder is synced."""

OURS = ".twc-"
"""In the names of temporary files."""


class Fault:
    """What goes wrong, once."""

    def __init__(self, moment: str, what: str) -> None:
        self.moment, self.what, self.happened = moment, what, False

    def now(self, moment: str) -> None:
        if moment != self.moment or self.happened:
            return
        self.happened = True
        if self.what.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, self.what))
        else:
            number = getattr(errno, self.what)
            raise OSError(number, os.strerror(number))


def around(name: str, fault: Fault, before: Callable[[Any], str], after: str = "") -> None:
    """Put the fault before or after a function of `os`. before: its moment, from the first argument."""
    real = getattr(os, name)

    def call(first: Any, *rest: Any, **more: Any) -> Any:
        moment = before(first)
        fault.now(moment)
        result = real(first, *rest, **more)
        if moment:
            fault.now(after)
        return result

    setattr(os, name, call)


def raw_file(fault: Fault) -> type[io.FileIO]:
    """Files whose writing and reading may go wrong."""

    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            fault.now("write")
            written = super().write(bytes(data)[: len(data) // 2])
            fault.now("half")
            written += super().write(bytes(data)[written:])
            fault.now("written")
            return written

        def readinto(self, buffer: Any) -> Any:
            fault.now("read")
            return super().readinto(buffer)

        def readall(self) -> bytes:
            fault.now("read")
            return super().readall()

    return Raw


def install(fault: Fault, source: str) -> None:
    """source: the input's name, of whose reading "read" is."""
    Raw, fdopen, opened = raw_file(fault), os.fdopen, io.open
    of_ours = lambda moment: lambda path: moment if OURS in str(path) else ""  # noqa: E731
    around("open", fault, of_ours("open"), "opened")
    around("link", fault, of_ours("rename"), "renamed")
    around("replace", fault, of_ours("rename"), "renamed")
    around("unlink", fault, of_ours("unlink"))
    around("fsync", fault, lambda fd: "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "fsync")

    def fdopen_(fd: int, mode: str = "r", *rest: Any, **more: Any) -> Any:
        return io.BufferedWriter(Raw(fd, "wb")) if mode == "wb" else fdopen(fd, mode, *rest, **more)

    def open_(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        ours = mode == "rb" and not isinstance(file, int) and os.fspath(file) == source
        return io.BufferedReader(Raw(file, "rb")) if ours else opened(file, mode, *rest, **more)

    os.fdopen, io.open = fdopen_, open_  # type: ignore[assignment]
    if fault.moment == "clock":
        back = itertools.count(int(time.time()), -3600)
        time.time = lambda: float(next(back))  # type: ignore[assignment]


if __name__ == "__main__":
    install(Fault(*sys.argv[1:3]), sys.argv[-2])
    del sys.argv[1:3]
    from twcodec.__main__ import main

    main()
