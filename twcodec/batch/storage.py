"""Where pictures and files lie: on disks, and wherever fsspec reaches (s3://, gs://, memory://, http://)."""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from twcodec.errors import LimitError, MissingError, OutputError, UnreadableError
from twcodec.imaging.files import TAKEN, folder_to_disk, write_output

LOST = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE])
"""Errors of the place, not of one file. Nothing else would fare better there."""

_BLOCK = 1 << 20


def is_url(name: str) -> bool:
    """Whether fsspec is needed to reach it."""
    return "://" in name


def local_if_file(name: str) -> str:
    """A path in place of a file:// URL; anything else as it is."""
    return unquote(name.removeprefix("file://")) if name.startswith("file://") else name


def opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path on it.

    Errors: MissingError: no library for that kind of URL; UnreadableError: no such kind, or no server.
    """
    try:
        import fsspec
    except ImportError:
        raise MissingError(f"{url}: remote paths need fsspec; pip install 'twcodec[batch]'") from None
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingError(f"{url}: {_library(url) or error}") from None
    except Exception as error:  # some connect to their server at once
        raise UnreadableError(f"{url}: cannot be reached: {reason(error)}") from None
    return system, path


def _library(url: str) -> str:
    """What is to be installed, where it is a library of its own."""
    from fsspec.registry import known_implementations

    kind = url.partition("://")[0]
    library = str(known_implementations[kind]["class"]).partition(".")[0]
    return "" if library == "fsspec" else f"{kind}:// needs {library}; pip install {library}"


def joined(folder: str, name: str) -> str:
    """The path or URL of `name`, with slashes, below a folder."""
    if is_url(folder):
        return folder.rstrip("/") + "/" + name
    return str(Path(folder, *name.split("/")))


def absolute(name: str) -> str:
    """A path that holds in any folder; a URL as it is."""
    return name if is_url(name) else str(Path(name).absolute())


def read(name: str, limit: int) -> tuple[bytes, list[int]]:
    """The whole file, and the `stamp` that it had before it was read.

    Errors: UnreadableError: a pipe or a device, too, which may have no end; LimitError: more than `limit` bytes.
    """
    try:
        if is_url(name):
            system, path = opened(name)
            found = _stamp_of(system.info(path))
            _check_size(found[0], limit)
            return bytes(system.cat_file(path)), found
        with regular(name) as file:
            about = os.fstat(file.fileno())
            _check_size(about.st_size, limit)
            data = file.read(limit + 1)
            _check_size(len(data), limit)
            return data, [len(data), about.st_mtime_ns]
    except (UnreadableError, LimitError, MissingError, MemoryError):
        raise
    except Exception as error:  # clients of object stores have errors of their own
        raise UnreadableError(f"cannot be read: {reason(error)}") from None


@contextlib.contextmanager
def regular(name: str) -> Iterator[BinaryIO]:
    """A file on a disk, opened for reading. UnreadableError: it is anything else. OSError."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe is not waited for
    with os.fdopen(os.open(name, flags), "rb") as file:
        kind = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(kind):
            raise UnreadableError("cannot be read: it is a folder")
        if not stat.S_ISREG(kind):
            raise UnreadableError("cannot be read: it is a pipe or a device")
        yield file


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise LimitError(f"the input has {size} bytes; {limit} are allowed")


def write(name: str, data: bytes, overwrite: bool, fsync: bool = False) -> None:
    """Put a file in its place, whole or not at all. Folders are made. OutputError."""
    if is_url(name):
        _put(name, data, overwrite)
        return
    make_folder(name, fsync)
    with write_output(name, overwrite, token_of(name), fsync) as file:
        file.write(data)


def make_folder(name: str, fsync: bool = False) -> None:
    """The folder that a file is to lie in. fsync: it is on the disk, too. OutputError."""
    folder = Path(name).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made: {error.strerror}") from error
    if fsync:
        _way_to_disk(folder.resolve())


