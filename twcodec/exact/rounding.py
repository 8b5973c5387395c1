"""Rounding to symbols with the rate in mind: any symbol is codable, so only encoders come here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

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
            rows = zip(tables.first, np.split(tables.cost, tables.start[1:]), strict=True)
            saved = np.diff([_costs(cost, int(first)) for first, cost in rows], axis=1, prepend=0)
            saved[:, 0] = 0
            self._offset = torch.from_numpy(offsets(rate_weight, saved).astype(np.float32).ravel()).to(device)

    def __call__(self, residual: Tensor, levels: Tensor) -> Tensor:
        """residual: y - mean, floats; levels: the table of each, of the same shape. Returns symbols as float32."""
        symbols = residual.round()
        if self._offset is not None:
            lean(residual, levels, symbols, self._offset)
        return symbols.nan_to_num_(0).clamp_(-SYMBOL_LIMIT, SYMBOL_LIMIT)


def lean(residual: Tensor, levels: Tensor, symbols: Tensor, offset: Tensor) -> None:
    """Take one off the magnitude of symbols that are not worth it, in place.

    residual, symbols: of one shape, floats; levels: of that shape, the row of `offset` for each. offset: (levels *
    (SYMBOLS + 1),), as `offsets` gives them.
    """
    whole = symbols.abs()
    entry = levels.int().mul_(SYMBOLS + 1).add_(whole.clamp(max=SYMBOLS).nan_to_num_(0).int())
    needed = offset.index_select(0, entry.reshape(-1)).view(residual.shape).sub_(0.5)
    symbols.sub_(symbols.sign().mul_(residual.abs().sub_(whole) < needed))


def offsets(rate_weight: float, saved: Any) -> Any:
    """How far beyond k - 1/2 a magnitude must lie to become k. saved: bits that k - 1 saves, an array or a tensor."""
    return (rate_weight * _BIT * saved / 2).clip(0, _LARGEST_OFFSET)  # (r - k + 1)^2 - (k - r)^2 = 2 (r - k + 1/2)


SYMBOLS = 2
"""Symbols 1 and 2 have an offset of their own; further out that of 2 holds."""

_BIT, _LARGEST_OFFSET = 2 * math.log(2) / 12, 0.45


def _costs(cost: NDArray[np.float64], first: int) -> list[float]:
    """Bits of the symbols k and -k, on average, k = 0 .. SYMBOLS; an escape where the table does not reach."""
    escape = len(cost) - 1
    entries = [[s - first if 0 <= s - first < escape else escape for s in (k, -k)] for k in range(SYMBOLS + 1)]
    return [float(np.mean(cost[pair])) for pair in entries]
