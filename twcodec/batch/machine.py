"""How a run divides this machine: processes, and what each may use."""

from __future__ import annotations

from dataclasses import replace

from twcodec.batch.tasks import Job
from twcodec.codec import resources

MEMORY_OF_ONE = 768 << 20
"""Bytes that a process should have: 450 MB for a small picture, and room."""


def jobs(job: Job, count: int | None, most: int) -> list[Job]:
    """One for each process: for each GPU, or for each processor, and no more than `most`; each with its share.

    count: of processes, where the user says so. Errors: as `open_codec`; LimitError: not enough memory for any.
    """
    resources.check_room_to_load()
    devices = _devices(job.device)
    memory = resources.budget(job.max_memory)
    if devices:
        of_each = [devices[i % len(devices)] for i in range(min(count or len(devices), most))]
        share = max(resources.MIN_MEMORY, memory // len(of_each))
        return [replace(job, device=device, max_memory=share) for device in of_each]
    processors = resources.processors()
    if count is None:
        count = max(1, min(processors // (job.threads or 1), memory // MEMORY_OF_ONE))
    count = min(count, most)
    threads = job.threads or max(1, processors // count)
    share = max(resources.MIN_MEMORY, memory // count)
    return [replace(job, device="cpu", threads=threads, max_memory=share if count > 1 else job.max_memory)] * count


def _devices(name: str) -> list[str]:
    """The GPUs that are meant; none for the processor. Errors: as `open_codec`."""
    if name == "cpu" or (name == "auto" and not resources.has_gpu()):
        return []
    import torch

    from twcodec.codec.codec import find_device

    if find_device(name).type == "cpu":
        return []
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] if name in ("auto", "cuda") else [name]
