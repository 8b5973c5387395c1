"""The engine on a Ray cluster: actors that hold the model, on as many machines as there are.

Sources and outputs must be reachable from every machine: a shared file system, or URLs. An actor that dies, or whose
machine does, is replaced, and its tasks are done again elsewhere, one at a time; a task with which actors have died
three times is given up. An actor for which there is no place, on a cluster that has shrunk or that others use, is given
nothing to do and holds nothing up.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twcodec.batch import storage
from twcodec.batch.cluster import connect, line, ray_itself
from twcodec.batch.local import FatalError
from twcodec.batch.machine import MEMORY_OF_ONE
from twcodec.batch.tasks import Job, Record, Results, Task, failed
from twcodec.batch.work import Worker
from twcodec.codec import resources
from twcodec.errors import ExitCode, MissingError, TwcError

TRIES = 3
"""Deaths of actors with one task before it is given up: machines that fail are no fault of a picture's. And starts of
an actor that fail before it is given up."""


class RayEngine:
    """See `tasks.Engine`."""

    def __init__(self, job: Job, address: str | None = None, count: int | None = None) -> None:
        """address: of a running cluster, or "auto"; None is that of RAY_ADDRESS, or a cluster started on this machine.

        A cluster that is connected already is taken. count: actors; None is one for each GPU of the cluster, or for
        each processor where there is none. Errors: MissingError: no Ray, no cluster at the address, or no GPU on it.
        """
        self._ray = ray_itself()
        if not self._ray.is_initialized():
            connect(self._ray, address or os.environ.get("RAY_ADDRESS") or "local")
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        gpus = job.device != "cpu" and any(node.get("GPU", 0) >= 1 for node in nodes)
        if job.device.startswith("cuda") and not gpus:
            raise MissingError("no machine of the Ray cluster has a GPU; leave out --device, or give --device cpu")
        self._lanes = 2 if gpus or job.remote else 1
        threads = 1 if gpus else int(min(job.threads or 1, max([1.0, *(node.get("CPU", 0) for node in nodes)])))
        room = [_room(node, gpus, threads) for node in nodes]
        self.workers = count or max(1, sum(room))
        crowd = math.ceil(self.workers / max(1, sum(room)))
        self._share = _share(gpus, threads, crowd)
        self._of_node = min(self.workers, crowd * max([1, *room]))
        device = job.device.partition(":")[0] if gpus else "cpu"  # an actor sees its own GPU only
        self._job = replace(job, device=device, threads=job.threads or (None if gpus else 1), model=_model(job.model))

    def run(self, tasks: Iterator[Task]) -> Results:
        """See `tasks.Engine`."""
        crew = _Crew(self._ray, [self._seat() for _ in range(self.workers)])
        try:
            while crew.feed(tasks, self._lanes + 1):
                yield from crew.next(self._seat)
        finally:
            for seat in crew.seats:
                self._ray.kill(seat.actor)

    def _seat(self, failures: int = 0) -> _Seat:
        actor = self._ray.remote(_Actor).options(max_concurrency=self._lanes, **self._share)
        return _Seat(actor.remote(self._job.to_json(), self._of_node), failures)


@dataclass(eq=False)
class _Seat:
    """An actor and what it has to do. failures: of actors before it to start. alone: its task has killed one before."""

    actor: Any
    failures: int = 0
    ready: bool = False
    alone: bool = False
    lost: bool = False
    tasks: dict[Any, Task] = field(default_factory=dict)


class _Crew:
    """All actors of a run."""

    def __init__(self, ray: Any, seats: list[_Seat]) -> None:
        self._ray, self.seats = ray, seats
        self._pending = {seat.actor.ready.remote(): seat for seat in seats}
        self._suspects: deque[Task] = deque()
        self._deaths: dict[str, int] = {}

    def feed(self, tasks: Iterator[Task], most: int) -> bool:
        """Give each actor what it has room for, suspects one at a time. False: nothing is left to be done."""
        ready = [seat for seat in self.seats if seat.ready]
        for seat in ready:
            if self._suspects:
                if not seat.tasks:
                    seat.alone = True
                    self._give(seat, self._suspects.popleft())
                continue
            seat.alone = seat.alone and bool(seat.tasks)
            while not seat.alone and len(seat.tasks) < most and (task := next(tasks, None)):
                self._give(seat, task)
        return not ready or any(seat.tasks for seat in self._pending.values())

    def _give(self, seat: _Seat, task: Task) -> None:
        reference = seat.actor.do.remote(_for_others(task).to_json())
        seat.tasks[reference] = task
        self._pending[reference] = seat

    def next(self, another: Any) -> Iterator[tuple[Task, Record]]:
        """Wait until an actor has done something. another: makes an actor."""
        (reference,), _ = self._ray.wait(list(self._pending), num_returns=1)
        seat = self._pending.pop(reference)
        task = seat.tasks.pop(reference, None)
        errors = self._ray.exceptions
        try:
            record = self._ray.get(reference)
        except errors.RayTaskError as error:
            if task:
                yield task, failed(task, ExitCode.INTERNAL, f"internal error: {line(error)}")
            else:
                self._replace(seat, another, error)
        except errors.RayError as error:
            self._replace(seat, another, error)
            if task:
                yield from self._again(task)
        else:
            if task:
                yield task, {**record, "source": task.source}
            elif record:
                raise FatalError(record["error"], record["code"])
            seat.ready = True

    def _replace(self, seat: _Seat, another: Any, error: Exception) -> None:
        """Another actor for one that died; it may have done so with several tasks. FatalError: none can be started."""
        if seat.lost:
            return
        seat.lost = True
        self._ray.kill(seat.actor)  # what cannot be reached may still be there
        self.seats.remove(seat)
        failures = 0 if seat.ready else seat.failures + 1
        if failures < TRIES:
            new = another(failures)
            self.seats.append(new)
            self._pending[new.actor.ready.remote()] = new
        elif not self.seats:
            raise FatalError(f"nothing can be started on the Ray cluster: {line(error)}", ExitCode.MISSING)

    def _again(self, task: Task) -> Iterator[tuple[Task, Record]]:
        """Try a task once more, alone, or give it up."""
        self._deaths[task.key] = self._deaths.get(task.key, 0) + 1
        if self._deaths[task.key] < TRIES:
            self._suspects.append(replace(task, overwrite=True))
        else:
            yield task, failed(task, ExitCode.INTERNAL, f"{TRIES} processes that worked on it died")


class _Actor:
    """A worker on some machine."""

    def __init__(self, job: dict[str, Any], of_node: int) -> None:
        """of_node: actors that share the memory of one machine."""
        own = Job.from_json(job)
        if of_node > 1:
            share = resources.budget(own.max_memory) // of_node
            own = replace(own, max_memory=max(resources.MIN_MEMORY, share))
        self._worker = Worker(own)

    def ready(self) -> Record | None:
        """Have the model at hand. Returns why nothing can be done."""
        try:
            self._worker.ready()
        except TwcError as error:
            return {"error": str(error), "code": int(error.exit_code)}
        return None

    def do(self, task: dict[str, Any]) -> Record:
        """See `Worker.do`."""
        return self._worker.do(Task.from_json(task))


def _room(node: dict[str, float], gpus: bool, threads: int) -> int:
    """Actors that a machine has room for."""
    if gpus:
        return int(node.get("GPU", 0))
    processors, memory = node.get("CPU", 0) // threads, node.get("memory", 0)
    return int(min(processors, max(1, memory // MEMORY_OF_ONE)) if memory else processors)


def _share(gpus: bool, threads: int, crowd: int) -> dict[str, float]:
    """What Ray sets aside for an actor. crowd: actors in the place of one.

    Ray rounds up at the fourth decimal. Where there are GPUs, processors are none of its business: an actor that finds
    a GPU shall not wait for one.
    """
    part = math.floor(10_000 / crowd) / 10_000
    if gpus:
        return {"num_cpus": 0, "num_gpus": part}
    return {"num_cpus": threads if crowd == 1 else part, "num_gpus": 0}


def _for_others(task: Task) -> Task:
    """The task with paths that hold in any folder."""
    members = tuple(replace(member, source=storage.absolute(member.source)) for member in task.members)
    source = task.source if members else storage.absolute(task.source)
    return replace(task, source=source, target=storage.absolute(task.target), members=members)


def _model(name: str) -> str:
    """As it is, unless it is a file's."""
    return storage.absolute(name) if Path(name).is_file() else name
