"""The faults: each a function of what a sound run makes and the number of the try, and what came of it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fault_place import DOCUMENTED, FAULTY, OLD, Good, Outcome, Place, ended, in_shell, place, run, signalled, start
from faulty import MOMENTS

Case = Callable[[Good, int], Outcome]
ROOT = os.geteuid() == 0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
RANDOM = 24
"""Tries of signals at random moments."""

_EARLIEST = 0.08
"""Seconds in which the interpreter starts, before a line of twc's is run."""


def at_random(number: signal.Signals) -> Case:
    """Spread over all of the run, by an even step and a random part of one."""

    def case(good: Good, i: int) -> Outcome:
        with place(good, i) as at:
            part = (i // 2 + random.Random(f"{number} {i}").random()) / (RANDOM // 2)
            delay = _EARLIEST + part * (good.seconds[at.command] * 1.1 - _EARLIEST)
            at.judge(signalled(at.line(), (delay, number)), *right(number))
            return after(at, number)

    return case


def right(number: signal.Signals) -> list[int]:
    """The exit codes after a signal: of SIGKILL no program can say a word."""
    return [*DOCUMENTED, 128 + number] if number == signal.SIGKILL else list(DOCUMENTED)


def twice(good: Good, i: int) -> Outcome:
    """As an impatient person does: the second one meets the first one's tidying up."""
    with place(good, i) as at:
        rng = random.Random(f"twice {i}")
        delay = _EARLIEST + (i // 2 + rng.random()) / (RANDOM // 2) * good.seconds[at.command]
        pair = (delay, signal.SIGINT), (rng.random() * 0.05, rng.choice([signal.SIGINT, signal.SIGTERM]))
        at.judge(signalled(at.line(), *pair))
        return after(at, signal.SIGINT)


def at_a_step(number: signal.Signals) -> Case:
    """At every step of writing, for encoding and decoding, with and without an output that is there."""

    def case(good: Good, i: int) -> Outcome:
        with place(good, i + i // len(MOMENTS)) as at:
            program = [sys.executable, FAULTY, MOMENTS[i % len(MOMENTS)], number.name]
            at.judge(run(at.line("--fsync", program=program)), *right(number))
            return after(at, number)

    return case


def after(at: Place, number: signal.Signals) -> Outcome:
    """SIGKILL may leave a temporary file, and the same command works all the same."""
    at.count_left(allowed=number == signal.SIGKILL)
    if number == signal.SIGKILL:
        at.works_now()
    return at.outcome


def refused_by_the_system(what: str, *moments: str) -> Case:
    """A system call has this error, at each of these moments."""

    def case(good: Good, i: int) -> Outcome:
        moment = moments[i % len(moments)]
        with place(good, i // len(moments)) as at:
            done = run(at.line("--fsync", program=[sys.executable, FAULTY, moment, what]))
            at.judge(done, *((3,) if moment == "read" else (7, 0) if moment in ("rename", "unlink") else (7,)))
            at.count_left()
            at.works_now()
            return at.outcome

    return case


@contextlib.contextmanager
def small_disk(megabytes: str) -> Iterator[Path]:
    """A file system of its own."""
    with tempfile.TemporaryDirectory(prefix="fault-disk-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def full_disk(good: Good, i: int) -> Outcome:
    """A real one where this is the superuser's, else a limit on the size of files."""
    if not ROOT:
        return full_by_limit(good, i)
    with small_disk("64k") as disk, place(good, i, disk) as at:
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        at.judge(run(at.line()), 7)
        at.count_left()
        (disk / "filler").unlink()
        at.works_now()
        return at.outcome


def full_by_limit(good: Good, i: int) -> Outcome:
    with place(good, i) as at:
        at.judge(in_shell('ulimit -f 0; exec "$@"', at.line()), 7)
        at.count_left()
        return at.outcome


def read_only(good: Good, i: int) -> Outcome:
    with small_disk("64k") as disk, place(good, i, disk) as at:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        at.judge(run(at.line()), 7)
        at.count_left()
        return at.outcome


def vanishing_folder(good: Good, i: int) -> Outcome:
    """The folder is removed meanwhile, with all that is in it."""
    with place(good, i) as at:
        inner = at.folder / "inner"
        inner.mkdir()
        process = start(at.line(out=inner / at.out.name))
        time.sleep((i + 1) / 9 * good.seconds[at.command])
        shutil.rmtree(inner, ignore_errors=True)
        at.check_end(ended(process), 0, 7)
        at.count_left()
        return at.outcome


CLOSED = {
    'exec "$@" | head -c 10 > /dev/null; exit ${PIPESTATUS[0]}': (0, 7),
    'exec "$@" | true; exit ${PIPESTATUS[0]}': (0, 7),
    'exec "$@" >&-': (7,),
    'exec "$@" <&- >/dev/null': (0,),
    'exec "$@" 2>&- >/dev/null': (0,),
    'exec "$@" <&- >&- 2>&-': (7,),
    'exec "$@" > /dev/full': (7,),
    'exec "$@" 2> /dev/full > /dev/null': (0,),
}
"""What becomes of the streams, where the output goes to a pipe, and the exit codes that are right."""


def closed_streams(good: Good, i: int) -> Outcome:
    script, codes = list(CLOSED.items())[i // 2 % len(CLOSED)]
    with place(good, i % 2) as at:
        at.check_end(in_shell(script, at.line(out="-")), *codes)
        at.count_left()
        return at.outcome


def closed_for_files(good: Good, i: int) -> Outcome:
    """The streams are closed or full, and the output is a file: that appears all the same."""
    scripts = ['exec "$@" >&-', 'exec "$@" <&-', 'exec "$@" 2>&-', 'exec "$@" <&- >&- 2>&-', 'exec "$@" 2>/dev/full']
    with place(good, i) as at:
        at.judge(in_shell(scripts[i % len(scripts)], at.line()), 0)
        at.count_left()
        return at.outcome


def full_device(good: Good, i: int) -> Outcome:
    with place(good, i) as at:
        at.check_end(run(at.line(out="/dev/full")), 7)
        return at.outcome


def other_file_system(good: Good, i: int) -> Outcome:
    with place(good, i) as at, tempfile.TemporaryDirectory(prefix="fault-", dir="/dev/shm") as elsewhere:
        out = Path(elsewhere) / at.out.name
        if at.old:
            out.write_bytes(OLD)
        at.judge(run(at.line("--fsync", out=out)), 0, out=out)
        at.outcome.wrong += [f"beside it: {p}" for p in Path(elsewhere).iterdir() if p != out]
        return at.outcome


def symbolic_links(good: Good, i: int) -> Outcome:
    """To a file, to nothing, to itself, to another file system, and an input that is one."""
    with place(good, i % 2) as at, tempfile.TemporaryDirectory(prefix="fault-", dir="/dev/shm") as elsewhere:
        link, kind = at.folder / "link", i // 2 % 5
        link.symlink_to((at.out, at.folder / "nothing", "link", Path(elsewhere) / "there", at.source)[kind])
        if kind == 4:
            at.judge(run(at.line(source=link)), 0)
        elif kind == 2:
            at.judge(run(at.line(out=link)), 7)
        else:
            at.judge(run(at.line(out=link)), 0, out=link)
        at.outcome.lost += ["the link became a file"] * (not link.is_symlink())
        at.count_left()
        return at.outcome


def two_writers(good: Good, i: int) -> Outcome:
    """Two processes, one name: with -f either may win, without it exactly one does."""
    with place(good, i % 2) as at:
        force = bool(i // 2 % 2)
        line = [word for word in at.line() if force or word != "-f"]
        done = [ended(process) for process in [start(line), start(line)]]
        for one in done:
            at.judge(one, *((0,) if force else (0, 7)))
        codes = sorted(one.code or 0 for one in done)
        at.outcome.wrong += [f"{codes}"] * (codes != ([0, 0] if force else [0, 7]))
        at.count_left()
        return at.outcome


TIMES = (0, -86400, 2**32 + 86400, 4102444800)
"""Of a source: 1970, the day before, 2106, 2100."""


def clocks(good: Good, i: int) -> Outcome:
    """Time that goes backwards, and sources from long ago and far ahead."""
    with place(good, i % 2) as at:
        kind = i // 2 % (len(TIMES) + 1)
        if kind < len(TIMES):
            os.utime(at.source, (TIMES[kind], TIMES[kind]))
            at.judge(run(at.line()), 0)
        else:
            at.judge(run(at.line(program=[sys.executable, FAULTY, "clock", "EIO"])), 0)
        at.count_left()
        return at.outcome


LOCALES = (
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"LC_ALL": "tr_TR.UTF-8"},
    {"LC_ALL": "nonsense.nonsense"},
    {"PYTHONIOENCODING": "ascii"},
    {"LANG": "", "LC_ALL": "", "PYTHONIOENCODING": "utf-16"},
)


def locales(good: Good, i: int) -> Outcome:
    """With a name that not all of them can write."""
    with place(good, i % 2) as at:
        source = at.folder / f"ünïcödé 絵{at.source.suffix}"
        at.source.rename(source)
        at.judge(run(at.line(source=source), env={**os.environ, **LOCALES[i // 2 % len(LOCALES)]}), 0)
        at.count_left()
        return at.outcome


NAMES = (b"\xff\xfe", b"two\nlines", b"-q", b"x" * 251, b"x" * 260, b" ", b"\x1b[31m", "e\u0301 \u202e".encode())
"""Of outputs, without their extension; one is longer than any file system takes."""


def names(good: Good, i: int) -> Outcome:
    with place(good, i % 2) as at:
        name = NAMES[i // 2 % len(NAMES)] + os.fsencode(at.out.suffix)
        out = at.folder / os.fsdecode(name)
        at.old, long = None, len(name) > 255
        options = {"cwd": at.folder} if name.startswith(b"-") else {}
        done = run(at.line(out=os.fsdecode(name) if options else out), **options)
        at.judge(done, 7 if long else 0, out=at.folder / "none" if long else out)
        at.count_left()
        return at.outcome


def temporary_folder(good: Good, i: int) -> Outcome:
    """TMPDIR that is not there, that is full, or that is a file: twc writes beside its output."""
    with place(good, i % 2) as at:
        bad = (at.folder / "none", Path("/dev/full"), at.source)[i // 2 % 3]
        at.judge(run(at.line(), env={**os.environ, "TMPDIR": str(bad)}), 0)
        at.count_left()
        return at.outcome


def no_working_folder(good: Good, i: int) -> Outcome:
    with place(good, i) as at:
        gone = at.folder / "gone"
        gone.mkdir()
        script = f'cd {gone}; rmdir {gone}; exec "$@"'
        at.judge(in_shell(script, at.line()), 0)
        at.count_left()
        return at.outcome


_named = {f"{number.name} at a random moment": (at_random(number), RANDOM) for number in SIGNALS}
_named |= {f"{number.name} at each step of writing": (at_a_step(number), 2 * len(MOMENTS)) for number in SIGNALS}
CASES: dict[str, tuple[Case, int]] = {
    **_named,
    "two signals within 50 ms": (twice, RANDOM),
    "ENOSPC: a full disk" if ROOT else "EFBIG: a limit on files": (full_disk, 4),
    "EFBIG: `ulimit -f 0`": (full_by_limit, 4),
    "ENOSPC amid writing": (refused_by_the_system("ENOSPC", "open", "write", "half", "fsync"), 8),
    "EIO at each step": (refused_by_the_system("EIO", "read", "open", "write", "half", "fsync", "rename"), 12),
    "EIO when the folder is synced": (refused_by_the_system("EIO", "folder"), 2),
    "EDQUOT amid writing": (refused_by_the_system("EDQUOT", "write", "half"), 4),
    **({"EROFS: mounted read-only": (read_only, 4)} if ROOT else {}),
    "the folder vanishes meanwhile": (vanishing_folder, 8),
    "closed and full streams, output to a pipe": (closed_streams, 2 * len(CLOSED)),
    "closed and full streams, output to a file": (closed_for_files, 5),
    "/dev/full as the output": (full_device, 2),
    "output on another file system": (other_file_system, 4),
    "symbolic links: to a file, nothing, itself, elsewhere": (symbolic_links, 10),
    "two writers of one name": (two_writers, 12),
    "clocks: backwards, 1970, 2106": (clocks, 2 * len(TIMES) + 2),
    "locales": (locales, 2 * len(LOCALES)),
    "names: bytes, line feeds, dashes, 255 and 264 bytes": (names, 2 * len(NAMES)),
    "TMPDIR missing, full, a file": (temporary_folder, 6),
    "no working folder": (no_working_folder, 4),
}
