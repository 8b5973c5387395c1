"""What `twc batch encode` and `twc batch decode` have in common: options, devices, signals, exit codes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import click

from twcodec.batch import machine, names, storage
from twcodec.batch import manifest as memory
from twcodec.batch.run import Counts, Naming, Run, judged, manifest_path, orphans, tasks
from twcodec.batch.tasks import Engine, Job, Task
from twcodec.cli import options as common
from twcodec.cli.batch.view import View
from twcodec.cli.say import say, shown
from twcodec.codec.settings import MAX_SEED
from twcodec.errors import ExitCode, UnreadableError, UsageError

Command = Callable[..., Any]


def arguments(function: Command) -> Command:
    """Sources, and the folder of the outputs."""
    return common.apply(
        click.argument("sources", metavar="[SRC]...", nargs=-1, type=common.FILE),
        click.option(
            "-o",
            "--output-dir",
            "folder",
            metavar="DIR",
            type=common.FILE,
            required=True,
            help="Folder or URL; made if it is not there.",
        ),
        click.option("-r", "--recursive", is_flag=True, help="Also the folders in folders; their tree is kept."),
        click.option(
            "--files-from",
            metavar="FILE",
            type=common.FILE,
            default=None,
            help="Read names from a file, or - for a pipe.",
        ),
        click.option(
            "--include", metavar="PATTERN", multiple=True, help="Only names like '*.jpg', below SRC; may be repeated."
        ),
        click.option(
            "--exclude",
            metavar="PATTERN",
            multiple=True,
            help="No files or folders like 'thumbs', whatever is included.",
        ),
        click.option("--keep-extension", is_flag=True, help="Put the new extension behind the old: photo.png.twc."),
    )(function)


def options(function: Command) -> Command:
    """How the run goes, and where."""
    return common.apply(
        click.option("--jobs", type=click.IntRange(1, 1024), default=None, help="Pictures at once.  [default: by CPU]"),
        click.option("--shard", metavar="I/N", default="1/1", help="Do the I-th of N parts of all: for job arrays."),
        click.option(
            "--manifest",
            metavar="FILE",
            default=None,
            help="[default: twc-manifest.jsonl in DIR; shards have their own]",
        ),
        click.option(
            "--resume/--no-resume",
            default=True,
            show_default=True,
            help="Skip what the manifest says is done; --no-resume -f: do all again.",
        ),
        click.option("--fail-fast", is_flag=True, help="Begin nothing more after the first failure."),
        click.option("--max-errors", type=click.IntRange(1), default=None, help="Begin nothing more after so many."),
        click.option("--dry-run", is_flag=True, help="Only say what would be done."),
        common.fsync,
        click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True),
        click.option("--address", default=None, help="Of a Ray cluster, or auto.  [default: one is started here]"),
        common.model,
        common.device,
        common.threads,
        common.max_memory,
        common.max_pixels,
        common.force,
        click.option("--json", "as_json", is_flag=True, help="Print an event a line as JSON on standard output."),
        common.quiet,
        common.verbose,
    )(function)


@dataclass(frozen=True)
class Given:
    """What was asked for, beside the job."""

    sources: tuple[str, ...]
    folder: str
    recursive: bool
    files_from: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    keep_extension: bool
    jobs: int | None
    shard: str
    manifest: str | None
    resume: bool
    fail_fast: bool
    max_errors: int | None
    dry_run: bool
    fsync: bool
    engine: str
    address: str | None
    device: str
    threads: int | None
    max_memory: int | None
    max_pixels: int
    force: bool
    as_json: bool
    quiet: bool
    verbose: bool


def split(given: dict[str, Any]) -> tuple[Given, dict[str, Any]]:
    """The options of this file, and the others."""
    own = {name: given.pop(name) for name in Given.__dataclass_fields__}
    return Given(**own), given


def checked_seed(seed: int | None) -> int | None:
    """UsageError: as `twc encode`."""
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise UsageError(f"the seed {seed} is out of range; 0 to {MAX_SEED} is possible")
    return seed


def run(given: Given, job: Job, extensions: frozenset[str], suffix: str, seed: int | None = None, pack: int = 0) -> int:
    """All of it. extensions: of files in folders that are wanted. suffix: of outputs. Returns the exit code."""
    folder, shard = storage.local_if_file(given.folder), _shard(given.shard)
    if not folder:
        raise UsageError("an empty folder name was given for --output-dir")
    place = storage.Place(folder)
    if storage.is_url(folder):
        storage.opened(folder)  # or MissingError
    selection = names.Selection(extensions, given.recursive, given.include, given.exclude)
    left_out: list[str] = []
    found = _found(given, selection, left_out, folder)
    if not found:
        raise UsageError(_nothing(given, left_out))
    if not any(storage.is_url(one.source) or os.path.lexists(one.source) for one in found):
        raise UnreadableError(f"{shown(found[0].source)}: there is no such file or folder")
    job = replace(
        job,
        device=given.device,
        threads=given.threads,
        max_memory=given.max_memory,
        max_pixels=given.max_pixels,
        force=given.force,
        fsync=given.fsync,
        remote=storage.is_url(folder) or any(storage.is_url(one.source) for one in found),
    )
    planned = list(tasks(found, Naming(folder, suffix, given.keep_extension, pack, shard)))
    del found
    settings = job.fingerprint(_digest(job))
    view = View(given.as_json, given.quiet, given.verbose)
    view.left_out(left_out)
    path = manifest_path(folder, given.manifest, shard)
    if given.dry_run:
        entries = (memory.others(path) | memory.read(path) if path.exists() else {}) if given.resume else {}
        return _dry_run(judged(planned, entries, settings, seed, given.force, place), view, given.quiet)
    engines = _engines(given, job, len(planned))
    with contextlib.closing(memory.Manifest(path, given.resume)) as manifest:
        manifest.begin(job, settings, seed=seed, shard=list(shard), folder=folder, resume=given.resume)
        limit = 1 if given.fail_fast else given.max_errors
        view.orphans(orphans(planned, manifest.entries, folder) if shard == (1, 1) else [])
        whole = Run(*engines, manifest, settings, seed, limit, given.force, place)
        try:
            with _stopping(whole, view) as signals, view.running(len(planned)):
                whole.go(planned, view.item)
        finally:
            if given.as_json or whole.counts.seen or whole.stop:  # else an error says all there is to say
                view.summary(whole.counts, shown(str(path)))
    return _code(whole.counts, signals)


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    index, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(f"{text!r} is no shard; the third of ten is 3/10")
    return index, count


def _found(given: Given, selection: names.Selection, left_out: list[str], folder: str) -> list[names.Found]:
    listed = names.listed(given.files_from) if given.files_from else []
    if not given.sources and not given.files_from:
        raise UsageError("give files, folders or patterns, or a list by --files-from")
    sources = tuple(storage.local_if_file(source) for source in given.sources)
    return names.find(sources, selection, left_out.append, folder, listed)


def _nothing(given: Given, left_out: list[str]) -> str:
    hints = []
    if left_out:
        hints.append(f"{len(left_out)} files have other extensions, --include '*' takes them")
    if not given.recursive:
        hints.append("-r looks into folders of folders")
    return "nothing to do: no such files were found" + (f" ({'; '.join(hints)})" if hints else "")


def _digest(job: Job) -> bytes:
    """Of the model that encodes. Errors: as `twc encode`."""
    if job.kind == "decode" and job.model == "default":
        return b""
    from twcodec.models import catalogue
    from twcodec.models.file import digest_of

    return digest_of(catalogue.read(job.model, job.settings.quality)[1])


def _dry_run(found: Iterator[tuple[Task, str]], view: View, quiet: bool) -> int:
    """Say what would be done."""
    count = waiting = 0
    for task, verdict in found:
        count += 1
        waiting += not verdict
        view.would(task, verdict)
    if not quiet:
        say(f"{waiting} of {count} would be done")
    return ExitCode.OK


def _engines(given: Given, job: Job, most: int) -> tuple[Callable[[], Engine], Callable[[], Engine] | None]:
    """What does the work, in at most `most` processes; and what does alone, with all memory, what was too large."""
    if given.engine == "ray":
        from twcodec.batch.on_ray import RayEngine

        alone_there = None if given.jobs == 1 else (lambda: RayEngine(job, given.address, 1))
        return (lambda: RayEngine(job, given.address, given.jobs)), alone_there
    if given.address is not None:
        raise UsageError("--address is that of a Ray cluster: give --engine ray, too")
    from twcodec.batch.local import LocalEngine

    jobs = machine.jobs(job, given.jobs, most)
    if len(jobs) == 1:
        return (lambda: LocalEngine(jobs)), None
    alone = replace(jobs[0], threads=job.threads, max_memory=job.max_memory)
    return (lambda: LocalEngine(jobs)), (lambda: LocalEngine([alone]))


@contextlib.contextmanager
def _stopping(whole: Run, view: View) -> Iterator[list[int]]:
    """The first Ctrl-C or SIGTERM ends the run when what was begun is done, a second Ctrl-C at once."""
    seen: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        seen.append(number)
        if len(seen) > 2:
            return  # it is stopping, and would leave things behind
        if len(seen) == 2:
            raise KeyboardInterrupt
        whole.stop = True
        view.note_at_once("finishing what was begun; Ctrl-C again stops at once")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    except KeyboardInterrupt:
        view.note("stopped; the same command goes on from here")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _code(counts: Counts, signals: list[int]) -> int:
    if signals and counts.stopped:
        return 128 + signals[0]
    if counts.lost:
        return ExitCode.OUTPUT
    return ExitCode.SOME_FAILED if counts.failed or counts.bad or counts.stopped else ExitCode.OK
