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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twcodec import __version__
from twcodec.batch import storage
from twcodec.batch.tasks import Job, Record, Task
from twcodec.errors import CorruptError, OutputError, UnsupportedError

VERSION = 1
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered of an output. source, output: size and time of change, as `storage.stamp`.

    failures: of pictures inside a tar file.
    """

    status: str
    settings: str = ""
    source: tuple[int, int] = (0, 0)
    source_sha256: str = ""
    output: tuple[int, int] = (0, 0)
    sha256: str = ""
    failures: int = 0

    def still_holds(self, settings: str, task: Task) -> bool:
        """Whether the output is there as it was written, from the source as it is, with these settings.

        Files of the same size and time of change are taken to be the same; where only the time differs, their contents
        are compared. What was packed from several files is the same if none of them has changed.
        """
        if self.status != "done" or self.settings != settings or self.failures:
            return False
        if task.members:
            same = storage.stamp_of_all(member.source for member in task.members) == self.source
        else:
            same = _same(task.source, self.source, self.source_sha256)
        return same and _same(task.target, self.output, self.sha256)


def _same(name: str, then: tuple[int, int], sha256: str) -> bool:
    now = storage.stamp(name)
    if now is None or now[0] != then[0]:
        return False
    return now[1] == then[1] or storage.sha256(storage.read(name, now[0])) == sha256


class Manifest:
    """An open manifest, which one process at a time may have."""

    def __init__(self, path: Path, resume: bool) -> None:
        """path: it need not be there. resume: False forgets what it says. Errors: CorruptError: it is no manifest;

        OutputError: it cannot be written, or another run has it.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise OutputError(f"{path}: the manifest cannot be written: {error.strerror}") from None
        try:
            self._lock()
            self._whole = self._cut_torn_line()
            self.entries = dict(self._read()) if resume else {}
        except BaseException:
            self._file.close()
            raise

    def begin(self, job: Job, settings: str, **about: Any) -> None:
        """A line about the run itself."""
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

    def _cut_torn_line(self) -> int:
        """Cut off what follows the last end of a line; returns the size."""
        size = self._file.seek(0, os.SEEK_END)
        end = size
        while end:
            start = max(0, end - _BLOCK)
            self._file.seek(start)
            found = self._file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size and self._is_manifest(min(size, _BLOCK)):
            self._file.truncate(end)
        elif end < size:
            raise CorruptError(f"{self.path} is no manifest of twc batch; name another with --manifest")
        return end

    def _is_manifest(self, size: int) -> bool:
        """Whether the file begins as one does, as far as it goes."""
        self._file.seek(0)
        start, head = self._file.read(size), b'{"twc_manifest": '
        return start[: len(head)] == head[: len(start)]

    def _read(self) -> Iterator[tuple[str, Entry]]:
        if self._whole and not self._is_manifest(64):
            raise CorruptError(f"{self.path} is no manifest of twc batch; name another with --manifest")
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    found = json.loads(line)
                    if found["status"] != "run":
                        yield found["output"], _entry(found)
                    elif found["twc_manifest"] > VERSION:
                        raise UnsupportedError(
                            f"{self.path} is of a later version of twc; name another with --manifest"
                        )
                except (ValueError, KeyError, TypeError):
                    raise CorruptError(
                        f"{self.path}, line {number}: damaged; mend it, or forget it with --no-resume"
                    ) from None


def _entry(found: Record) -> Entry:
    if found["status"] != "done":
        return Entry(str(found["status"]))
    source, output = (found["source_bytes"], found["source_mtime_ns"]), (found["bytes"], found["mtime_ns"])
    shas, failures = (str(found["source_sha256"]), str(found["sha256"])), len(found.get("failed", ()))
    return Entry("done", str(found["settings"]), source, shas[0], output, shas[1], failures)
