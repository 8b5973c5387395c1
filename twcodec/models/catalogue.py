"""Which models there are, by name and by digest."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from twcodec.errors import LimitError, UnreadableError, UnsupportedError, UsageError

DEFAULT = "default"
"""Stands for the newest embedded model, which has a name of its own."""

_WEIGHTS = resources.files("twcodec.models") / "weights"


_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Entry:
    """A model that ships with twc. digest: first 16 bytes of the SHA-256 of its file."""

    name: str
    file: str
    digest: bytes

    def read(self) -> bytes:
        """The model file."""
        return (_WEIGHTS / self.file).read_bytes()


def _load() -> tuple[str, tuple[Entry, ...]]:
    """The name of the default, and all entries, the newest first: what `twc train`'s adopt step writes."""
    found = json.loads((_WEIGHTS / "catalogue.json").read_bytes())
    entries = (Entry(m["name"], m["file"], bytes.fromhex(m["digest"])) for m in found["models"])
    return found["default"], tuple(entries)


_DEFAULT_IS, EMBEDDED = _load()
"""The newest is the default; older ones stay, so that every file ever written decodes."""


def names() -> list[str]:
    """What --model takes besides a path."""
    return [DEFAULT, *(entry.name for entry in EMBEDDED)]


def name_of(digest: bytes) -> str | None:
    """The name of the embedded model with this digest, if there is one."""
    return next((entry.name for entry in EMBEDDED if entry.digest == digest), None)


def read(name: str) -> tuple[str, bytes]:
    """Name and bytes of a model: an embedded one by its name ("default": the newest), or a model file by its path.

    UnsupportedError: no such model. UnreadableError: the file cannot be read.
    """
    wanted = _DEFAULT_IS if name == DEFAULT else name
    for entry in EMBEDDED:
        if entry.name == wanted:
            return entry.name, entry.read()
    if not name:
        raise UsageError("an empty model name was given")
    path = Path(name)
    if not path.suffix and not os.path.exists(name):  # noqa: PTH110 - Path.exists raises for names that are too long
        raise UnsupportedError(f"unknown model {name!r}; there are: {', '.join(names())}, or a path")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe waits for ever, a device never ends
            raise UnreadableError(f"the model file {name} is no regular file")
        if path.stat().st_size > _MOST_BYTES:
            raise LimitError(f"the model file {name} has over {_MOST_BYTES >> 20} MiB")
        return path.stem, path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"the model file {name} cannot be read: {error.strerror}") from None


def read_by_digest(digest: bytes) -> tuple[str, bytes]:
    """The embedded model that a file names by its digest. UnsupportedError: it is not one of ours."""
    for entry in EMBEDDED:
        if entry.digest == digest:
            return entry.name, entry.read()
    known = ", ".join(f"{entry.name} ({entry.digest.hex()})" for entry in EMBEDDED)
    raise UnsupportedError(f"needs the model with digest {digest.hex()}; at hand: {known}; give its file with --model")
