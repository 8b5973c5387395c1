"""What symbols cost under their tables, with slopes: for attacks, and for refining latents.

A table's cost is a list of numbers: it has no gradient. Here each symbol's own cost is kept, so sums are what is coded,
and the slope beside it is that of the costs of its neighbours. Where a table ends and escapes begin, and where its
weights have reached their least, costs are flat or jump; the slope stays what it was at its steepest on the way there.
A likelihood that is clamped loses its gradient just there, and what is coded costs more than it says. Between whole
symbols, where noise or nothing stands for rounding, likelihoods are interpolated, and their slope is taken as it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from twcodec.exact.cost import Cost

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.exact.tables import Tables

_ROOM, _MOST = 64, 4096
"""Symbols beyond a table's ends that have entries of their own, and the furthest symbol that has one."""


class SmoothCost:
    """Bits of symbols under a set of tables, with respect to the symbols and to the tables' index."""

    def __init__(self, tables: Tables, device: torch.device) -> None:
        last = tables.first + tables.length - 2
        self._reach = min(int(max(-tables.first.min(), last.max())) + _ROOM, _MOST)
        symbols = torch.arange(-self._reach, self._reach + 1, dtype=torch.int32)
        cost = Cost(tables, torch.device("cpu"))
        rows = [cost.each(symbols, torch.full_like(symbols, table)) for table in range(len(tables))]
        self._cost = torch.stack(rows).float().to(device)
        self._by_symbol = torch.from_numpy(_steepest(self._cost.cpu().numpy())).to(device)
        self._by_level = torch.from_numpy(_central(self._cost.cpu().numpy(), 0)).to(device)

    def __call__(self, symbols: Tensor, index: Tensor, level: Tensor | None = None) -> Tensor:
        """Bits of each symbol, of symbols' shape.

        symbols: floats, whole or not; between whole ones likelihoods are interpolated. index: the table of each,
        integers of the same shape. level: a float that stands for the index and varies smoothly; its slope is that of
        the costs under neighbouring tables.
        """
        whole = symbols.detach()
        low = whole.floor()
        width = 2 * self._reach + 1
        entry = (low.clamp(-self._reach, self._reach - 1) + self._reach).long() + index.long() * width
        at = whole - low
        below, above = (torch.exp2(-self._cost.view(-1)[entry + i]) for i in (0, 1))
        likelihood = torch.lerp(below, above, at)
        between = (below - above) / (likelihood * math.log(2))
        bits = -torch.log2(likelihood) + torch.where(at == 0, self.slope(whole, index), between) * (symbols - whole)
        if level is not None:
            of_level = [self._by_level.view(-1)[entry + i] for i in (0, 1)]
            steepness = torch.lerp(below * of_level[0], above * of_level[1], at) / likelihood
            bits = bits + steepness * (level - level.detach())
        return bits

    def slope(self, symbols: Tensor, index: Tensor) -> Tensor:
        """Bits by which a symbol's cost grows with the symbol: what gradients see. As in a call, without gradient."""
        return self._by_symbol.view(-1)[self._nearest(symbols, index)]

    def _nearest(self, symbols: Tensor, index: Tensor) -> Tensor:
        """The entry of each symbol, rounded."""
        at = symbols.round().clamp(-self._reach, self._reach) + self._reach
        return at.long() + index.long() * (2 * self._reach + 1)


def _central(cost: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Half of the difference between the neighbours on both sides; at the ends, the difference on the one side."""
    return np.gradient(cost, axis=axis) if cost.shape[axis] > 1 else np.zeros_like(cost)


def _steepest(cost: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, 2 R + 1): slopes along the symbols, which do not fall with the distance from 0."""
    slope, reach = _central(cost, 1), cost.shape[1] // 2
    slope[:, reach:] = np.maximum.accumulate(slope[:, reach:], axis=1)
    slope[:, reach::-1] = np.minimum.accumulate(slope[:, reach::-1], axis=1)
    return slope
