"""Pictures in tar files, as WebDataset and object stores like them: in, out, and packed from single files.

A tar file is one output: it appears whole or not at all. Pictures in it that cannot be read are left out and listed;
what is no picture by its name is copied, so samples keep their labels.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from twcodec.batch import storage
from twcodec.batch.names import PICTURES, TARS
from twcodec.batch.tasks import SEED_BITS, Job, Member, Record, Task
from twcodec.errors import ExitCode, LimitError, OutputError, TwcError, UnreadableError
from twcodec.imaging.files import write_output

if TYPE_CHECKING:
    from twcodec.batch.work import Made

Make = Callable[[bytes, int], "Made"]
_BLOCK = 1 << 20


def is_tar(name: str) -> bool:
    """By its extension."""
    return PurePosixPath(name).suffix.lower() in TARS


def seed_of(seed: int, name: str) -> int:
    """The seed of a picture in a tar file whose task has this seed: no two pictures share one but by chance."""
    digest = hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)


def do(task: Task, make: Make, limit: int, job: Job) -> Record:
    """A tar file of outputs. limit: bytes of one picture. Errors: of the tar file itself; TwcError."""
    own = PICTURES if job.kind == "encode" else frozenset([".twc"])
    suffix = ".twc" if job.kind == "encode" else extension(job.form)
    reading = _Hashed()
    pictures: list[Record] = []
    bad: list[Record] = []
    taken: set[str] = set()
    members = {"members": stamp_of(task.members)} if task.members else {}
    before = [0, 0] if task.members else storage.stamp(task.source) or [0, 0]
    with _output(task.target, task.overwrite or job.force, job.fsync) as out:
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            entries = _packed(task, limit, reading) if task.members else _entries(task.source, own, limit, reading)
            for info, data in entries:
                try:
                    if isinstance(data, TwcError):
                        raise data
                    if task.members or PurePosixPath(info.name).suffix.lower() in own:
                        name, seed = _name(info.name, suffix, taken), seed_of(task.seed, info.name)
                        made = make(data, seed)
                        info.name, data = name, made.data
                        pictures.append({"name": name, "bytes": len(data), "branch": made.branch, "seed": seed})
                    elif info.name in taken:
                        raise OutputError("there is something of this name already; it was left out")
                except TwcError as error:
                    bad.append({"name": info.name, "error": str(error), "code": int(error.exit_code)})
                except MemoryError:
                    bad.append({"name": info.name, "error": "out of memory", "code": int(ExitCode.LIMIT)})
                else:
                    _add(tar, info, data)
                    taken.add(info.name)
        size, sha256 = out.size, out.sha256()
    return {
        "status": "done",
        "source": task.source,
        "source_bytes": reading.size,
        "source_sha256": reading.sha256(),
        "source_mtime_ns": before[1],
        "sha256": sha256,
        "bytes": size,
        "mtime_ns": storage.changed_at(task.target),
        "branch": "",
        "seed": task.seed,
        "pictures": pictures,
        "failed": bad,
        **members,
    }


def stamp_of(members: tuple[Member, ...]) -> str:
    """Of the files that are packed: 16 hexadecimal digits of their names, sizes and times of change."""
    digest = hashlib.sha256()
    for member in members:
        try:
            stamp = storage.stamp(member.source)
        except UnreadableError:
            stamp = None
        about = [storage.absolute(member.source), member.name, stamp]
        digest.update(json.dumps(about).encode())
    return digest.hexdigest()[:16]


def _name(name: str, suffix: str, taken: set[str]) -> str:
    """Of an output in a tar file: a.twc; a.jpg.twc where a.twc has come of a.png; and a.jpg-2.twc after that."""
    more = (f"{name}-{i}{suffix}" for i in itertools.count(2))
    tried = itertools.chain([str(PurePosixPath(name).with_suffix(suffix)), name + suffix], more)
    return next(one for one in tried if one not in taken)


def extension(form: str) -> str:
    """Of a format of Pillow's."""
    from twcodec.imaging.formats import FORMATS

    return FORMATS[form].extensions[0]


