"""The engine on one machine: worker processes, each with a model of its own.

Processes, since Python holds one thread of bytecode at a time: two of them with one thread each encode half as much
again as one with two. A process that dies takes nothing with it but what it was doing: its tasks are tried again, each
alone with a process, and one with which that dies, too, is given up.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from twcodec import isolated
from twcodec.batch.process import PARENT
from twcodec.batch.tasks import Job, Record, Results, Task, failed
from twcodec.errors import ExitCode, TwcError

STARTS = 3
"""For each process: so many that end before they are ready, one after the other, and no more are started."""

_GRACE = 5.0
"""Seconds for a process to end by itself."""


class FatalError(TwcError):
    """No process can do anything: there is no model, no device, or no memory for one."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(code)


@dataclass(eq=False)
class _Process:
    """A worker process, and the tasks that it has, the oldest first."""

    number: int
    popen: subprocess.Popen[bytes]
    tasks: deque[Task] = field(default_factory=deque)
    ready: bool = False
    window: int = 1
    error: str = ""

    def give(self, message: Record) -> None:
        """One line. A process that has died is found out by its silence."""
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError):
            self.popen.stdin.write(json.dumps(message).encode() + b"\n")
            self.popen.stdin.flush()

    def close(self) -> None:
        """Say that there is nothing more."""
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError):
            self.popen.stdin.close()


class LocalEngine:
    """See `tasks.Engine`."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        """jobs: one for each process; they differ in the device at most."""
        self._jobs = list(jobs)
        self.workers = len(jobs)
        self._messages: queue.Queue[tuple[_Process, Record | None]] = queue.Queue()
        self._processes: dict[int, _Process] = {}
        self._suspects: deque[Task] = deque()
        self._tried: set[str] = set()
        self._stillborn, self._begun = 0, False

    def run(self, tasks: Iterator[Task]) -> Results:
        """See `tasks.Engine`."""
        try:
            for number in range(self.workers):
                self._start(number)
            yield from self._run(tasks)
            self._end()
        finally:
            self._kill()

    def _run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Record]]:
        source = _Source(tasks)
        while True:
            for process in self._processes.values():
                self._feed(process, source)
            if not any(process.tasks for process in self._processes.values()) and source.dry and not self._suspects:
                return
            process, message = self._messages.get()
            if message is None:
                yield from self._died(process)
            elif "ready" in message:
                process.ready, self._stillborn, self._begun = True, 0, True
                process.window = 1 + int(message["lanes"])
            elif "error" in message:
                if not self._begun:
                    raise FatalError(str(message["error"]), int(message["code"]))
                process.error = str(message["error"])  # one in the place of another; those that are there go on
            else:
                yield _taken(process.tasks, str(message["key"])), message["record"]

    def _feed(self, process: _Process, source: _Source) -> None:
        """Tasks for a process that has room. Suspects go one at a time, to processes that have nothing else."""
        if not process.ready or process.popen.poll() is not None:
            return
        if any(task.key in self._tried for task in process.tasks):
            return  # or the next one would be blamed for it
        if self._suspects:
            if not process.tasks:
                self._give(process, self._suspects.popleft())
            return
        while len(process.tasks) < process.window and (task := source.next()):
            self._give(process, task)

    def _give(self, process: _Process, task: Task) -> None:
        process.tasks.append(task)
        process.give(task.to_json())

    def _died(self, process: _Process) -> Iterator[tuple[Task, Record]]:
        """Start another process in its place. Its tasks are tried alone, and given up if they were."""
        code = process.popen.wait()
        process.close()
        if not process.ready:
            self._stillborn += 1
            if self._stillborn >= STARTS * self.workers:
                why = process.error or f"worker processes end before they are ready: one {_reason(code)}"
                raise FatalError(why, _code(code))
        for task in process.tasks:
            if task.key in self._tried:
                yield task, failed(task, _code(code), f"the process that worked on it {_reason(code)}")
            else:
                self._tried.add(task.key)
                self._suspects.append(replace(task, overwrite=True))
        self._start(process.number)

    def _start(self, number: int) -> None:
        job = self._jobs[number]
        environment = {**os.environ, PARENT: str(os.getpid())}
        if job.threads is not None:
            environment["OMP_NUM_THREADS"] = str(job.threads)
        popen = subprocess.Popen(
            isolated.command("twcodec.batch.process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent
        )
        process = self._processes[number] = _Process(number, popen)
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        process.give(job.to_json())

    def _listen(self, process: _Process) -> None:
        """Pass on what a process says, so that it never waits for us."""
        assert process.popen.stdout is not None
        with process.popen.stdout as lines, contextlib.suppress(ValueError):  # whoever talks nonsense is ended
            for line in lines:
                if line.endswith(b"\n"):
                    self._messages.put((process, json.loads(line)))
        process.popen.kill()
        self._messages.put((process, None))

    def _end(self) -> None:
        """Let the processes go."""
        for process in self._processes.values():
            process.close()
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(_GRACE)

    def _kill(self) -> None:
        """End what is still there at once."""
        for process in self._processes.values():
            if process.popen.poll() is None:
                process.popen.kill()
            process.popen.wait()
            process.close()
        self._processes.clear()


class _Source:
    """Tasks that are still to be given out."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        self._tasks, self.dry = tasks, False

    def next(self) -> Task | None:
        """The next one, or None: there are no more."""
        if self.dry:
            return None
        task = next(self._tasks, None)
        self.dry = task is None
        return task


def _taken(tasks: deque[Task], key: str) -> Task:
    """The task of this key, no longer among them."""
    task = next(task for task in tasks if task.key == key)
    tasks.remove(task)
    return task


def _reason(code: int) -> str:
    """How a process ended."""
    if code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")


def _code(code: int) -> int:
    return ExitCode.LIMIT if code == -signal.SIGKILL else ExitCode.INTERNAL
