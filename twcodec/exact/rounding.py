"""Rounding to symbols with the rate in mind: any symbol is codable, so only encoders come here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from twcodec.exact.tables import SYMBOL_LIMIT, Tables

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class Rounding:
    """Rounding y - mean to a symbol, a little towards 0 where that saves more bits than it costs in distortion.

    A latent of unit step size has an error of about 1/12, and one bit less doubles an amplitude's error: so at the
    working point a bit is worth 2 ln 2 / 12 of squared error. A symbol k goes to k - 1 where bits saved times that
    times `rate_weight` exceed the squared error added. With 0 it is plain rounding, to even at halves.
    """

    def __init__(self, tables: Tables, rate_weight: float, device: torch.device) -> None:
        """rate_weight: 0 to 2; 1 is the theory's, and what pays in practice is a little less."""
        self._offset: Tensor | None = None
        if rate_weight > 0:
            self._offset = torch.from_numpy(_offsets(tables, rate_weight).ravel()).to(device)

    def __call__(self, residual: Tensor, levels: Tensor) -> Tensor:
        """residual: y - mean, (M, h, w) floats; levels: the table of each. Returns symbols as float32."""
        symbols = residual.round().contiguous()  # so that its parts are views of it
        if self._offset is not None:
            parts = (torch.split(t.reshape(-1), _PART) for t in (residual, levels, symbols))
            for r, level, s in zip(*parts, strict=True):
                self._lean(r, level, s, self._offset)
        return symbols.nan_to_num_(0).clamp_(-SYMBOL_LIMIT, SYMBOL_LIMIT)

    @staticmethod
    def _lean(residual: Tensor, levels: Tensor, symbols: Tensor, offset: Tensor) -> None:
        """Take one off the magnitude of symbols that are not worth it, in place."""
        whole = symbols.abs()
        needed = offset[levels.int() * (_OFFSETS + 1) + whole.clamp(max=_OFFSETS).nan_to_num_(0).int()]
        symbols.sub_(symbols.sign() * (residual.abs() - whole < needed - 0.5))


_PART = 1 << 20
"""Symbols that are rounded at a time: bounds the memory for temporary values."""

_OFFSETS = 2
"""Symbols 1 and 2 have an offset of their own; further out that of 2 holds."""

BIT = 2 * math.log(2) / 12


def _offsets(tables: Tables, rate_weight: float) -> NDArray[np.float32]:
    """(T, _OFFSETS + 1): how far beyond k - 1/2 a magnitude must lie to become k, for k = 0 (unused), 1, 2."""
    out = np.zeros((len(tables), _OFFSETS + 1), np.float32)
    for t, (first, cost) in enumerate(zip(tables.first, np.split(tables.cost, tables.start[1:]), strict=True)):
        bits = [_symmetric(cost, int(first), k) for k in range(_OFFSETS + 1)]
        for k in range(1, _OFFSETS + 1):  # (r - k + 1)^2 - (k - r)^2 = 2 (r - k + 1/2)
            out[t, k] = np.clip(rate_weight * BIT * (bits[k] - bits[k - 1]) / 2, 0, LARGEST_OFFSET)
    return out


LARGEST_OFFSET = 0.45


def _symmetric(cost: NDArray[np.float64], first: int, k: int) -> float:
    """Bits of the symbols k and -k, on average; an escape where the table does not reach."""
    entries = [s - first if 0 <= s - first < len(cost) - 1 else len(cost) - 1 for s in (k, -k)]
    return float(np.mean([cost[entry] for entry in entries]))
