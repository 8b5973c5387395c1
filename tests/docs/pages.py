"""The examples in the pages: fenced blocks of commands, of commands with what they print, and of Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"```(\w+)?(?: title=\"([^\"]+)\")?\s*")
_NOTE = re.compile(r"<!-- (not run|varies): (.+) -->")


@dataclass(frozen=True)
class Block:
    """kind: sh, console, python, or another language, or "" for none. title: the file that it is to be saved as.

    reason: why it is not run, or "". varies: a pattern of what may be different each time in what is printed, or "".
    """

    page: str
    line: int
    kind: str
    title: str
    text: str
    reason: str = ""
    varies: str = ""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(path: Path, text: str | None = None) -> Iterator[Block]:
    """Fenced blocks in order, with the notes that stand before them."""
    page = str(path.relative_to(ROOT))
    notes: dict[str, str] = {}
    opened: Block | None = None
    for number, line in enumerate((path.read_text() if text is None else text).splitlines(), 1):
        if opened is not None:
            if line.strip() == "```":
                yield opened
                opened, notes = None, {}
            else:
                opened = replace(opened, text=f"{opened.text}{line}\n")
        elif found := _FENCE.fullmatch(line):
            kind, title = found[1] or "", found[2] or ""
            opened = Block(page, number, kind, title, "", notes.get("not run", ""), notes.get("varies", ""))
        elif found := _NOTE.fullmatch(line):
            notes[found[1]] = found[2]
        elif line.strip():
            notes = {}
    assert opened is None, f"{opened.where}: this block does not end" if opened else ""


def indented(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of code that stand four to the right, with their numbers, as older pages have them."""
    code, fenced = False, False
    previous = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fenced ^= line.startswith("```")
        code = not fenced and line.startswith("    ") and (code or not previous)
        if code:
            yield number, line[4:]
        previous = line


def dialogue(text: str) -> list[tuple[str, str]]:
    """Commands of a console block, each with the lines that follow it. "> " continues a command."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith("> ") and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line[2:]}", "")
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found
