"""Which models there are, by name and by digest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from twcodec.errors import LimitError, TwcError, UnreadableError, UnsupportedError, UsageError
from twcodec.models import official, store
from twcodec.models.file import MOST_BYTES

DEFAULT = "default"
"""Stands for the newest embedded model, which has a name of its own."""

_WEIGHTS = resources.files("twcodec.models") / "weights"


DEFAULT_QUALITY = 4.0
"""Where none is asked for."""


@dataclass(frozen=True)
class Entry:
    """A model that ships with twc. digest: first 16 bytes of the SHA-256 of its file."""

    name: str
    file: str
    digest: bytes

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(str(_WEIGHTS / self.file))

    def read(self) -> bytes:
        """The model file."""
        return self.path.read_bytes()


def _load() -> tuple[str, tuple[Entry, ...]]:
    """The name of the default, and all entries, the newest first: what `twc train`'s adopt step writes."""
    found = json.loads((_WEIGHTS / "catalogue.json").read_bytes())
    entries = (Entry(m["name"], m["file"], bytes.fromhex(m["digest"])) for m in found["models"])
    return found["default"], tuple(entries)


_DEFAULT_IS, EMBEDDED = _load()
"""The newest is the default; older ones stay, so that every file ever written decodes."""


def default_name() -> str:
    """The name of the newest embedded model."""
    return _DEFAULT_IS


def names() -> list[str]:
    """What --model takes besides a path."""
    return [DEFAULT, *(entry.name for entry in EMBEDDED)]


def name_of(digest: bytes) -> str | None:
    """The name of the model with this digest, if it is embedded or in the store."""
    found = next(_copies(digest), None)
    return found.name if found else None


def embedded(name: str) -> Entry | None:
    """The embedded model of this name; "default" is the newest."""
    wanted = _DEFAULT_IS if name == DEFAULT else name
    return next((entry for entry in EMBEDDED if entry.name == wanted), None)


def read(name: str, quality: float | None = None, digest: bytes | None = None) -> tuple[str, bytes]:
    """Name and bytes of a model.

    name: an embedded one ("default": the newest), a stored one, a published architecture of which the one of this
    quality is stored (None: 4), or the path of a model file. digest: of the model that a file needs; it is taken where
    it is at hand and `name` says no more than "default" or an architecture. UnsupportedError: no such model.
    UnreadableError: the file cannot be read.
    """
    one_of_many = name in official.ARCHITECTURES  # and no other one would do
    if digest and (one_of_many or (name == DEFAULT and name_of(digest))):
        return read_by_digest(digest)
    if not name:
        raise UsageError("an empty model name was given")
    found = embedded(name) or (None if _is_path(name) else _stored(name, quality))
    return _contents(found) if found else _from_path(name)


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith(".safetensors")


def _contents(found: Entry | store.Stored) -> tuple[str, bytes]:
    return found.name, found.read() if isinstance(found, Entry) else store.read(found)


def _stored(name: str, quality: float | None) -> store.Stored | None:
    """A model in the store. UnsupportedError: it could be, but is not."""
    found = store.find(name)
    if found or name not in official.ARCHITECTURES:
        return found
    if official.is_variable(name):
        raise UnsupportedError(f"the model {name} is not at hand; get it with: twc models pull {name}")
    chosen = DEFAULT_QUALITY if quality is None else quality
    if chosen not in range(1, official.HIGHEST + 1):  # NaN neither
        highest = official.HIGHEST
        raise UsageError(f"{name} has whole qualities only, 1 to {highest}, one model each; {chosen:g} is none")
    found = store.find(official.name_of(name, int(chosen)))
    if not found:
        pull, own = f"twc models pull {name} -q {chosen:g}", f"twc models import FILE --arch {name} -q {chosen:g}"
        how = f"get it with: {pull}" if official.find(name, int(chosen)) else f"none is official; get yours with: {own}"
        raise UnsupportedError(f"the model {name} of quality {chosen:g} is not at hand; {how}")
    return found


def _from_path(name: str) -> tuple[str, bytes]:
    path = Path(name)
    if not path.suffix and not os.path.exists(name):  # noqa: PTH110 - Path.exists raises for names that are too long
        checkpoint = official.by_name(name)
        if checkpoint:
            raise UnsupportedError(
                f"the model {name} is not at hand; get it with: twc models pull {checkpoint.options}"
            )
        known = ", ".join([*names(), *dict.fromkeys(entry.name for entry in store.entries())])
        raise UnsupportedError(f"unknown model {name!r}; there are: {known}, or a path; see twc models list")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe waits for ever, a device never ends
            raise UnreadableError(f"the model file {name} is no regular file")
        if path.stat().st_size > MOST_BYTES:
            raise LimitError(f"the model file {name} has over {MOST_BYTES >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"the model file {name} cannot be read: {error.strerror}") from None
    if data.startswith(b"PK"):
        how = f"make a model of it with: twc models import {name} --arch ARCH -q N"
        raise UnsupportedError(f"the model file {name} looks like a checkpoint; {how}")
    return path.stem, data


def read_by_digest(digest: bytes) -> tuple[str, bytes]:
    """The model that a file names by its digest. UnsupportedError: it is neither embedded nor in the store."""
    damaged: TwcError | None = None
    for copy in _copies(digest):
        try:
            return _contents(copy)
        except TwcError as error:  # another may be sound
            damaged = error
    if damaged:
        raise damaged
    known = ", ".join(f"{entry.name} ({entry.digest.hex()})" for entry in EMBEDDED)
    raise UnsupportedError(
        f"needs the model with digest {digest.hex()}; at hand: {known} and what twc models list shows; "
        "give its file with --model, or get it with twc models pull or import"
    )


def _copies(digest: bytes) -> Iterator[Entry | store.Stored]:
    """Where the model with this digest is at hand. The store is not looked into before an embedded one was refused."""
    yield from (entry for entry in EMBEDDED if entry.digest == digest)
    yield from store.copies(digest)
