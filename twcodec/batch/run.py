"""A run: what is to be done, less what has been; an engine that does it; a manifest that remembers."""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from twcodec.batch import names, storage, tar
from twcodec.batch.manifest import Entry, Manifest
from twcodec.batch.names import Found
from twcodec.batch.tasks import SEED_BITS, Engine, Listen, Member, Record, Task, failed
from twcodec.errors import ExitCode, OutputError
from twcodec.imaging.files import TAKEN


@dataclass(frozen=True)
class Naming:
    """Where outputs go and what they are called.

    folder: path or URL. suffix: in place of a source's own, or behind it where `keep` is set. pack: so many pictures
    into one tar file; 0 for files of their own. shard: i of n, counted from 1: every n-th, so that n machines do all.
    """

    folder: str
    suffix: str
    keep: bool = False
    pack: int = 0
    shard: tuple[int, int] = (1, 1)

    def output(self, name: str) -> str:
        """The key of the output of a source of this name."""
        if tar.is_tar(name):
            return name
        return name + self.suffix if self.keep else str(PurePosixPath(name).with_suffix(self.suffix))


Planned = Task | tuple[Task, str]
"""What there is to do; with a reason where it cannot be done."""


def tasks(found: Iterable[Found], naming: Naming) -> Iterator[Planned]:
    """What there is to do in this shard, in order; with a reason where it cannot be done, and then without a key."""
    index, count = naming.shard
    if naming.pack:
        yield from _packed(itertools.islice(found, index - 1, None, count), naming)
    else:
        yield from itertools.islice(_single(found, naming), index - 1, None, count)


def _single(found: Iterable[Found], naming: Naming) -> Iterator[Planned]:
    """One output for each, and no two the same in all shards together."""
    taken: dict[str, str] = {}
    for one in found:
        key = naming.output(one.name)
        task = Task(key, one.source, storage.joined(naming.folder, key))
        if key in taken:
            yield replace(task, key=""), f"{key} is what {taken[key]} becomes; --keep-extension tells them apart"
        elif _is_source(task):
            yield replace(task, key=""), "the output is the input itself; give another folder"
        else:
            taken[key] = one.source
            yield task


def _is_source(task: Task) -> bool:
    same_name = PurePosixPath(task.source).name == PurePosixPath(task.key).name  # else nobody need ask the disk
    return same_name and os.path.realpath(task.source) == os.path.realpath(task.target)


def _packed(found: Iterable[Found], naming: Naming) -> Iterator[Task]:
    """So many pictures to a tar file."""
    everything, (index, count) = iter(found), naming.shard
    for number in itertools.count():
        part = list(itertools.islice(everything, naming.pack))
        if not part:
            return
        key = f"{number * count + index - 1:06d}.tar"
        members = tuple(Member(one.source, one.name) for one in part)
        yield Task(key, f"{part[0].source} ...", storage.joined(naming.folder, key), members=members)


@dataclass
class Counts:
    """What has come of a run so far. bad: pictures inside tar files that failed. lost: why it was given up."""

    total: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    bad: int = 0
    source_bytes: int = 0
    bytes: int = 0
    branches: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    lost: str = ""
    stopped: bool = False

    @property
    def seen(self) -> int:
        """Tasks of which something has come."""
        return self.done + self.skipped + self.failed

    def add(self, task: Task, record: Record) -> None:
        """One more."""
        if record["status"] == "failed":
            self.failed += 1
            self._fail(task.source, str(record["error"]))
            return
        self.done += 1
        self.source_bytes += record["source_bytes"]
        self.bytes += record["bytes"]
        for branch in [record["branch"], *(picture["branch"] for picture in record.get("pictures", ()))]:
            if branch:
                self.branches[branch] = self.branches.get(branch, 0) + 1
        self.warnings += [(task.source, w) for w in record.get("warnings", ()) if len(self.warnings) < MOST_FAILURES]
        for bad in record.get("failed", ()):
            self.bad += 1
            self._fail(f"{task.source}: {bad['name']}", str(bad["error"]))

    def _fail(self, source: str, error: str) -> None:
        if len(self.failures) < MOST_FAILURES:
            self.failures.append((source, error))


MOST_FAILURES = 1000
"""Failures that are remembered with their reasons; the manifest has all."""


