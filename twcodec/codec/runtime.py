"""torch as a call wants it: its thread count, and no TF32. torch keeps both for the whole process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch

from twcodec.errors import LimitError

_NO_MEMORY = ("can't allocate memory", "out of memory", "could not create a primitive")
"""How torch, CUDA and oneDNN say that they got none."""


class _Shared:
    """A setting of the process that calls from several threads hold together: the last one out puts it back."""

    def __init__(self) -> None:
        self._lock, self._holders, self._before = threading.Lock(), 0, (0, False)

    @contextlib.contextmanager
    def hold(self, threads: int | None, full_precision: bool) -> Iterator[None]:
        """Set what is asked for; while others hold it too, the latest wish counts."""
        with self._lock:
            if self._holders == 0:
                self._before = (torch.get_num_threads(), _tf32())
            self._holders += 1
            if threads is not None:
                torch.set_num_threads(threads)
            if full_precision:
                _set_tf32(False)
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    if torch.get_num_threads() != self._before[0]:
                        torch.set_num_threads(self._before[0])
                    _set_tf32(self._before[1])


_shared = _Shared()


@contextlib.contextmanager
def running(device: torch.device, threads: int | None) -> Iterator[None]:
    """One call's settings. LimitError: the memory is not enough.

    cuDNN convolves in fp32, not TF32: pixels may differ by at most one level between devices.
    """
    cuda = device.type == "cuda"
    shared = _shared.hold(threads, cuda) if cuda or threads is not None else contextlib.nullcontext()
    try:
        with shared, torch.autocast(device.type, enabled=False):  # the caller may be inside an autocast of its own
            yield
    except RuntimeError as error:
        if any(words in str(error) for words in _NO_MEMORY):
            raise LimitError("not enough memory for a picture of this size") from None
        raise


def _convolutions() -> Any:
    """torch 2.9 and later hold the precision here; reading the older switch may then raise."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    return conv if hasattr(conv, "fp32_precision") else None


def _tf32() -> Any:
    conv = _convolutions()
    return torch.backends.cudnn.allow_tf32 if conv is None else conv.fp32_precision


def _set_tf32(value: Any) -> None:
    """value: what `_tf32` gave, or False."""
    conv = _convolutions()
    if conv is None:
        torch.backends.cudnn.allow_tf32 = value
    else:
        conv.fp32_precision = "ieee" if value is False else value
