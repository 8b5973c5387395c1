"""One try of a fault: a folder with an input and perhaps an output, a run of twc in it, and what became of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

TWC = str(Path(sys.executable).with_name("twc"))
FAULTY = str(Path(__file__).with_name("faulty.py"))
OLD = b"made by hand, nowhere else"
LIMIT = 60
"""Seconds, after which a run hangs."""

DOCUMENTED = frozenset([*range(10), 129, 130, 143])
"""Exit codes of docs/errors.md, but for 70, which is a bug. Death by a signal counts as a shell has it."""

NEVER_SAID = ("Traceback", "Exception ignored", "internal error", "Fatal Python error", "terminate called")
OURS = ".twc-*.tmp"


@dataclass
class Done:
    """What a run came to. code: None if it hung."""

    code: int | None
    err: str


@dataclass
class Outcome:
    """What became of a try.

    lost: a file is neither the old one nor the whole new one. left: temporary files. early: the signal came before twc.
    """

    lost: list[str] = field(default_factory=list)
    left: int = 0
    early: int = 0
    wrong: list[str] = field(default_factory=list)
    codes: list[int | None] = field(default_factory=list)


def before_twc(err: str) -> bool:
    """Whether a signal met the interpreter before it had come to a line of twc's: it prints a traceback of its own."""
    starting = "<frozen site>" in err or "from twcodec.__main__ import main" in err
    return starting and "sys.exit(main())" not in err


class Good:
    """Inputs, and what a run without faults makes of them."""

    def __init__(self, folder: Path) -> None:
        picture = folder / "good.png"
        ramps = [Image.radial_gradient("L"), Image.linear_gradient("L"), Image.effect_noise((256, 256), 40)]
        Image.merge("RGB", ramps).resize((64, 64)).save(picture)
        made, back = folder / "good.twc", folder / "back.png"
        self.seconds = {}
        for command, source, target in (("encode", picture, made), ("decode", made, back)):
            run([TWC, *arguments(command), str(source), str(target)])  # warms the file cache
            start = time.monotonic()
            done = run([TWC, *arguments(command), str(source), str(target)])
            assert done.code == 0, done
            self.seconds[command] = time.monotonic() - start
        self.source = {"encode": picture.read_bytes(), "decode": made.read_bytes()}
        self.result = {"encode": made.read_bytes(), "decode": back.read_bytes()}


def arguments(command: str) -> list[str]:
    return [command, "-f", "--threads", "1", *(["--seed", "1"] if command == "encode" else [])]


class Place:
    """A folder of its own for one try, with the input, and the output where `old`."""

    def __init__(self, good: Good, command: str, old: bool, folder: Path) -> None:
        self.good, self.command, self.folder = good, command, folder
        suffix = (".png", ".twc") if command == "encode" else (".twc", ".png")
        self.source, self.out = folder / f"in{suffix[0]}", folder / f"out{suffix[1]}"
        self.source.write_bytes(good.source[command])
        self.old = OLD if old else None
        if old:
            self.out.write_bytes(OLD)
        self.outcome = Outcome()

    def line(self, *more: str, program: Sequence[str] = (TWC,), source: Any = None, out: Any = None) -> list[str]:
        names = [os.fsdecode(source or self.source), os.fsdecode(out or self.out)]
        return [*program, *arguments(self.command), *more, "--", *names]

    def check_end(self, done: Done, *codes: int) -> None:
        """codes: that are right here; none: any documented one."""
        self.outcome.codes.append(done.code)
        if done.code not in (codes or DOCUMENTED):
            self.outcome.wrong.append(f"exit code {done.code}: {done.err[-300:]!r}")
        if before_twc(done.err):
            self.outcome.early += 1
        elif any(words in done.err for words in NEVER_SAID):
            self.outcome.wrong.append(f"exit code {done.code}: {done.err[-900:]!r}")

    def judge(self, done: Done, *codes: int, out: Path | None = None) -> None:
        """As `check_end`, and the output is the old one, or the whole new one, and that if all went well."""
        self.check_end(done, *codes)
        out, outcome, whole = out or self.out, self.outcome, self.good.result[self.command]
        found = out.read_bytes() if os.path.exists(out) else None  # noqa: PTH110 - Path's raises for long names
        if found not in (whole, self.old) or (done.code == 0 and found != whole):
            outcome.lost.append(f"{out.name!r}: {None if found is None else found[:20]!r}, exit code {done.code}")
        if self.source.exists() and self.source.read_bytes() != self.good.source[self.command]:
            outcome.lost.append("the input was changed")

    def count_left(self, allowed: bool = False) -> None:
        found = list(self.folder.rglob(OURS))
        self.outcome.left += len(found)
        if found and not allowed:
            self.outcome.wrong.append(f"left behind: {[p.name for p in found]}")

    def works_now(self) -> None:
        """The same command, without a fault."""
        self.judge(run(self.line()), 0)


@contextlib.contextmanager
def place(good: Good, number: int, folder: Path | None = None) -> Iterator[Place]:
    """The number decides what is tried: encoding or decoding, with an output that is there or not."""
    with tempfile.TemporaryDirectory(prefix="fault-", ignore_cleanup_errors=True) as own:
        yield Place(good, ("encode", "decode")[number % 2], bool(number // 2 % 2), folder or Path(own))


def start(line: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(line, **{**streams, **options})


def ended(process: subprocess.Popen[bytes]) -> Done:
    """Wait for a run; one that hangs is killed."""
    try:
        err = process.communicate(timeout=LIMIT)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return Done(None, (process.communicate()[1] or b"").decode(errors="replace"))
    code = process.returncode
    return Done(128 - code if code < 0 else code, (err or b"").decode(errors="replace"))


def run(line: Sequence[str], **options: Any) -> Done:
    return ended(start(line, **options))


def in_shell(script: str, line: Sequence[str], **options: Any) -> Done:
    """A shell does something to its own descriptors or limits, and becomes twc: 'exec "$@" 2>&-'."""
    return run(["bash", "-c", script, "bash", *line], **options)


def signalled(line: Sequence[str], *signals: tuple[float, signal.Signals], **options: Any) -> Done:
    """signals: seconds after the start, or after the one before, and which."""
    process = start(line, **options)
    for delay, number in signals:
        time.sleep(delay)
        process.send_signal(number)
    return ended(process)
