"""Runs the examples of a page in a folder, and compares what they print with what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .pages import Block, dialogue

TOLERANCE = 0.05
"""Relative, of numbers that a page shows: other processors compute in another type, and code some bytes more or less."""

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")
_MARK = "-- end of example --"
_MOST_SECONDS = 300


@dataclass(frozen=True)
class Place:
    """Where examples run. commands: a folder with `twc` and `python`."""

    folder: Path
    commands: Path

    def shell(self, script: str) -> tuple[int, str]:
        """Exit code of a script for bash, and what it printed to both streams."""
        kept = {"TWC_MODEL_DIR": str(self.folder / ".models"), "COLUMNS": "100", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env={**os.environ, **kept, "OMP_NUM_THREADS": "1", "PATH": f"{self.commands}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_MOST_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout.decode()

    def run(self, block: Block) -> None:
        """One block: commands must not fail, unless the next asks for the exit code, and print what is shown."""
        if block.kind == "console":
            self._talk(block)
        elif block.kind == "python" and block.title:
            (self.folder / block.title).write_text(block.text)
        elif block.kind == "python":
            name = f".example-{block.line}.py"
            (self.folder / name).write_text(block.text)
            self._succeed(block, f"python {name}")
        elif block.kind == "sh":
            self._succeed(block, f"set -e -o pipefail\n{block.text}")

    def _succeed(self, block: Block, script: str) -> None:
        code, out = self.shell(script)
        assert code == 0, f"{block.where} failed with {code}:\n{script}\n{out}"

    def _talk(self, block: Block) -> None:
        said = dialogue(block.text)
        script = "".join(f"{command}\n__code=$?\necho '{_MARK}' $__code\n(exit $__code)\n" for command, _ in said)
        out = self.shell(f"set -o pipefail\n{script}")[1]
        parts = re.split(rf"{_MARK} (\d+)\n", out)
        assert len(parts) == 2 * len(said) + 1, f"{block.where} ended early:\n{out}"
        followers = [command for command, _ in said[1:]] + [""]
        for (command, shown), got, code, then in zip(said, parts[0::2], parts[1::2], followers, strict=False):
            failed = int(code) and "echo $?" not in then
            assert not failed, f"{block.where}: {command!r} failed with {code}:\n{got}"
            difference = differs(shown, got, block.varies)
            assert not difference, f"{block.where}: {command!r} printed\n{got}where the page shows\n{shown}{difference}"


def differs(shown: str, got: str, varies: str = "") -> str:
    """What is wrong with a text, or "".

    Equal but for numbers, which are close, what `varies` matches in the page, and lines "..." in it, for any lines.
    """
    shown, got = shown.rstrip(), got.rstrip()
    pieces, at, wild = [], 0, re.compile(varies) if varies else None
    for free in wild.finditer(shown) if wild else ():
        pieces += [_pattern(shown[at : free.start()]), ".*?"]
        at = free.end()
    found = re.fullmatch("".join([*pieces, _pattern(shown[at:])]), got)
    if not found:
        return "the words differ"
    fixed = wild.sub("", shown) if wild else shown
    numbers = zip(_NUMBER.findall(fixed), found.groups(), strict=True)
    wrong = [f"{a} is shown, {b} came" for a, b in numbers if abs(float(a) - float(b)) > TOLERANCE * float(a)]
    return "; ".join(wrong)


def _pattern(text: str) -> str:
    """Any number for each number, any lines for a line of three dots; spaces that align columns may be more or fewer."""
    parts = (_NUMBER.pattern if i % 2 else re.escape(part) for i, part in enumerate(_NUMBER.split(text)))
    pattern = re.sub(r"(?:\\ ){2,}", r" +", "".join(parts))
    return re.sub(r"(?m)^\\\.\\\.\\\.$", r"(?s:.*?)", pattern.replace("\\\n", "\n"))
