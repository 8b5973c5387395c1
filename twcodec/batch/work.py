"""One task after the other, with one codec: what every engine runs in the processes that do the work."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from twcodec.batch import storage, tar
from twcodec.batch.tasks import Job, Record, Task, failed
from twcodec.container.limits import DEFAULT_LIMITS, Limits
from twcodec.errors import ExitCode, OutputError, TwcError, UnreadableError

if TYPE_CHECKING:
    from twcodec.codec.codec import Codec

MOST_SOURCE_BYTES = 4 << 30
"""Of a picture file. Pixels are limited as well, but a file is read before they are counted."""


Read = tuple[bytes, list[int]]
"""A source, and its stamp: see `storage.read`."""


@dataclass(frozen=True)
class Made:
    """The bytes of an output. branch: the transform that won; "" where pictures are decoded."""

    data: bytes
    branch: str
    warnings: tuple[str, ...] = ()


class Worker:
    """Does tasks of one job. The codec is opened with the first of them, or by `ready`."""

    def __init__(self, job: Job) -> None:
        self._job = job
        most = DEFAULT_LIMITS.file_bytes if job.kind == "decode" else MOST_SOURCE_BYTES
        self._limit = min(most, job.max_memory) if job.max_memory else most

    def ready(self) -> None:
        """Have the model at hand. TwcError: there is none, or no device, or no such quality: nothing can be done."""
        model = self._codec.model
        if self._job.kind == "encode":
            model.check_quality(self._job.settings.quality)

    @property
    def device_type(self) -> str:
        """As torch calls it: "cpu" or "cuda"."""
        return self._codec.model.device.type

    def read(self, task: Task, most: int | None = None) -> Read | TwcError | None:
        """What the task starts from, or why there is nothing; may run while another task is worked on.

        None: what is larger than `most` bytes is read by `do`, and so are tar files.
        """
        if task.members or tar.is_tar(task.source):
            return None
        try:
            if most is not None and (found := storage.stamp(task.source)) and found[0] > most:
                return None
            return storage.read(task.source, self._limit)
        except TwcError as error:
            return error
        except MemoryError:
            return None

    def do(self, task: Task, found: Read | TwcError | None = None) -> Record:
        """The task, from reading to writing. found: what `read` gave. Nothing is raised: see `Record`."""
        start = time.perf_counter()
        try:
            if task.members or tar.is_tar(task.source):
                record = tar.do(task, self.make, self._limit, self._job)
            else:
                record = self._single(task, found or storage.read(task.source, self._limit))
        except TwcError as error:
            record = failed(task, error.exit_code, str(error))
            if lost(error):
                record["lost"] = True
        except MemoryError:
            record = failed(task, ExitCode.LIMIT, "out of memory; the picture is too large for this machine")
        except Exception as error:
            what = " ".join(f"internal error: {type(error).__name__}: {error}".split())
            record = failed(task, ExitCode.INTERNAL, what)
        return {**record, "seconds": round(time.perf_counter() - start, 4)}

    def _single(self, task: Task, found: Read | TwcError) -> Record:
        if isinstance(found, TwcError):
            raise found
        data, (_, changed) = found
        made = self.make(data, task.seed)
        storage.write(task.target, made.data, task.overwrite or self._job.force, self._job.fsync)
        return {
            "status": "done",
            "source": task.source,
            "source_bytes": len(data),
            "source_sha256": storage.sha256(data),
            "source_mtime_ns": changed,
            "sha256": storage.sha256(made.data),
            "bytes": len(made.data),
            "mtime_ns": storage.changed_at(task.target),
            "branch": made.branch,
            "seed": task.seed,
            **({"warnings": list(made.warnings)} if made.warnings else {}),
        }

    def make(self, data: bytes, seed: int) -> Made:
        """The output for one picture. Errors: as `Codec.encode` and `decode`."""
        return self._encoded(data, seed) if self._job.kind == "encode" else self._decoded(data)

    def _encoded(self, data: bytes, seed: int) -> Made:
        from twcodec.codec.codec import read

        if not data:
            raise UnreadableError("the file is empty")
        picture = read(data, self._job.metadata, self._job.max_pixels, self._job.icc)
        out, report = self._codec.encode_picture(picture, replace(self._job.settings, seed=seed))
        return Made(out, report.chosen.transform, report.warnings)

    def _decoded(self, data: bytes) -> Made:
        import io

        from twcodec.imaging.present import to_image
        from twcodec.imaging.write import write_image

        picture = self._codec.decode_picture(data, Limits(pixels=self._job.max_pixels))
        file = io.BytesIO()
        warnings = write_image(to_image(picture), file, self._job.form, picture.metadata)
        return Made(file.getvalue(), "", tuple(warnings))

    @cached_property
    def _codec(self) -> Codec:
        from twcodec.codec.allocator import keep_freed_memory

        keep_freed_memory()
        from twcodec.codec.codec import open_codec

        job = self._job
        return open_codec(
            job.model,
            job.device,
            job.precision,
            job.threads,
            quality=job.settings.quality,
            max_memory=job.max_memory,
        )


def lost(error: BaseException) -> bool:
    """Whether the place of the outputs is full or gone, so that nothing else can be written there either."""
    cause = error.__cause__
    return isinstance(error, OutputError) and isinstance(cause, OSError) and cause.errno in storage.LOST
