"""Files of a run's folder: whole or not there, whatever happens while they are written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twcodec.errors import OutputError

SETTINGS, CHECKPOINT, SNAPSHOT = "settings.json", "checkpoint.pt", "snapshot.safetensors"
LOG, EVALUATIONS, PLOT = "log.jsonl", "evaluations.jsonl", "rd.png"
MODEL, ENTRY = "model.safetensors", "entry.json"
RUN_FILES = frozenset((SETTINGS, CHECKPOINT, SNAPSHOT, LOG, EVALUATIONS, PLOT, MODEL, ENTRY))
"""All that a run writes. A folder is a run's if SETTINGS is in it."""


def write_whole(path: Path, data: bytes) -> None:
    """Put data on the disk beside `path`, and only then under its name. OutputError: it cannot be written.

    Unlike `imaging.files.write_output`, it waits for the disk, and its temporary file has one name: what a killed run
    leaves of a 100 MB checkpoint is overwritten by the next.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None


def write_json(path: Path, value: Any) -> None:
    """As `write_whole`, as readable JSON."""
    write_whole(path, (json.dumps(value, indent=1) + "\n").encode())


def append_line(path: Path, value: Any) -> None:
    """Append a line of JSON; one that a crash has cut off is closed first. OutputError: it cannot be written."""
    try:
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
                file.write(b"\n" if torn else b"")
            file.write((json.dumps(value) + "\n").encode())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None


def read_lines(path: Path) -> list[Any]:
    """The lines that are JSON; what a crash has cut off is left out."""
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def make_folder(path: Path) -> None:
    """The folder, if it is not there. OutputError: it cannot be made, or not be written in."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {path} cannot be made: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise OutputError(f"the folder {path} cannot be written in")
