"""Finding the model that a NAME means: an embedded one, a stored one, or a file."""

from __future__ import annotations

import difflib
import os
import stat
from pathlib import Path
from typing import NoReturn

from twcodec.cli import options
from twcodec.cli.say import shown
from twcodec.errors import LimitError, UnreadableError, UnsupportedError, UsageError
from twcodec.imaging.files import PIPE
from twcodec.models import catalogue, official, store
from twcodec.models.file import MOST_BYTES
from twcodec.models.store import Stored


def read_model(name: str, quality: int | None) -> tuple[str, str, Path, bytes]:
    """Kind, name, path and bytes of an embedded or stored model, or of a file. UnsupportedError, UnreadableError."""
    entry = catalogue.embedded(name)
    if entry is not None:
        return "embedded", entry.name, entry.path, entry.read()
    found = stored(name, quality)
    if found is not None:
        return "stored", found.name, found.path, store.read(found)
    if not Path(name).suffix and not os.path.exists(name):  # noqa: PTH110 - Path.exists raises for long names
        refuse(name, quality)
    with options.about(name):
        return "file", Path(name).stem, Path(name), bytes_of(name)


def stored(name: str, quality: int | None) -> Stored | None:
    """A stored model by its name, or by its architecture and -q."""
    if quality is not None and name in official.ARCHITECTURES and not official.is_variable(name):
        return store.find(official.name_of(name, quality))
    return store.find(name)


def refuse(name: str, quality: int | None) -> NoReturn:
    """UnsupportedError: no such model, and what could be done. UsageError: -q lacks, or the name is empty."""
    if not name:
        raise UsageError("an empty model name was given")
    there = official.qualities(name)
    if there and quality is None:
        raise UsageError(f"{name} has one model a quality; add -q {there[0]} to {there[-1]}")
    checkpoint = official.find(name, quality) or official.find(name, None) or official.by_name(name)
    if checkpoint:
        raise UnsupportedError(f"{checkpoint.name} is not at hand; get it with: twc models pull {checkpoint.options}")
    if name in official.ARCHITECTURES:
        own = f"twc models import FILE --arch {name} -q {'N' if quality is None else quality}"
        raise UnsupportedError(
            f"there is no such official model of {name}; a checkpoint of yours can be given to: {own}"
        )
    known = [*catalogue.names(), *dict.fromkeys(e.name for e in store.entries()), *official.ARCHITECTURES]
    close = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UnsupportedError(f"unknown model {shown(name)!r}; {hint}`twc models list` shows what there is")


def bytes_of(source: str, most: int = -1) -> bytes:
    """The first bytes of a regular file, or all.

    UsageError: no file's name. UnreadableError: there is none. LimitError: over 1 GiB.
    """
    if not source:
        raise UsageError("an empty file name was given")
    if source == PIPE:
        raise UsageError("a model is read from a file, not from a pipe")
    path = Path(source)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):  # a pipe would be waited for
            raise UnreadableError("this is no regular file")
        if found.st_size > MOST_BYTES:
            raise LimitError(f"the file has over {MOST_BYTES >> 20} MiB")
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from None


def mebibytes(count: int) -> str:
    """A file's size, as it is shown."""
    return f"{count / (1 << 20):.1f} MiB"
