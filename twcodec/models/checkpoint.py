"""Reading CompressAI's checkpoints: pickles of tensors and nothing else, under old and new names.

Only the making of a model file comes here, never decoding.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from twcodec.errors import LimitError, UnreadableError, UnsupportedError
from twcodec.models.file import MOST_BYTES

_RENAMED = (
    (r"^module\.", ""),  # DataParallel
    (r"\.downsample\.", ".skip."),
    (r"^entropy_bottleneck\._?(matrices|biases|factors)\.(\d)$", r"entropy_bottleneck.\1.\2"),
    (r"^entropy_bottleneck\._matrix(\d)$", r"entropy_bottleneck.matrices.\1"),
    (r"^entropy_bottleneck\._bias(\d)$", r"entropy_bottleneck.biases.\1"),
    (r"^entropy_bottleneck\._factor(\d)$", r"entropy_bottleneck.factors.\1"),
)
"""What CompressAI and torch called things before, and the names of today."""

_MOST_FILTERS = 64
"""Inside an EntropyBottleneck; CompressAI's have 3. The density is computed with as many numbers for each symbol."""

_IGNORED = re.compile(
    r"^gaussian_conditional\.|^entropy_bottleneck\.(_offset|_quantized_cdf|_cdf_length|target|likelihood_lower_bound)"
    r"|_reparam\.|\.mask$|lower_bound"
)
"""Buffers that follow from the weights, or that this codec has tables of its own for."""


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .pth.tar or state_dict file, float32, under today's names.

    UnreadableError: it cannot be read. LimitError: it is too large. UnsupportedError: it is no checkpoint.
    """
    found: Any = _load(path)
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found:
        raise UnsupportedError("no checkpoint: it holds no state_dict")
    state: dict[str, Tensor] = {}
    for name, value in found.items():
        if not isinstance(name, str) or not _is_plain(value):
            raise UnsupportedError("no checkpoint: its state_dict holds more than tensors with names")
        for old, new in _RENAMED:
            name = re.sub(old, new, name)
        if name in state:
            raise UnsupportedError(f"no checkpoint: two of its tensors are {_some([name])}")
        if not _IGNORED.search(name):
            state[name] = value.detach()
    _check_size(sum(4 * value.numel() for value in state.values()))  # a tensor may repeat one number for ever
    return {name: value.float() for name, value in state.items()}


def _is_plain(value: Any) -> bool:
    """Whether it is a tensor of numbers that are there: not sparse, quantised, complex, nor of another device."""
    plain = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    return plain and not value.is_quantized and not value.is_complex()


def _load(path: str | Path) -> Any:
    try:
        if not Path(path).is_file():
            raise UnreadableError("this is no file" if os.path.exists(path) else "there is no such file")  # noqa: PTH110
        _check_size(Path(path).stat().st_size)
        data = io.BytesIO(Path(path).read_bytes())
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from None
    try:  # on what is in memory, so that no error is the disk's
        if zipfile.is_zipfile(data):
            with zipfile.ZipFile(data) as packed:
                _check_size(sum(member.file_size for member in packed.infolist()))
        data.seek(0)
        return torch.load(data, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UnsupportedError("no checkpoint, or one that holds more than tensors; nothing in it was run") from None
    except _DAMAGED:
        raise UnsupportedError("no checkpoint, or a truncated or damaged one") from None


_DAMAGED = (
    *(OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError),
    *(zipfile.BadZipFile, OverflowError, AssertionError, ImportError),
)
"""What torch and zipfile raise on bytes that are no checkpoint."""


def _check_size(count: int) -> None:
    if count > MOST_BYTES:
        raise LimitError(f"the checkpoint has over {MOST_BYTES >> 20} MiB")


class Checkpoint:
    """The tensors of a checkpoint, each taken once, so that what nobody asked for is known at the end."""

    def __init__(self, state: dict[str, Tensor], architecture: str) -> None:
        """architecture: what it should be, for messages."""
        self._state, self._architecture = state, architecture
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._state

    def take(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        """A tensor of this shape; None is any size. UnsupportedError: it is not there, or not finite."""
        found = self._state.get(name)
        if found is None:
            raise UnsupportedError(f"no checkpoint of {self._architecture}: it has no {name}")
        fits = found.dim() == len(shape) and all(n in (None, m) for n, m in zip(shape, found.shape, strict=False))
        if not fits:
            raise UnsupportedError(
                f"no checkpoint of {self._architecture}: its {name} is {tuple(found.shape)}, not {shape}"
            )
        if not bool(found.isfinite().all()):
            raise UnsupportedError(f"the checkpoint's {name} holds what is no number")
        self._taken.add(name)
        return found

    def check_all_taken(self) -> None:
        """UnsupportedError if there is more than the architecture has: it is another one."""
        left = sorted(set(self._state) - self._taken)
        if left:
            raise UnsupportedError(f"no checkpoint of {self._architecture}: it also has {_some(left)}")


def _some(names: Iterable[str]) -> str:
    shown = [ascii(name)[1:-1][:80] for name in names]  # a checkpoint's, so they may be anything
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


class Bottleneck:
    """The density of a checkpoint's EntropyBottleneck, in double precision, without CompressAI.

    quantiles: (C, 1, 3).
    """

    def __init__(self, checkpoint: Checkpoint, channels: int) -> None:
        """UnsupportedError: the checkpoint has none of this size."""

        def take(name: str, *shape: int | None) -> Tensor:
            return checkpoint.take(f"entropy_bottleneck.{name}", (channels, *shape)).double()

        self.quantiles = take("quantiles", 1, 3)
        depth = sum(f"entropy_bottleneck.matrices.{i}" in checkpoint for i in range(16))
        inner = [take(f"biases.{i}", None, 1).shape[1] for i in range(depth - 1)]
        if max(inner, default=0) > _MOST_FILTERS:
            raise UnsupportedError(f"the checkpoint's entropy_bottleneck has over {_MOST_FILTERS} filters")
        widths = [1, *inner, 1]
        self._matrices = [take(f"matrices.{i}", widths[i + 1], widths[i]) for i in range(len(widths) - 1)]
        self._biases = [take(f"biases.{i}", widths[i + 1], 1) for i in range(len(widths) - 1)]
        self._factors = [take(f"factors.{i}", width, 1) for i, width in enumerate(inner)]

    def double(self) -> Bottleneck:
        """Itself; it is."""
        return self

    def _logits_cumulative(self, x: Tensor, stop_gradient: bool = True) -> Tensor:
        """Ballé et al. 2018, equation 26 on: logits of the cumulative distribution at x: (C, 1, n)."""
        for i, (matrix, bias) in enumerate(zip(self._matrices, self._biases, strict=True)):
            x = functional.softplus(matrix) @ x + bias
            if i < len(self._factors):
                x = x + self._factors[i].tanh() * x.tanh()
        return x
