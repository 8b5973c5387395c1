"""The way through y that encoder and decoder share: what is found on it, in bands of rows."""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.exact.symbols import Source


@dataclass(frozen=True)
class Lane:
    """One picture's way through y. z_hat: (h', w', N) int32; height, width: of y; quality: on the model's scale."""

    z_hat: Tensor
    height: int
    width: int
    source: Source
    quality: float = 1.0


class Walked:
    """What is found of all of y on a way through it, step by step: (h, w, M).

    levels: uint8, the table of each symbol. means: float32, multiples of 1 / ONE. y: int16, the symbols. Levels and
    means are 0 where a later step finds them; an encoder's y may be anything there.
    """

    def __init__(self, height: int, width: int, channels: int, device: torch.device) -> None:
        size = (height, width, channels)
        self.levels = torch.zeros(size, dtype=torch.uint8, device=device)
        self.means = torch.zeros(size, dtype=torch.float32, device=device)
        self.y = torch.zeros(size, dtype=torch.int16, device=device)

    def split(self, sizes: list[tuple[int, int]]) -> list[Walked]:
        """Of (positions, 1, M): the parts for pictures of these heights and widths, which share its memory."""
        starts = [0, *itertools.accumulate(height * width for height, width in sizes)]
        parts = []
        for start, (height, width) in zip(starts, sizes, strict=False):
            part = copy.copy(self)
            for name, whole in vars(self).items():
                setattr(part, name, whole[start : start + height * width].view(height, width, -1))
            parts.append(part)
        return parts

    def y_hat(self) -> Tensor:
        """means + y, (h, w, M), in the memory of the means, which are lost."""
        for band in bands(self.y):
            self.means[band] += self.y[band]
        return self.means


def bands(whole: Tensor) -> Iterator[slice]:
    """All rows of (h, w, ...) in order, so many at a time that what is computed of them stays in the cache.

    On a GPU they are more.
    """
    height, width = whole.shape[:2]
    positions = _POSITIONS if whole.device.type == "cpu" else _POSITIONS * 32
    rows = max(1, positions // max(width, 1))
    return (slice(row, min(row + rows, height)) for row in range(0, height, rows))


_POSITIONS = 1 << 11


class Order(ABC):
    """What a step of coding holds of y, and in which order."""

    @abstractmethod
    def take(self, whole: NDArray[Any]) -> NDArray[Any]:
        """Its values in the order of coding, flat, from (h, w, M)."""


class Part(Order):
    """What a step finds all at once, and what then goes back to its places: here y, channel by channel, rows first."""

    def take(self, whole: NDArray[Any]) -> NDArray[Any]:
        """See `Order`."""
        return np.ascontiguousarray(whole.transpose(2, 0, 1)).ravel()

    def put(self, whole: NDArray[Any], values: NDArray[Any]) -> None:
        """The inverse of `take`."""
        height, width, channels = whole.shape
        whole[...] = values.reshape(channels, height, width).transpose(1, 2, 0)
