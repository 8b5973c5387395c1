"""torch as a call wants it: its thread count, its convolutions. torch keeps both for the whole process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

from twcodec import forks
from twcodec.codec import resources
from twcodec.errors import LimitError

_NO_MEMORY = ("can't allocate memory", "out of memory", "could not create a primitive", "bad_alloc")
"""How torch, CUDA and oneDNN say that they got none."""


class _Held:
    """A setting of the process that calls from several threads hold at once, and that is as it was when all have gone.

    Where torch keeps it for each thread, a thread that is new begins with what was set last, by any of them: what it
    finds is its own unless one of the calls that run has set it.
    """

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], None], per_thread: bool = False) -> None:
        """per_thread: what is written holds for the calling thread, and for threads that are new."""
        self._read, self._write, self._per_thread = read, write, per_thread
        self._lock, self._before = threading.Lock(), None
        self._held: list[Any] = []

    def at(self, value: Any) -> contextlib.AbstractContextManager[None]:
        """Set `value` while the block runs; where several overlap, the latest counts."""
        return self.following(lambda _: value)

    @contextlib.contextmanager
    def following(self, choose: Callable[[Any], Any]) -> Iterator[None]:
        """As `at`, with a value that follows from what is set outside of all calls."""
        with self._lock:
            found = self._read()
            own = self._before if found in self._held else found
            value = choose(own)
            if value != own:
                if not self._held:
                    self._before = own
                self._held.append(value)
            if value != found or not self._per_thread:  # cuDNN has more switches than are read
                self._write(value)
            held = self._held
        try:
            yield
        finally:
            if value != own:
                with self._lock:
                    if held is self._held:  # not in a process that was forked meanwhile
                        held.remove(value)
                        self._write(value if held and not self._per_thread else own)

    def forget(self) -> None:
        """In a process that was forked: nobody holds anything, since the other threads and their calls are not there.

        What torch keeps for each thread stays as the one that forked has it.
        """
        if self._held and not self._per_thread:
            self._write(self._before)
        self._lock, self._held = threading.Lock(), []


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

_used = False
"""Whether a call has run, in this process or before it was forked."""

_most_threads: int | None = None
"""Whatever a call was asked for. None: any number."""


def _after_fork() -> None:
    """In the new process: OpenMP's threads are not there, and GNU's would be waited for, for ever.

    torch's own worker processes compute with one thread for the same reason. Where no call had run, there are none to
    miss, and the new process may start its own.
    """
    global _most_threads
    _threads.forget()
    _cudnn.forget()
    if _used:
        _most_threads = 1
        torch.set_num_threads(1)


forks.in_child(_after_fork)


@contextlib.contextmanager
def running(device: torch.device, threads: int | None) -> Iterator[None]:
    """One call's settings. threads: None is `resources.threads`; after a fork it is 1, whatever was asked.

    LimitError: the memory is not enough.

    cuDNN convolves in fp32, not TF32, so that pixels differ by at most one level between devices, and by the same
    algorithm each time, so that the decoder makes what the encoder has scored.
    """
    global _used
    _used = True
    threads = _most_threads or threads
    with contextlib.ExitStack() as held:
        held.enter_context(_threads.following(resources.threads) if threads is None else _threads.at(threads))
        if device.type == "cuda":
            held.enter_context(_cudnn.at(_EXACT_CUDNN))
        held.enter_context(torch.autocast(device.type, enabled=False))  # the caller may be inside one of its own
        try:
            yield
        except RuntimeError as error:
            if any(words in str(error) for words in _NO_MEMORY):
                raise LimitError("not enough memory for a picture of this size") from None
            raise
