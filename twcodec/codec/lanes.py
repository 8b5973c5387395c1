"""One CUDA stream a branch; on other devices, one branch after the other."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


_kept = threading.local()
"""Streams by device, for each thread: torch's allocator keeps memory by stream, so new ones would allocate anew."""


def _streams(cuda: Any, device: torch.device, count: int) -> list[Any]:
    by_source = vars(_kept).setdefault("streams", weakref.WeakKeyDictionary())
    streams: list[Any] = by_source.setdefault(cuda, {}).setdefault(str(device), [])
    streams.extend(cuda.Stream(device) for _ in range(count - len(streams)))
    return streams[:count]


class Lanes:
    """Streams on which the branches run side by side, joined by events before the choice.

    Each lane begins after what the caller's stream has queued so far. `join` makes the caller's stream wait for all of
    them without stopping the host; the first `.item()` behind it is the one synchronisation.
    """

    def __init__(self, device: torch.device, count: int, cuda: Any = torch.cuda) -> None:
        """cuda: what stands for torch.cuda, so that the order of events can be tested without a GPU."""
        self._cuda = cuda if device.type == "cuda" else None
        self._streams = _streams(cuda, device, count) if self._cuda else []
        if self._cuda:
            start = cuda.current_stream(device).record_event()
            for stream in self._streams:
                stream.wait_event(start)

    def __getitem__(self, lane: int) -> contextlib.AbstractContextManager[Any]:
        """A context in which work goes to this lane."""
        return self._cuda.stream(self._streams[lane]) if self._cuda else contextlib.nullcontext()

    def join(self, results: Iterable[Iterable[Tensor]], device: torch.device) -> None:
        """Let the caller's stream wait for every lane. results: lane by lane, the tensors that are used afterwards."""
        if not self._cuda:
            return
        current = self._cuda.current_stream(device)
        for stream, tensors in zip(self._streams, results, strict=True):
            current.wait_event(stream.record_event())
            for tensor in tensors:
                tensor.record_stream(current)
