"""What a run shows: a bar on a terminal, a line now and then elsewhere, events for programs; a summary at the end."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from twcodec.batch.run import DONE, MOST_FAILURES, Counts
from twcodec.batch.tasks import Record, Task
from twcodec.cli.say import as_text, say, shown, tell

if TYPE_CHECKING:
    from rich.progress import Progress

EVERY = 10.0
"""Seconds between two lines where no bar can be shown."""

LISTED, ALIKE = 100, 40
"""Failures, and warnings, in the summary, and how many of them may say the same."""


class View:
    """Tells a person, or a program, how a run goes."""

    def __init__(self, as_json: bool, quiet: bool, verbose: bool) -> None:
        self._json, self._quiet, self._verbose = as_json, quiet, verbose
        self._start = self._last = time.monotonic()
        self._total = self._seen = self._worked = 0
        self._bar: Progress | None = None

    def left_out(self, sources: list[str]) -> None:
        """Files of folders that are no pictures by their names."""
        for source in sources:
            self._event("left-out", source=source)
        if sources and not self._quiet:
            names = ", ".join(shown(source) for source in sources[: 10**9 if self._verbose else 5])
            more = "" if self._verbose or len(sources) <= 5 else ", ..."
            what = "1 file" if len(sources) == 1 else f"{len(sources)} files"
            say(f"left out, by their extensions: {what} ({names}{more}); --include '*' takes them")

    def orphans(self, keys: list[str]) -> None:
        """Outputs of earlier runs that nothing makes any more."""
        if keys and not self._quiet:
            names = ", ".join(shown(key) for key in keys[:5])
            more = ", ..." if len(keys) > 5 else ""
            say(f"warning: outputs of earlier runs that come of nothing any more: {len(keys)} ({names}{more})")

    def would(self, task: Task, verdict: str) -> None:
        """What a run would do with a task."""
        if self._json:
            self._event("plan", source=task.source, output=task.key, verdict=verdict or "do")
        elif not verdict:
            tell(f"{shown(task.source)} -> {shown(task.target)}")
        elif verdict != DONE:
            tell(f"{shown(task.source)}: would fail: {verdict}")

    def note(self, line: str) -> None:
        """Something that happened."""
        if not self._quiet:
            self._say(line)

    def note_at_once(self, line: str) -> None:
        """The same from a signal's handler, which must not come between two halves of another line."""
        if not self._quiet:
            with contextlib.suppress(OSError):
                os.write(2, f"twc: {line}\n".encode())

    @contextlib.contextmanager
    def running(self, total: int) -> Iterator[None]:
        """While the block runs, a bar, if anybody can see it."""
        self._total, self._start = total, time.monotonic()
        self._last = self._start
        if self._quiet or self._json or sys.stderr is None or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(None), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as self._bar:
            self._bar.add_task("", total=total, rate="")
            try:
                yield
            finally:
                self._bar.stop()
                self._bar = None

    def item(self, task: Task, record: Record) -> None:
        """What came of one task."""
        self._seen += 1
        self._worked += record["status"] != "skipped"
        self._event("item", output=task.key, **{"source": task.source, **record})
        if self._verbose and not self._json:
            self._say(_line(task, record))
        if self._bar:
            task_id = self._bar.task_ids[0]
            skipped = self._seen - self._worked
            self._bar.update(task_id, completed=self._worked, total=self._total - skipped, rate=self._rate())
        elif not self._quiet and not self._json and time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            say(f"{self._seen} of {self._total}, {self._rate()}, {self._left()}")

    def summary(self, counts: Counts, manifest: str) -> None:
        """How it went."""
        seconds = time.monotonic() - self._start
        left = counts.total - counts.seen
        self._event(
            "summary",
            done=counts.done,
            skipped=counts.skipped,
            failed=counts.failed,
            pictures_failed_in_tar_files=counts.bad,
            not_begun=left,
            seconds=round(seconds, 2),
            source_bytes=counts.source_bytes,
            bytes=counts.bytes,
            branches=counts.branches,
            lost=counts.lost,
            manifest=manifest,
        )
        if self._json:
            return
        if not self._quiet:
            _list([(source, f"warning: {warning}") for source, warning in counts.warnings], manifest)
        _list(counts.failures, manifest)
        if self._quiet and not counts.lost:
            return
        parts = [f"{counts.done} done", f"{counts.skipped} skipped", f"{counts.failed} failed"]
        parts += [f"{counts.bad} pictures in tar files failed"] * bool(counts.bad) + [f"{left} not begun"] * bool(left)
        sizes = f"; {_size(counts.source_bytes)} -> {_size(counts.bytes)}" if counts.done else ""
        branches = ", ".join(f"{name} {count}" for name, count in sorted(counts.branches.items()))
        rate = f" ({self._rate()})" if counts.done else ""
        say(f"{', '.join(parts)}, of {counts.total}, in {_time(seconds)}{rate}{sizes}")
        if branches:
            say(f"branches: {branches}")
        if counts.lost:
            say(f"given up: {counts.lost}; when that is mended, the same command goes on from here")
        elif left or counts.failed:
            say(f"the same command goes on from here: {manifest}")

    def _event(self, event: str, **about: Any) -> None:
        if self._json:
            tell(json.dumps({"event": event, **{k: as_text(v) if isinstance(v, str) else v for k, v in about.items()}}))

    def _say(self, line: str) -> None:
        if self._bar:
            self._bar.console.print(f"twc: {line}", markup=False, highlight=False)
        else:
            say(line)

    def _rate(self) -> str:
        seconds = time.monotonic() - self._start
        rate = self._worked / seconds if seconds > 0 else 0.0
        return f"{rate:.1f} a second" if rate >= 1 or not rate else f"{1 / rate:.1f} s each"

    def _left(self) -> str:
        seconds = time.monotonic() - self._start
        return f"{_time((self._total - self._seen) * seconds / max(1, self._worked))} left"


def _list(lines: list[tuple[str, str]], manifest: str) -> None:
    """Sources with what there is to say of them: some of each kind, and not too many in all."""
    seen: Counter[str] = Counter()
    for source, text in lines:
        seen[text] += 1
        if seen[text] <= ALIKE and sum(min(n, ALIKE) for n in seen.values()) <= LISTED:
            say(f"{shown(source)}: {text}")
    told = sum(min(n, ALIKE) for n in seen.values())
    if len(lines) > min(told, LISTED):
        many = f"{len(lines)}{' or more' if len(lines) >= MOST_FAILURES else ''}"
        say(f"... {many} such lines in all; the manifest has them: {manifest}")


def _line(task: Task, record: Record) -> str:
    if record["status"] == "skipped":
        return f"{shown(task.source)}: done already"
    if record["status"] == "failed":
        return f"{shown(task.source)}: {record['error']}"
    branch = f", branch: {record['branch']}" if record["branch"] else ""
    return f"{shown(task.source)} -> {shown(task.target)}: {record['bytes']} bytes{branch}, {record['seconds']:.2f} s"


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