@dataclass
class Run:
    """One run. seed: of all draws; None takes each from the system. max_failures: after which the run is given up.

    alone: an engine with all the memory for itself, for what was too large when others had their share; None: there is
    nothing to be gained. force: replace outputs that no earlier run made. place: of the outputs. stop: set it from
    outside, and nothing more is begun.
    """

    engine: Callable[[], Engine]
    alone: Callable[[], Engine] | None
    manifest: Manifest
    settings: str
    seed: int | None = None
    max_failures: int | None = None
    force: bool = False
    place: storage.Place = field(default_factory=lambda: storage.Place(""))
    stop: bool = False
    counts: Counts = field(default_factory=Counts)
    _begun: dict[str, Task] = field(default_factory=dict)

    def go(self, planned: list[Planned], each: Listen) -> Counts:
        """Do all that is not done yet. each: is told what came of every task, skipped ones too.

        TwcError: nothing can be done at all. KeyboardInterrupt: what was begun is dropped, as if it had not been.
        """
        self.counts.total = len(planned)
        large: list[Task] = []
        self._work(self.engine, self._waiting(planned, each), each, large if self.alone else None)
        if self.alone and not self.stop:
            self._work(self.alone, iter(large), each, None)  # announced already
        self.counts.stopped = self.counts.seen < self.counts.total
        return self.counts

    def _work(
        self, engine: Callable[[], Engine], waiting: Iterator[Task], each: Listen, large: list[Task] | None
    ) -> None:
        """Do what waits, if anything does. large: takes what fails at a limit, to be tried once more."""
        first = next(waiting, None)
        if first is None:
            return
        given = itertools.chain([first], waiting)
        results = engine().run(self._started(given) if large is not None or not self.alone else self._again(given))
        try:
            for task, record in results:
                self._begun.pop(task.key, None)
                if large is not None and record["status"] == "failed" and record["code"] == ExitCode.LIMIT:
                    large.append(task)
                else:
                    self._finished(task, record, each)
        finally:
            results.close()
            for task in self._begun.values():
                storage.tidy(task.target)

    def _finished(self, task: Task, record: Record, each: Listen) -> None:
        if record.get("lost"):
            self.counts.lost = self.counts.lost or str(record["error"])
            self.stop = True
        if record["status"] == "failed" and task.key:
            storage.tidy(task.target)  # of a killed run, if this one never came to writing
        self.counts.add(task, record)
        try:
            self.manifest.finished(task.key, self.settings, {k: v for k, v in record.items() if k != "lost"})
        except OutputError as error:
            self.counts.lost = self.counts.lost or str(error)
            self.stop = True
        if self.max_failures is not None and self.counts.failed + self.counts.bad >= self.max_failures:
            self.stop = True
        each(task, record)

    def _waiting(self, planned: list[Planned], each: Listen) -> Iterator[Task]:
        """What is to be done, with its seed; what is done, or cannot be, is counted."""
        for task, verdict in judged(planned, self.manifest.entries, self.settings, self.seed, self.force, self.place):
            if self.stop:
                return
            if verdict == DONE:
                self.counts.skipped += 1
                each(task, {"status": "skipped"})
            elif verdict:
                self._finished(task, failed(task, ExitCode.OUTPUT, verdict), each)
            else:
                yield task

    def _started(self, waiting: Iterator[Task]) -> Iterator[Task]:
        for task in waiting:
            if self.stop:
                return
            try:
                self.manifest.started([task.key], self.settings)
            except OutputError as error:
                self.counts.lost, self.stop = str(error), True
                return
            self._begun[task.key] = task
            yield task

    def _again(self, waiting: Iterator[Task]) -> Iterator[Task]:
        for task in waiting:
            if self.stop:
                return
            self._begun[task.key] = task
            yield task


DONE = "done"


def judged(
    planned: Iterable[Planned],
    entries: dict[str, Entry],
    settings: str,
    seed: int | None,
    force: bool,
    place: storage.Place,
) -> Iterator[tuple[Task, str]]:
    """Each task as it would be given to an engine, and "", `DONE`, or a reason why it cannot be done.

    entries: of the manifest. seed: of all draws; None takes each from the system. That an output is taken is found
    before the manifest says that it was begun, or the next run would take the file for its own.
    """
    for one in planned:
        if isinstance(one, tuple):
            yield one
            continue
        entry = entries.get(one.key)
        own = secrets.randbits(SEED_BITS) if seed is None else tar.seed_of(seed, one.key)
        if entry and entry.still_holds(settings, one, None if seed is None else own):
            yield one, DONE
            continue
        task = replace(one, seed=own, overwrite=entry is not None and entry.replaceable)
        yield task, TAKEN if not task.overwrite and not force and place.has(task.target) else ""


def orphans(planned: Iterable[Planned], entries: dict[str, Entry], folder: str) -> list[str]:
    """Outputs of earlier runs that nothing makes any more: their sources are gone, or packed into other tar files."""
    kept = {one[0].key if isinstance(one, tuple) else one.key for one in planned}
    done = (key for key, entry in entries.items() if entry.status == "done" and key not in kept)
    return [key for key in done if not storage.is_url(folder) and os.path.lexists(storage.joined(folder, key))]


def manifest_path(folder: str, given: str | None, shard: tuple[int, int]) -> Path:
    """Where the manifest is: in the folder of the outputs, or, where that is a URL, in the current one."""
    if given:
        return Path(given)
    name = names.MANIFESTS.replace("*", "" if shard == (1, 1) else f"-{shard[0]}-of-{shard[1]}")
    if storage.is_url(folder):
        return Path(f"{hashlib.sha256(folder.encode()).hexdigest()[:8]}-{name}")
    return Path(folder) / name
