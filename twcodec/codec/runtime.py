"""torch as a call wants it: its thread count, its convolutions. torch keeps both for the whole process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

from twcodec.errors import LimitError

_NO_MEMORY = ("can't allocate memory", "out of memory", "could not create a primitive", "bad_alloc")
"""How torch, CUDA and oneDNN say that they got none."""


class _Held:
    """A setting of the process that calls from several threads hold at once.

    It is read when the first of them comes, and put back when the last one goes; where torch keeps it for each
    thread, whenever one goes.
    """

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], None], per_thread: bool = False) -> None:
        """per_thread: what is written holds for the calling thread, and for threads that are new."""
        self._read, self._write, self._per_thread = read, write, per_thread
        self._lock, self._holders, self._before = threading.Lock(), 0, None

    @contextlib.contextmanager
    def at(self, value: Any) -> Iterator[None]:
        """Set `value` while the block runs; where several overlap, the latest counts."""
        with self._lock:
            if self._holders == 0:
                self._before = self._read()
            self._holders += 1
            self._write(value)
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                self._write(self._before if self._holders == 0 or self._per_thread else value)


def _read_cudnn() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark


def _write_cudnn(settings: tuple[bool, bool, bool]) -> None:
    """settings: TF32, deterministic, benchmark. torch 2.9 and later have a second set of switches for the first."""
    cudnn: Any = torch.backends.cudnn
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = settings
    if not settings[0] and hasattr(getattr(cudnn, "conv", None), "fp32_precision"):
        cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "ieee"  # or the two sets contradict each other


_EXACT_CUDNN = (False, True, False)
_threads = _Held(torch.get_num_threads, torch.set_num_threads, per_thread=True)
_cudnn = _Held(_read_cudnn, _write_cudnn)


@contextlib.contextmanager
def running(device: torch.device, threads: int | None) -> Iterator[None]:
    """One call's settings. LimitError: the memory is not enough.

    cuDNN convolves in fp32, not TF32, so that pixels differ by at most one level between devices, and by the same
    algorithm each time, so that the decoder makes what the encoder has scored.
    """
    with contextlib.ExitStack() as held:
        if threads is not None:
            held.enter_context(_threads.at(threads))
        if device.type == "cuda":
            held.enter_context(_cudnn.at(_EXACT_CUDNN))
        held.enter_context(torch.autocast(device.type, enabled=False))  # the caller may be inside one of its own
        try:
            yield
        except RuntimeError as error:
            if any(words in str(error) for words in _NO_MEMORY):
                raise LimitError("not enough memory for a picture of this size") from None
            raise
