"""Files and pipes: reading whole inputs, and writing outputs so that they appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from twcodec.container.chunks import MAGIC
from twcodec.errors import LimitError, OutputError, UnreadableError, UsageError
from twcodec.imaging import unfinished

PIPE = "-"
TAKEN = "the output exists already; overwrite it with -f"
_BLOCK = 1 << 20


def read_input(name: str, limit: int) -> bytes:
    """The bytes of a file, or of standard input for "-". UnreadableError; LimitError: more than `limit` bytes."""
    try:
        if name == PIPE:
            return _read_all(input_pipe(), limit)
        with _named(name).open("rb") as file:
            return _read_all(file, limit)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from None


def _read_all(file: BinaryIO, limit: int) -> bytes:
    """Everything, block by block: a small file takes little memory, and a foreign one is not read to its end."""
    data = bytearray()
    while block := file.read(_BLOCK):
        data += block
        if not data.startswith(MAGIC[: len(data)]):
            break
        if len(data) > limit:
            raise LimitError(f"the input has more than {limit} bytes, which is the limit for a TWC file")
    return bytes(data)


def _named(name: str) -> Path:
    """A path from what was typed. UsageError: nothing was."""
    if not name:
        raise UsageError("an empty file name was given")
    return Path(name)


def input_pipe() -> BinaryIO:
    """Standard input, unless a person would have to type a picture."""
    if sys.stdin is None:
        raise UnreadableError("standard input is closed")
    if sys.stdin.isatty():
        raise UsageError("standard input is a terminal; give a file name, or a pipe for -")
    os.set_blocking(sys.stdin.fileno(), True)  # the other end may have said otherwise
    return sys.stdin.buffer


def claim_output_pipe() -> BinaryIO:
    """Standard output for data alone: whatever any library prints from here on goes to standard error.

    UsageError: it is a terminal. OutputError: it is closed.
    """
    _check_pipe()
    sys.stdout.flush()
    data = os.dup(1)
    os.dup2(2, 1)
    os.set_blocking(data, True)
    return os.fdopen(data, "wb")


def check_output(name: str, force: bool, source: str | None = None) -> None:
    """Fail early where `write_output` would fail later.

    OutputError: it exists, has no folder or one that cannot be written, or is the input. UsageError: a terminal.
    """
    if name == PIPE:
        _check_pipe()
        return
    path = _named(name)
    try:
        _check_path(path, force, None if source in (None, PIPE, "") else Path(str(source)))
    except OSError as error:
        raise OutputError(f"the output cannot be written: {error.strerror}") from None


def _check_pipe() -> None:
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    if sys.stdout.isatty():
        raise UsageError("refusing to write binary data to a terminal; give a file name, or a pipe for -")


def _check_path(path: Path, force: bool, source: Path | None) -> None:
    if path.is_dir():
        raise OutputError("the output is a folder; give a file name")
    if not _is_plain(path):
        return
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise OutputError("the output is the input itself; give another name")
    if os.path.lexists(path) and not force:
        raise OutputError(TAKEN)
    folder = _target(path).parent
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {folder} cannot be written to")


@contextlib.contextmanager
def write_output(name: str, force: bool, token: str | None = None, fsync: bool = False) -> Iterator[BinaryIO]:
    """A binary file that becomes `name` when the block ends well, and leaves nothing behind when it does not.

    It is written beside its target and renamed. Devices, named pipes and "-" are written as they are. OutputError.
    token: in the temporary file's name, for one writer at a time, who replaces what a killed one left; None draws it.
    fsync: when the block has ended, the file and its name are on the disk; a pipe has none.
    """
    check_output(name, force)
    try:
        if name == PIPE:
            with claim_output_pipe() as pipe, _on_disk_at_the_end(pipe, fsync):
                yield pipe
        elif not _is_plain(Path(name)):
            with Path(name).open("wb") as device, _on_disk_at_the_end(device, fsync):
                yield device
        else:
            with _renamed_at_the_end(_target(Path(name)), force, token, fsync) as file:
                yield file
    except BrokenPipeError:
        raise OutputError("the reader of the output went away") from None
    except OSError as error:
        raise OutputError(f"the output cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _renamed_at_the_end(path: Path, force: bool, token: str | None, fsync: bool) -> Iterator[BinaryIO]:
    temporary = path.with_name(f".twc-{token or secrets.token_hex(8)}.tmp")
    if token:
        temporary.unlink(missing_ok=True)
    unfinished.add(str(temporary))
    try:
        with os.fdopen(_created(temporary), "wb") as file:
            _keep_permissions(path, file.fileno())
            with _on_disk_at_the_end(file, fsync):
                yield file
        _publish(temporary, path, force)
    finally:
        unfinished.remove([str(temporary)])
    if fsync:
        folder_to_disk(path.parent)


def _created(temporary: Path) -> int:
    """A descriptor of a new file. FileExistsError: somebody else has one of this name, which is theirs to remove."""
    try:
        return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # the umask applies
    except FileExistsError:
        unfinished.forget(str(temporary))
        raise


_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""What fsync says of pipes, terminals and devices, and of folders on file systems that know no such thing."""


@contextlib.contextmanager
def _on_disk_at_the_end(file: BinaryIO, fsync: bool) -> Iterator[None]:
    yield
    if fsync:
        file.flush()
        _to_disk(file.fileno())


def _to_disk(descriptor: int) -> None:
    """Wait until what was written is on the disk, where there is one. OSError."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def folder_to_disk(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: a file that was synced may still lose its name. OutputError."""
    if os.name == "nt":  # folders cannot be opened there
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _to_disk(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OutputError(f"the output is complete, but may not be on the disk: {error.strerror}") from None


def _keep_permissions(path: Path, descriptor: int) -> None:
    """A file that replaces another is as private as that one was."""
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode))


def _publish(temporary: Path, path: Path, force: bool) -> None:
    """Give the finished file its name; without `force`, never over a file that has appeared meanwhile.

    It may keep the temporary one, too.
    """
    if force:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise OutputError(TAKEN) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise OutputError(TAKEN) from None
        temporary.replace(path)


def _is_plain(path: Path) -> bool:
    """Whether the path is, or would be, a regular file: devices and named pipes are neither renamed nor refused."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _target(path: Path) -> Path:
    """Where a symbolic link leads, so that it stays a link."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return target
