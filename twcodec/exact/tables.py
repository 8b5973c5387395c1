"""Frequency tables: made once when a model file is made, stored in it, never computed at decode time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from twcodec.errors import UnsupportedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOTAL_BITS = 16
TOTAL = 1 << TOTAL_BITS
"""The weights of a table sum to this."""

_MARGIN = 2

SYMBOL_LIMIT = (1 << 15) - 1
"""|symbol|, escapes included."""


@dataclass(frozen=True)
class Tables:
    """A set of tables in one flat array.

    weight: (sum of length,) integers >= 1. Table t covers the symbols first[t] .. first[t] + length[t] - 2; its last
    entry is the escape. first[t] <= 0 <= last symbol.
    """

    weight: NDArray[np.uint16]
    length: NDArray[np.int32]
    first: NDArray[np.int32]

    def __post_init__(self) -> None:
        """UnsupportedError: the tables could not drive the coder (they come from a model file)."""
        if not self._sound():
            raise UnsupportedError("the model's frequency tables are not sound; the model file is damaged or foreign")

    def _sound(self) -> bool:
        if len(self.length) == 0 or len(self.length) != len(self.first) or self.length.min() < 2:
            return False
        if int(self.length.sum()) != len(self.weight) or self.weight.min() < 1:
            return False
        sums = np.add.reduceat(self.weight.astype(np.int64), self.start)
        last = self.first + self.length - 2
        in_range = self.first.min() >= -SYMBOL_LIMIT and last.max() <= SYMBOL_LIMIT
        return bool((sums == TOTAL).all() and in_range and (self.first <= 0).all() and (last >= 0).all())

    def __len__(self) -> int:
        return len(self.length)

    @property
    def start(self) -> NDArray[np.int64]:
        """(T,): where each table begins in `weight`."""
        return np.cumsum(self.length, dtype=np.int64) - self.length

    @property
    def cost(self) -> NDArray[np.float64]:
        """Bits of each entry of `weight`: 16 - log2 w."""
        return np.asarray(TOTAL_BITS - np.log2(self.weight.astype(np.float64)))

    @property
    def cheapest(self) -> NDArray[np.float64]:
        """(T,): bits of the cheapest symbol of each table."""
        return np.minimum.reduceat(self.cost, self.start)

    @classmethod
    def pack(cls, tables: list[tuple[int, NDArray[np.uint16]]]) -> Tables:
        """One set from (first symbol, weights with the escape last) pairs."""
        weights = [w for _, w in tables]
        first = np.array([f for f, _ in tables], np.int32)
        return cls(np.concatenate(weights), np.array([len(w) for w in weights], np.int32), first)


def table_from_probabilities(lowest: int, probabilities: NDArray[np.float64]) -> tuple[int, NDArray[np.uint16]]:
    """The table of a distribution over lowest, lowest + 1, ...; 0 must be among them.

    Symbols at the ends are left to the escape, from the third one on that has under half a unit of 2^-16: a table
    entry costs its neighbours 1 / 65536, an escape 3 bits more, and latents have heavier tails than their models.
    Returns the first symbol and the weights, the escape last.
    """
    zero = -lowest
    kept = np.append(np.flatnonzero(probabilities * TOTAL >= 0.5), zero)
    low, high = max(0, int(kept.min()) - _MARGIN), int(kept.max()) + _MARGIN
    inside = probabilities[low : high + 1]
    return lowest + low, _apportion(np.append(inside, max(0.0, 1.0 - float(inside.sum()))))


def _apportion(probabilities: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Weights >= 1 that sum to `TOTAL`, by largest remainders."""
    share = probabilities / probabilities.sum() * TOTAL
    weight = np.maximum(1, np.floor(share)).astype(np.int64)
    order = np.argsort(-(share - weight), kind="stable")
    missing = TOTAL - int(weight.sum())
    while missing > 0:
        weight[order[:missing]] += 1
        missing -= min(missing, len(order))
    while missing < 0:  # many entries were lifted to 1: the largest pay, one unit at a time
        weight[np.argmax(weight)] -= 1
        missing += 1
    return np.asarray(weight, np.uint16)
