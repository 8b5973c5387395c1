"""The engine on a Ray cluster: actors that hold the model, on as many machines as there are.

Sources and outputs must be reachable from every machine: a shared file system, or URLs. An actor that dies, or whose
machine does, is replaced, and its task done again elsewhere; a task with which actors have died three times is given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from twcodec.batch.tasks import Job, Record, Results, Task, failed
from twcodec.batch.work import Worker
from twcodec.errors import ExitCode, MissingError, TwcError, UnsupportedError

TRIES = 3
"""Deaths of actors with one task before it is given up: machines that fail are no fault of a picture's."""

WINDOW = 2
"""Tasks that an actor has at once: one is worked on, one waits."""


class RayEngine:
    """See `tasks.Engine`."""

    def __init__(self, job: Job, address: str | None = None, count: int | None = None) -> None:
        """address: of a running cluster, or "auto"; None starts one on this machine, or takes one that is connected.

        count: actors; None is one for each GPU of the cluster, or for each processor where there is none. Errors:
        MissingError: no Ray, or no cluster at the address.
        """
        try:
            import ray
        except ImportError:
            raise MissingError("--engine ray needs Ray: pip install 'twcodec[batch]'") from None
        self._ray = ray
        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False, logging_level="warning", include_dashboard=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                what = " ".join(str(error).split())[:300]
                raise MissingError(f"no Ray cluster can be reached at {address or 'this machine'}: {what}") from None
        resources = ray.cluster_resources()
        gpus = 0 if job.device == "cpu" else int(resources.get("GPU", 0))
        self.workers = count or gpus or max(1, int(resources.get("CPU", 1)))
        self._share: dict[str, float] = {"num_cpus": 1, "num_gpus": 0}
        if gpus:
            self._share = {"num_cpus": 1, "num_gpus": 1 if count is None else min(1.0, gpus / count)}
        self._job = replace(job, device="auto" if gpus else "cpu", threads=job.threads or (None if gpus else 1))

    def run(self, tasks: Iterator[Task]) -> Results:
        """See `tasks.Engine`."""
        actors = [self._actor() for _ in range(self.workers)]
        try:
            yield from self._run(actors, tasks)
        finally:
            for actor in actors:
                self._ray.kill(actor)

    def _run(self, actors: list[Any], tasks: Iterator[Task]) -> Results:
        """Give each actor what it has room for, and take what is done."""
        pending: dict[Any, tuple[int, Task]] = {}
        again: deque[Task] = deque()
        deaths: dict[str, int] = {}
        room = deque(number for _ in range(WINDOW) for number in range(len(actors)))
        while True:
            while room and (task := again.popleft() if again else next(tasks, None)):
                number = room.popleft()
                pending[actors[number].do.remote(task.to_json())] = number, task
            if not pending:
                return
            (ready,), _ = self._ray.wait(list(pending), num_returns=1)
            number, task = pending.pop(ready)
            try:
                record: Record = self._ray.get(ready)
            except self._ray.exceptions.RayActorError:
                deaths[task.key] = deaths.get(task.key, 0) + 1
                if self._is_dead(actors[number]):
                    actors[number] = self._actor()
                if deaths[task.key] < TRIES:
                    again.append(replace(task, overwrite=True))
                else:
                    yield task, failed(task, ExitCode.INTERNAL, f"{TRIES} processes that worked on it died")
            else:
                if "fatal" in record:
                    raise _error(record)
                yield task, record
            room.append(number)

    def _is_dead(self, actor: Any) -> bool:
        """Two tasks of one actor fail when it dies; it is replaced once."""
        try:
            self._ray.get(actor.ping.remote())
        except self._ray.exceptions.RayActorError:
            return True
        return False

    def _actor(self) -> Any:
        return self._ray.remote(_Actor).options(**self._share).remote(self._job.to_json())


class _Actor:
    """A worker on some machine."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._worker = Worker(Job.from_json(job))
        self._fatal: Record | None = None
        try:
            self._worker.ready()
        except TwcError as error:
            self._fatal = {"fatal": str(error), "code": int(error.exit_code)}

    def do(self, task: dict[str, Any]) -> Record:
        """See `Worker.do`."""
        return self._fatal or self._worker.do(Task.from_json(task))

    def ping(self) -> bool:
        """That it is there."""
        return True


def _error(record: Record) -> TwcError:
    """Why an actor cannot do anything, as `twc encode` would have it."""
    for kind in (*TwcError.__subclasses__(), UnsupportedError):
        if kind.exit_code == record["code"]:
            return kind(record["fatal"])
    return TwcError(record["fatal"])
