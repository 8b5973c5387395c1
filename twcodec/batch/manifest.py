"""What has been done: a file of JSON lines that is only ever added to.

    {"twc_manifest": 1, "status": "run", "settings": ..., "job": {...}, ...}       one for each run
    {"status": "started", "output": ..., "settings": ...}                           before an output is begun
    {"status": "done", "source": ..., "source_bytes": ..., "source_sha256": ..., "source_mtime_ns": ...,
     "settings": ..., "output": ..., "sha256": ..., "bytes": ..., "mtime_ns": ..., "seconds": ..., "branch": ...,
     "seed": ...}                                                                    a tar file's has more, see `tar`
    {"status": "failed", "source": ..., "output": ..., "error": ..., "code": ...}

The last line of an output counts. A line that a killed run left unfinished is cut off.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from twcodec import __version__
from twcodec.batch import names, storage, tar
from twcodec.batch.tasks import Job, Record, Task
from twcodec.errors import CorruptError, OutputError, TwcError, UnsupportedError

VERSION = 1
_BLOCK = 1 << 20
_HEAD = b'{"twc_manifest": '


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered of an output. source, output: size and time of change, as `storage.stamp`.

    failures: of pictures inside a tar file. members: what was packed into one, as `tar.stamp_of` has it. ours: an
    earlier run made the output, whatever has become of it since.
    """

    status: str
    settings: str = ""
    source: tuple[int, int] = (0, 0)
    source_sha256: str = ""
    output: tuple[int, int] = (0, 0)
    sha256: str = ""
    failures: int = 0
    members: str = ""
    seed: int = 0
    ours: bool = True

    @property
    def replaceable(self) -> bool:
        """Whether what lies where the output goes, if anything, is an earlier run's."""
        return self.ours or self.status == "started"

    def still_holds(self, settings: str, task: Task, seed: int | None = None) -> bool:
        """Whether the output is there as it was written, from the source as it is, with these settings.

        seed: that it was to have; None: any. Files of the same size and time of change are taken to be the same; where
        only the time differs, their contents are compared. What was packed from several files is the same if none of
        them has changed in size or time.
        """
        if self.status != "done" or self.settings != settings or self.failures or seed not in (None, self.seed):
            return False
        if task.members:
            same = tar.stamp_of(task.members) == self.members
        else:
            same = _same(task.source, self.source, self.source_sha256)
        return same and _same(task.target, self.output, self.sha256)


def _same(name: str, then: tuple[int, int], sha256: str) -> bool:
    try:
        now = storage.stamp(name)
        if now is None or now[0] != then[0]:
            return False
        return now[1] == then[1] or storage.sha256_of(name) == sha256
    except TwcError:  # whoever does it again will find that, too
        return False


class Manifest:
    """An open manifest, which one process at a time may have."""

    def __init__(self, path: Path, resume: bool) -> None:
        """path: it need not be there. resume: False forgets what it says.

        Errors: as `read`; OutputError: it cannot be written, or another run has it.
        """
        self.path = path
        storage.make_folder(str(path))
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise OutputError(f"{path}: the manifest cannot be written: {error.strerror}") from None
        try:
            self._lock()
            _check(self._file, path)
            self._cut_torn_line()
            self.entries = others(path) | read(path) if resume else {}
        except BaseException:
            self._file.close()
            raise

    def begin(self, job: Job, settings: str, **about: Any) -> None:
        """A line about the run itself. about: resume=False: lines before it may be damaged."""
        date = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        head = {"twc_manifest": VERSION, "status": "run", "twc": __version__, "date": date, "settings": settings}
        self._add({**head, **about, "job": job.to_json()})

    def started(self, outputs: list[str], settings: str) -> None:
        """These are about to be written."""
        self._add(*({"status": "started", "output": output, "settings": settings} for output in outputs))

    def finished(self, output: str, settings: str, record: Record) -> None:
        """This is what came of it."""
        self._add({"output": output, "settings": settings, **record})

    def close(self) -> None:
        """Others may have it."""
        self._file.close()

    def _add(self, *records: Record) -> None:
        """Lines at the end, all of them or none. OutputError: the disk is full."""
        lines = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        before = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(lines) == len(lines):
                return
            reason = "it was written in part"
        except OSError as error:
            reason = str(error.strerror)
        with contextlib.suppress(OSError):
            self._file.truncate(before)
        raise OutputError(f"{self.path}: the manifest cannot be written: {reason}")

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"{self.path}: another run is writing this manifest; wait for it, or divide the work with --shard"
            ) from None
        except OSError:  # a file system without locks
            return

    def _cut_torn_line(self) -> None:
        """Cut off what follows the last end of a line."""
        size = end = self._file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            self._file.seek(start)
            found = self._file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            self._file.truncate(end)


def read(path: Path) -> dict[str, Entry]:
    """What a manifest says of each output. The file is left as it is, and its last line, if unfinished, is not read.

    Errors: CorruptError: it is no manifest; UnsupportedError: that of a later version.
    """
    entries: dict[str, Entry] = {}
    damaged = 0
    with path.open("rb") as lines:
        _check(lines, path)
        lines.seek(0)
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                found = json.loads(line)
                if found["status"] != "run":
                    entries[found["output"]] = _entry(found, entries.get(found["output"]))
                elif found["twc_manifest"] > VERSION:
                    raise UnsupportedError(f"{path} is of a later version of twc; name another with --manifest")
                elif not found.get("resume", True):
                    damaged = 0
            except (ValueError, KeyError, TypeError, AttributeError):
                damaged = damaged or number
    if damaged:
        raise CorruptError(f"{path}, line {damaged}: damaged; mend it, or forget it with --no-resume -f")
    return entries


def others(path: Path) -> dict[str, Entry]:
    """What the manifests beside this one say is done: those of runs with other shards. Bad ones say nothing."""
    found: dict[str, Entry] = {}
    for beside in sorted(path.parent.glob(names.MANIFESTS)):
        if beside != path:
            with contextlib.suppress(TwcError, OSError):
                found |= {key: entry for key, entry in read(beside).items() if entry.status == "done"}
    return found


def _check(file: IO[bytes], path: Path) -> None:
    """CorruptError: the file does not begin as a manifest does, as far as it goes."""
    file.seek(0)
    start = file.read(len(_HEAD))
    if start != _HEAD[: len(start)]:
        raise CorruptError(f"{path} is no manifest of twc batch; name another with --manifest")


def _entry(found: Record, before: Entry | None) -> Entry:
    if found["status"] == "started":
        return Entry("started", ours=before is not None and before.replaceable)
    if found["status"] != "done":
        return Entry(str(found["status"]), ours=before is not None and before.ours)
    return Entry(
        "done",
        settings=str(found["settings"]),
        source=(found["source_bytes"], found["source_mtime_ns"]),
        source_sha256=str(found["source_sha256"]),
        output=(found["bytes"], found["mtime_ns"]),
        sha256=str(found["sha256"]),
        failures=len(found.get("failed", ())),
        members=str(found.get("members", "")),
        seed=int(found["seed"]),
    )
