"""Where pictures and files lie: on disks, and wherever fsspec reaches (s3://, gs://, memory://, http://)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.request import url2pathname

from twcodec.errors import LimitError, MissingError, OutputError, UnreadableError
from twcodec.imaging.files import write_output

LOST = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE])
"""Errors of the place, not of one file. Nothing else would fare better there."""


def is_url(name: str) -> bool:
    """Whether fsspec is needed to reach it."""
    return "://" in name


def local_if_file(name: str) -> str:
    """A path in place of a file:// URL; anything else as it is."""
    return url2pathname(name.removeprefix("file://")) if name.startswith("file://") else name


def opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path on it. MissingError: no library for that kind of URL."""
    try:
        import fsspec
    except ImportError:
        raise MissingError(f"{url}: remote paths need fsspec; pip install 'twcodec[batch]'") from None
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingError(f"{url}: {error}") from None
    except ValueError as error:
        raise UnreadableError(f"{url}: {error}") from None
    return system, path


def joined(folder: str, name: str) -> str:
    """The path or URL of `name`, with slashes, below a folder."""
    if is_url(folder):
        return folder.rstrip("/") + "/" + name
    return str(Path(folder, *name.split("/")))


def read(name: str, limit: int) -> bytes:
    """The whole file. UnreadableError, LimitError: more than `limit` bytes."""
    try:
        if is_url(name):
            system, path = opened(name)
            size = system.size(path)
            if size is not None and size > limit:
                raise LimitError(f"the input has {size} bytes; {limit} are allowed")
            return bytes(system.cat_file(path))
        path_here = Path(name)
        if path_here.is_dir():
            raise UnreadableError("cannot be read: it is a folder")
        if (size := path_here.stat().st_size) > limit:
            raise LimitError(f"the input has {size} bytes; {limit} are allowed")
        return path_here.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from None
    except (UnreadableError, LimitError, MissingError):
        raise
    except Exception as error:  # clients of object stores have errors of their own
        raise UnreadableError(f"cannot be read: {type(error).__name__}: {error}") from None


def write(name: str, data: bytes, overwrite: bool, fsync: bool = False) -> None:
    """Put a file in its place, whole or not at all. Folders are made. OutputError."""
    if is_url(name):
        _put(name, data, overwrite)
        return
    make_folder(name)
    with write_output(name, overwrite, token_of(name)) as file:
        file.write(data)
        if fsync:
            to_disk(file)


def to_disk(file: BinaryIO) -> None:
    """Wait until what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def make_folder(name: str) -> None:
    """The folder that a file is to lie in. OutputError."""
    folder = Path(name).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made: {error.strerror}") from error


def _put(url: str, data: bytes, overwrite: bool) -> None:
    """One request: object stores show an object when all of it is there."""
    with _placing(url, overwrite) as (system, path):
        system.pipe_file(path, data)


def upload(local: Path, url: str, overwrite: bool) -> None:
    """Put a file from a disk where the URL says. OutputError."""
    with _placing(url, overwrite) as (system, path):
        system.put_file(str(local), path)


@contextlib.contextmanager
def _placing(url: str, overwrite: bool) -> Iterator[tuple[Any, str]]:
    system, path = opened(url)
    try:
        if not overwrite and system.exists(path):
            raise OutputError("the output exists already; overwrite it with -f")
        if {"file", "local", "memory"} & set(_protocols(system)):  # elsewhere a folder is but part of a name
            system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        yield system, path
    except OutputError:
        raise
    except Exception as error:
        raise OutputError(f"the output cannot be written: {type(error).__name__}: {error}") from error


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


def token_of(name: str) -> str:
    """Part of the name of the temporary file, the same in every run: what a killed run left is written over."""
    return hashlib.sha256(os.fsencode(Path(name).name)).hexdigest()[:16]


def tidy(name: str) -> None:
    """Remove the temporary file that a killed run may have left beside an output."""
    if not is_url(name):
        Path(name).with_name(f".twc-{token_of(name)}.tmp").unlink(missing_ok=True)


def stamp(name: str) -> list[int] | None:
    """Size and time of change of a file, in bytes and ns; None: there is none. A URL has a size only."""
    if is_url(name):
        system, path = opened(name)
        try:
            return [int(system.size(path) or 0), 0]
        except FileNotFoundError:
            return None
        except Exception as error:
            raise UnreadableError(f"{name}: cannot be reached: {type(error).__name__}: {error}") from None
    try:
        found = Path(name).stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def stamp_of_all(names: Iterable[str]) -> tuple[int, int]:
    """Of several files: all sizes together, and the latest change."""
    found = [stamp(name) or [-1, -1] for name in names]
    return sum(size for size, _ in found), max(changed for _, changed in found)


def sha256(data: bytes) -> str:
    """As `sha256sum` prints it."""
    return hashlib.sha256(data).hexdigest()
