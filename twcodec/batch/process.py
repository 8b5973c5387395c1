"""A process that does tasks: JSON lines in on standard input, records out on standard output. See `local`.

    python -m twcodec.batch.process

The first line in is the job, every other one a task. The first line out is {"ready": true, "lanes": ...} or
{"error": ..., "code": ...}; then {"key": ..., "record": {...}} for each task. Files are read ahead in a thread of their
own, and where a network is involved there are two lanes, so that neither a slow disk nor a slow network holds up the
codec. The process ends when its input does, and with its parent, even when that is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

from twcodec.batch.tasks import Job, Record, Task
from twcodec.errors import ExitCode, TwcError

if TYPE_CHECKING:
    from twcodec.batch.work import Worker

AHEAD = 1
"""Files that are read before their turn, and one more."""

AHEAD_BYTES = 64 << 20
"""A file that is larger is not read before its turn."""

PARENT = "TWC_BATCH_PARENT"
"""The environment variable that holds the parent's process number."""

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Until there are no more tasks."""
    out = _claim_stdout()
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    job = Job.from_json(json.loads(sys.stdin.buffer.readline() or "null"))
    worker = _started(job, out)
    if worker is None:
        sys.exit(1)
    tasks: Tasks = queue.Queue(AHEAD)
    threading.Thread(target=_read_ahead, args=(worker, tasks), daemon=True).start()
    lanes = [threading.Thread(target=_work, args=(worker, tasks, out)) for _ in range(_lanes(job, worker))]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()


Tasks = queue.Queue[Any]
"""Tasks with what `Worker.read` found for them; None: there are no more."""


def _or_end(run: Callable[..., None]) -> Callable[..., None]:
    """A thread that ends the process if it fails: a process that has lost a thread would be waited for without end."""

    def guarded(*given: Any) -> None:
        try:
            run(*given)
        except BaseException:
            traceback.print_exc()
            os._exit(ExitCode.INTERNAL)

    return guarded


def _started(job: Job, out: _Lines) -> Worker | None:
    """The worker with its model, having said so; or None, having said why not."""
    from twcodec.batch.work import Worker

    try:
        worker = Worker(job)
        worker.ready()
    except TwcError as error:
        out.put({"error": str(error), "code": error.exit_code})
        return None
    except MemoryError:
        out.put({"error": "not enough memory for a model", "code": ExitCode.LIMIT})
        return None
    except Exception as error:
        what = " ".join(f"internal error: {type(error).__name__}: {error}".split())
        out.put({"error": what, "code": ExitCode.INTERNAL})
        return None
    out.put({"ready": True, "lanes": _lanes(job, worker)})
    return worker


def _lanes(job: Job, worker: Worker) -> int:
    """Tasks at once: two where a GPU, or the processor, would otherwise wait while outputs are coded or sent off."""
    return 2 if job.remote or worker.device_type == "cuda" else 1


@_or_end
def _read_ahead(worker: Worker, tasks: Tasks) -> None:
    for line in sys.stdin.buffer:
        task = Task.from_json(json.loads(line))
        tasks.put((task, worker.read(task, AHEAD_BYTES)))
    tasks.put(None)


@_or_end
def _work(worker: Worker, tasks: Tasks, out: _Lines) -> None:
    while found := tasks.get():
        task, read = found
        out.put({"key": task.key, "record": worker.do(task, read)})
    tasks.put(None)  # for the other lanes


class _Lines:
    """JSON lines to the parent, from any thread."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock = file, threading.Lock()

    def put(self, message: Record) -> None:
        """One line. A parent that is gone is told nothing."""
        with self._lock:
            try:
                self._file.write(json.dumps(message).encode() + b"\n")
                self._file.flush()
            except OSError:
                os._exit(1)


def _claim_stdout() -> _Lines:
    """Standard output for messages alone: what libraries print goes to standard error."""
    data = os.dup(1)
    os.dup2(2, 1)
    return _Lines(os.fdopen(data, "wb"))


def _end_with_parent() -> None:
    """Die when the parent does: our input closes then, but a picture would still be finished and written."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ.get(PARENT, "0")):  # it was gone before
            os._exit(1)


if __name__ == "__main__":
    main()
