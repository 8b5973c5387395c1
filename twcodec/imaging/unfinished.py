"""Temporary files that have not become outputs yet: whatever ends the process takes them along, but for SIGKILL."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from twcodec import forks

_unfinished: set[str] = set()
"""Of this process, in all its threads."""

forks.in_child(_unfinished.clear)  # they are the other process's to remove


def add(path: str) -> None:
    """Called before the file is there: a signal may come between any two steps."""
    _unfinished.add(path)


def forget(path: str) -> None:
    """It turned out to be somebody else's."""
    _unfinished.discard(path)


def remove(paths: Iterable[str] | None = None) -> None:
    """Remove these files, or all.

    None is for the end of a process: a second signal may have come while the first one's files were being removed.
    """
    for path in list(_unfinished) if paths is None else _unfinished.intersection(paths):
        with contextlib.suppress(OSError):  # it has become the output
            os.unlink(path)  # noqa: PTH108 - pathlib takes a while to import
        _unfinished.discard(path)