def _add(tar: tarfile.TarFile, info: tarfile.TarInfo, data: bytes) -> None:
    info.size = len(data)
    info.pax_headers = {}
    tar.addfile(info, io.BytesIO(data))


def _entries(
    source: str, own: frozenset[str], limit: int, reading: _Hashed
) -> Iterator[tuple[tarfile.TarInfo, bytes | TwcError]]:
    """The files in a tar file, in order. What is neither file nor link, a folder or a device, is left out."""
    try:
        with _input(source) as file, tarfile.open(fileobj=reading.of(file), mode="r|") as tar:
            for info in tar:
                if not info.isfile():
                    if info.islnk() or info.issym():
                        yield info, UnreadableError(f"it is a link to {info.linkname}; only plain files are taken")
                    continue
                if info.name.startswith("/") or ".." in info.name.split("/"):
                    yield info, UnreadableError("its name leads out of the folder that it is unpacked in")
                    continue
                if info.size > limit:
                    yield info, LimitError(f"it has {info.size} bytes; {limit} are allowed")
                    continue
                member = tar.extractfile(info)
                data = member.read() if member else b""
                if len(data) < info.size:
                    raise UnreadableError("the tar file is truncated")
                yield info, data
            while reading.read(_BLOCK):
                pass
            if reading.content_end > tar.offset:
                raise UnreadableError(f"the tar file is damaged at byte {tar.offset}, or another one follows")
            if reading.size < tar.offset + tarfile.BLOCKSIZE:
                raise UnreadableError("the tar file is truncated")
    except tarfile.TarError as error:
        raise UnreadableError(f"not a sound tar file: {error}") from None
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from None


def _packed(task: Task, limit: int, reading: _Hashed) -> Iterator[tuple[tarfile.TarInfo, bytes | TwcError]]:
    """The single files that are packed into one."""
    for member in task.members:
        info = tarfile.TarInfo(member.name)
        try:
            data, (_, changed) = storage.read(member.source, limit)
        except TwcError as error:
            yield info, error
            continue
        reading.add(data)
        info.mtime = changed // 10**9
        yield info, data


@contextlib.contextmanager
def _input(source: str) -> Iterator[IO[bytes]]:
    if storage.is_url(source):
        system, path = storage.opened(source)
        with system.open(path, "rb") as file:
            yield file
    else:
        with storage.regular(source) as file:
            yield file


class _Hashed:
    """What is read through it, or told to it, is counted and hashed. content_end: the offset behind all but zeros."""

    def __init__(self) -> None:
        self.size, self._sha, self._file = 0, hashlib.sha256(), None
        self.content_end = 0

    def of(self, file: Any) -> Any:
        """Read from this file."""
        self._file = file
        return self

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        assert self._file is not None
        data: bytes = self._file.read(size)
        self.add(data)
        return data

    def add(self, data: bytes) -> None:
        """This was read."""
        if content := data.rstrip(b"\0"):
            self.content_end = self.size + len(content)
        self.size += len(data)
        self._sha.update(data)

    def sha256(self) -> str:
        """As `sha256sum` prints it."""
        return self._sha.hexdigest()


class _Written:
    """A file that counts and hashes what is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hashed = file, _Hashed()

    def write(self, data: bytes) -> int:
        """As of a file."""
        self._hashed.add(data)
        return self._file.write(data)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._hashed.size

    def sha256(self) -> str:
        """As `sha256sum` prints it."""
        return self._hashed.sha256()


@contextlib.contextmanager
def _output(target: str, overwrite: bool, fsync: bool) -> Iterator[Any]:
    """A file that becomes `target`: beside it on a disk, in a temporary file where it goes to an object store."""
    if not storage.is_url(target):
        storage.make_folder(target, fsync)
        with write_output(target, overwrite, storage.token_of(target), fsync) as file:
            yield _Written(file)
        return
    with tempfile.TemporaryDirectory(prefix="twc-") as folder:
        path = Path(folder) / "out.tar"
        with path.open("wb") as file:
            yield _Written(file)
        storage.upload(path, target, overwrite)
