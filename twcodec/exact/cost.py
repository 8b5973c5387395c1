"""What symbols cost under their tables, escapes included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from twcodec.exact import coder

if TYPE_CHECKING:
    from torch import Tensor

    from twcodec.exact.tables import Tables

_PART = 1 << 20
"""Symbols that are costed at a time: bounds the memory for temporary values."""


class Cost:
    """Bits of symbols under a set of tables, on a device."""

    def __init__(self, tables: Tables, device: torch.device) -> None:
        self._cost = torch.from_numpy(tables.cost.astype(np.float32)).to(device)
        self._first = torch.from_numpy(tables.first).to(device)
        self._escape = torch.from_numpy(tables.length - 1).to(device)
        self._start = torch.from_numpy(tables.start.astype(np.int32)).to(device)
        near = torch.arange(-_NEAR, _NEAR + 1, dtype=torch.int32, device=device).repeat(len(tables))
        index = torch.arange(len(tables), dtype=torch.int32, device=device).repeat_interleave(2 * _NEAR + 1)
        self._near = self.each(near, index).float()

    def __call__(self, symbols: Tensor, index: Tensor) -> Tensor:
        """Sum of the bits of `symbols`, each under the table that `index` names, both (N,)."""
        total = torch.zeros((), dtype=torch.float64, device=symbols.device)
        for part in zip(torch.split(symbols, _PART), torch.split(index, _PART), strict=True):
            total += self._of_part(*part)  # not a list of sums, see `distortion.mse`
        return total

    def _of_part(self, symbols: Tensor, index: Tensor) -> Tensor:
        close = symbols.clamp(-_NEAR, _NEAR)
        entry = index.int().mul_(2 * _NEAR + 1).add_(close).add_(_NEAR)
        bits = self._near.index_select(0, entry).sum(dtype=torch.float64)
        far = torch.nonzero(close != symbols)[:, 0]
        if not len(far):
            return bits
        wrong, right = self._near.index_select(0, entry[far]), self.each(symbols[far].int(), index[far].int())
        return bits + (right - wrong).sum()

    def each(self, symbols: Tensor, table: Tensor) -> Tensor:
        """Bits of each, float64. symbols, table: (N,) int32."""
        entry = symbols - self._first[table]
        escape = self._escape[table]
        outside = (entry < 0) | (entry >= escape)
        plain = self._cost[self._start[table] + torch.where(outside, escape, entry)]
        return plain.double() + _escape_bits(entry, escape) * outside


_NEAR = 15
"""Symbols of up to this magnitude, nearly all, are looked up at once."""


def _escape_bits(entry: Tensor, escape: Tensor) -> Tensor:
    """Bits of each Exp-Golomb code: class k costs k + 1 (the last one k), and k more for the low bits."""
    v = torch.where(entry < 0, -2 * entry - 1, 2 * (entry - escape)).clamp_min_(0)
    k = torch.frexp((v + 1).float())[1] - 1
    return 2 * k + 1 - (k == coder.ESCAPE_CLASSES - 1).int()
