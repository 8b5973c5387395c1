"""Which models there are, by name and by digest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from twcodec.errors import UnreadableError, UnsupportedError, UsageError

DEFAULT = "default"


@dataclass(frozen=True)
class Entry:
    """A model that ships with twc. digest: first 16 bytes of the SHA-256 of its file."""

    name: str
    file: str
    digest: bytes

    def read(self) -> bytes:
        """The model file."""
        return (resources.files("twcodec.models") / "weights" / self.file).read_bytes()


EMBEDDED = (
    Entry("default", "default-2.safetensors", bytes.fromhex("872638337d5df687252a7c9c95a61edd")),
    Entry("default-1", "default-1.safetensors", bytes.fromhex("25bd498318f79b635915497c2da11131")),
)
"""The newest is the default; older ones stay, so that every file ever written decodes.

default-1 has Gaussian tables and is what the float reference computes; default-2 has the same weights, and tables that
were fitted to photographs (training/fit_tables.py), for 14 % fewer bits.
"""


def name_of(digest: bytes) -> str | None:
    """The name of the embedded model with this digest, if there is one."""
    return next((entry.name for entry in EMBEDDED if entry.digest == digest), None)


def read(name: str) -> tuple[str, bytes]:
    """Name and bytes of a model: an embedded one by its name, or a model file by its path.

    UnsupportedError: no such model. UnreadableError: the file cannot be read.
    """
    for entry in EMBEDDED:
        if entry.name == name:
            return entry.name, entry.read()
    if not name:
        raise UsageError("an empty model name was given")
    path = Path(name)
    if not path.suffix and not os.path.exists(name):  # noqa: PTH110 - Path.exists raises for names that are too long
        raise UnsupportedError(f"unknown model {name!r}; there are: {', '.join(e.name for e in EMBEDDED)}, or a path")
    try:
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