@lru_cache(4096)
def _way_to_disk(folder: Path) -> None:
    """Put the names of a folder and of those above it on the disk, as far up as they may be read.

    All of them, since another process may have made them a moment ago and not have synced them yet.
    """
    with contextlib.suppress(OutputError):
        for outer in folder.parents:
            folder_to_disk(outer)


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
            raise OutputError(TAKEN)
        if {"file", "local", "memory"} & set(_protocols(system)):  # elsewhere a folder is but part of a name
            system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        yield system, path
    except OutputError:
        raise
    except Exception as error:
        gone = OSError(errno.EIO, reason(error)) if _is_gone(error) else error
        raise OutputError(f"the output cannot be written: {reason(error)}") from gone


def _is_gone(error: Exception) -> bool:
    """Whether a bucket, a server or the right to write is missing, so that no other object would fare better.

    A server that was busy several times, as its library asks, is a failure of one object.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(_GONE & names) and not (isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG)


_GONE = frozenset(
    "FileNotFoundError PermissionError ConnectionError TimeoutError NotImplementedError EndpointConnectionError "
    "ConnectTimeoutError ClientConnectionError NoCredentialsError PartialCredentialsError".split()
)
"""Of Python, botocore and aiohttp, by name: they need not be there. NotImplementedError: some are for reading."""


def reason(error: Exception) -> str:
    """What an error of a disk or of a client library says, in one line."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    cause = error.__cause__
    if isinstance(cause, Exception) and type(cause).__module__.startswith("aiohttp"):  # "not found", whatever it was
        return reason(cause)
    if isinstance(error, FileNotFoundError) and "exist" not in text:  # some give the path alone
        return "there is no such file"
    if isinstance(error, NotImplementedError):
        return "that is not possible there"
    return text if isinstance(error, OSError) and text else f"{type(error).__name__}: {text}"


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


class Place:
    """A folder of outputs. What a URL's holds is listed once: a request for a thousand objects, not for each."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def has(self, name: str) -> bool:
        """Whether something has this name, a path or URL in the folder."""
        if is_url(name):
            return opened(name)[1] in self._there
        return os.path.lexists(name)

    @cached_property
    def _there(self) -> frozenset[str]:
        system, path = opened(self._folder)
        try:
            return frozenset(system.find(path))
        except Exception:  # there is no such folder yet, or it cannot be listed: asked again for each that is written
            return frozenset()


def token_of(name: str) -> str:
    """Part of the name of the temporary file, the same in every run: what a killed run left is written over."""
    return hashlib.sha256(os.fsencode(Path(name).name)).hexdigest()[:16]


def tidy(name: str) -> None:
    """Remove the temporary file that a killed run may have left beside an output."""
    if not is_url(name):
        with contextlib.suppress(OSError):
            Path(os.path.realpath(name)).with_name(f".twc-{token_of(name)}.tmp").unlink()


def stamp(name: str) -> list[int] | None:
    """Size and time of change of a file, in bytes and ns; None: there is none. A URL's is in whole seconds or 0."""
    if is_url(name):
        system, path = opened(name)
        try:
            about = system.info(path)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise UnreadableError(f"{name}: cannot be reached: {reason(error)}") from None
        return _stamp_of(about)
    try:
        found = Path(name).stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def changed_at(name: str) -> int:
    """When, of what was just written, in ns; 0 where that cannot be found out now."""
    with contextlib.suppress(UnreadableError):
        return (stamp(name) or [0, 0])[1]
    return 0


def _stamp_of(about: dict[str, Any]) -> list[int]:
    return [int(about.get("size") or 0), _changed(about)]


def _changed(about: dict[str, Any]) -> int:
    """When, in ns. A listing of S3 may know more of a second than an answer about one object."""
    for name in ("LastModified", "last_modified", "updated", "mtime", "created"):
        when = about.get(name)
        if isinstance(when, datetime.datetime):
            return int(when.timestamp()) * 10**9
        if isinstance(when, int | float):
            return int(when) * 10**9
    return 0


def sha256(data: bytes) -> str:
    """As `sha256sum` prints it."""
    return hashlib.sha256(data).hexdigest()


def sha256_of(name: str) -> str:
    """The same of a file, which is not held in memory where it is a local one. UnreadableError."""
    if is_url(name):
        return sha256(read(name, sys.maxsize)[0])
    digest = hashlib.sha256()
    try:
        with regular(name) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()
