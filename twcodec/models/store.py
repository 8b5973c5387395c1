"""The folder of models at hand: those that were pulled or imported, beside the embedded ones.

There is no index: a file's name holds the model's name and digest, so that any number of processes may look and add.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twcodec.errors import LimitError, OutputError, UnreadableError, UnsupportedError, UsageError
from twcodec.models import official
from twcodec.models.file import DIGEST_BYTES, FORMAT, MOST_BYTES, MOST_HEADER, digest_of

_MOST_LETTERS = 150
"""Of a name: file systems take 255 with digest and suffix."""

_MOST_AXES, _MOST_LARGE = 8, 1 << 48
"""Of a tensor, and of a number in its shape and place."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_FILE = re.compile(rf"({_NAME})-([0-9a-f]{{{2 * DIGEST_BYTES}}})\.safetensors")


@dataclass(frozen=True)
class Stored:
    """A model in the store. digest: what its file's name says; `read` checks it."""

    name: str
    digest: bytes
    path: Path


def folder() -> Path:
    """TWC_MODEL_DIR, or the place for data of this user's programs. It need not exist."""
    given = os.environ.get("TWC_MODEL_DIR")
    if given:
        return Path(given)
    import platformdirs

    return platformdirs.user_data_path("twc", appauthor=False) / "models"


def entries() -> list[Stored]:
    """All models in the store by name, the newest of a name first. What is no model by its name is passed over."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder()) as files:
        for file in files:
            match = _FILE.fullmatch(file.name)
            with contextlib.suppress(OSError):  # it went away meanwhile
                if match and file.is_file():
                    stored = Stored(match[1], bytes.fromhex(match[2]), Path(file.path))
                    found.append((stored.name, -file.stat().st_mtime_ns, stored.digest, stored))
    return [stored for *_, stored in sorted(found, key=lambda item: item[:3])]


def find(name: str) -> Stored | None:
    """The newest model of this name; "NAME@9f3a" is the one whose digest begins so."""
    name, _, digest = name.partition("@")
    return next((e for e in entries() if e.name == name and e.digest.hex().startswith(digest.lower())), None)


def copies(digest: bytes) -> list[Stored]:
    """The model that a TWC file names, under whatever names it is stored."""
    return [e for e in entries() if e.digest == digest]


def read(stored: Stored) -> bytes:
    """The model file. UnsupportedError: it is not what its name says. UnreadableError; LimitError: over 1 GiB."""
    try:
        if stored.path.stat().st_size > MOST_BYTES:
            raise LimitError(f"the stored model {stored.path} has over {MOST_BYTES >> 20} MiB")
        data = stored.path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"the stored model {stored.path} cannot be read: {error.strerror}") from None
    if digest_of(data) != stored.digest:
        raise UnsupportedError(f"the stored model {stored.path} is damaged; {_again(stored.name)}")
    return data


def _again(name: str) -> str:
    """How to replace a damaged file."""
    checkpoint = official.by_name(name)
    if checkpoint:
        return f"get it again with: twc models pull {checkpoint.options}"
    return f"import it again with: twc models import FILE --name {name}"


def check_name(name: str) -> str:
    """The name, if a model may be stored under it. UsageError."""
    from twcodec.models import catalogue

    if not re.fullmatch(_NAME, name) or len(name) > _MOST_LETTERS or name.endswith(".safetensors"):
        shown = name.encode("utf-8", "backslashreplace").decode()
        raise UsageError(
            f"{shown!r} is no name for a model: up to {_MOST_LETTERS} letters, digits, '.', '_' and '-', "
            "the first a letter or digit, without .safetensors"
        )
    if name in catalogue.names() or name.startswith(catalogue.DEFAULT):
        raise UsageError(f"{name} is a name that twc keeps for embedded models; give another with --name")
    return name


def add(data: bytes, name: str) -> Stored:
    """Store a model file; it is the newest of its name then, even if it was there before.

    UsageError: not a name. OutputError: it cannot be written; nothing is left behind.
    """
    digest = digest_of(data)
    path = make_folder() / f"{check_name(name)}-{digest.hex()}.safetensors"
    stored = Stored(name, digest, path)
    if not _touched(stored):
        try:
            from twcodec.imaging.files import write_output

            with write_output(str(path), force=True) as file:
                file.write(data)
        except OutputError as error:
            raise OutputError(f"{path}: {error}") from None
    return stored


def _touched(stored: Stored) -> bool:
    """Whether it is there already, undamaged, and now has the time of today."""
    try:
        read(stored)
        os.utime(stored.path)
    except (OSError, UnreadableError, UnsupportedError, LimitError):
        return False
    return True


def make_folder() -> Path:
    """The store's folder, made if need be. OutputError."""
    path = folder()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(f"the folder of models {path} is no folder") from None
    except OSError as error:
        raise OutputError(f"the folder of models {path} cannot be made: {error.strerror}") from None
    return path


@dataclass(frozen=True)
class Header:
    """What a model file says of itself. metadata: as `ModelFile`'s; shapes: of its tensors."""

    family: str
    lambdas: tuple[float, ...]
    metadata: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def header_of(data: bytes) -> Header:
    """The header of a model file, without numpy. UnsupportedError: it is none, cut short, or of a later format.

    Whether its numbers make a model is for the family to say, when it is loaded.
    """
    length = int.from_bytes(data[:8], "little")
    if not data[8:9] == b"{" or not 0 < length <= min(MOST_HEADER, len(data) - 8):
        raise UnsupportedError("not a twc model file, or a damaged one")
    try:
        header = json.loads(data[8 : 8 + length], parse_float=_finite, parse_constant=_finite)
        metadata = json.loads(header.pop("__metadata__")["twc"], parse_float=_finite, parse_constant=_finite)
        found = metadata["format"]
        shapes = {name: _shape(tensor) for name, tensor in header.items()}
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        lambdas = tuple(float(v) for v in metadata["lambda"] if type(v) in (int, float) and v > 0)
        sound = end == len(data) - 8 - length and len(lambdas) == len(metadata["lambda"]) > 0
        sound = sound and isinstance(metadata["family"], str)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
        raise UnsupportedError("not a twc model file, or a damaged one") from None
    if found != FORMAT:
        raise UnsupportedError(f"model file format {found!r:.40}, this twc reads {FORMAT!r}")
    if not sound:
        raise UnsupportedError("the model file is damaged: cut short, or with a header that cannot be right")
    return Header(metadata["family"], lambdas, metadata, shapes)


def _finite(text: str) -> float:
    """A number that JSON can write again: none of NaN, Infinity and 1e999."""
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


def _shape(tensor: Any) -> tuple[int, ...]:
    """Of a tensor in the header; its numbers take a byte or more, so that no shape is beyond the file."""
    shape, (start, end) = tensor["shape"], tensor["data_offsets"]
    if not all(type(n) is int and 0 <= n <= _MOST_LARGE for n in (*shape[:_MOST_AXES], start, end)):
        raise ValueError(shape)
    if len(shape) > _MOST_AXES or math.prod(shape) > end - start:
        raise ValueError(shape)
    return tuple(shape)
