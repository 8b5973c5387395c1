"""A hyperprior with serial context (Minnen et al. 2018), coded in wavefronts instead of position by position.

The masked 5x5 context of a position reaches two rows up and two columns to either side, so positions with one value of
column + 3 row depend on earlier ones only, not on each other. One step for all of them takes the place of some ten.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from twcodec.exact.arithmetic import ONE, saturate
from twcodec.exact.hyperprior import REACH, Hyperprior, Network, features_of
from twcodec.exact.walk import Order, Walked

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.exact.layers import RowLayer
    from twcodec.exact.symbols import Symbols
    from twcodec.exact.walk import Lane

TAPS = tuple((dy, dx) for dy in (-2, -1, 0) for dx in range(-2, 3) if (dy, dx) < (0, 0))
"""What the mask leaves of 5x5, in raster order: (rows, columns) from the position itself."""

SLOPE = 3
"""The step of a position is column + SLOPE row. The tap that comes last is one row up and two columns to the right."""

_MARGIN = 2
"""Rows above, and columns on either side, that are 0."""

MOST_POSITIONS = 1 << 16
"""Of pictures that walk side by side: bounds the memory, and a step of larger ones gains nothing from company."""

PART = 1 << 9
"""Positions whose context is gathered at a time where all are known: bounds the memory for it."""


class WavefrontHyperprior(Hyperprior):
    """y position by position, all channels of one at once, in steps that run along diagonals.

    Several pictures or branches walk side by side: a step's products are larger then, and cost less for each.
    """

    side_by_side = True

    def __init__(
        self,
        h_s: Sequence[Network],
        context: RowLayer,
        entropy_parameters: Sequence[RowLayer],
        *shared: Any,
        reach: int = REACH,
    ) -> None:
        """h_s: z_hat (N, ...) -> features (F, ...). context: y_hat at `TAPS`, (n, 12 M) tap by tap, -> (n, C).

        entropy_parameters: features and context (n, F + C) -> scales and means (n, 2 M). reach: of h_s, in positions
        of z. shared: as `Hyperprior`.
        """
        super().__init__(*shared)
        self._h_s, self._context, self._entropy_parameters = h_s, context, entropy_parameters
        self._reach = reach
        self._channels = entropy_parameters[-1].outputs // 2

    def _walk(self, lane: Lane) -> Walked:
        return self._walk_all([lane])[0]

    def _walk_all(self, lanes: Sequence[Lane]) -> list[Walked]:
        return [walked for group in _groups(lanes) for walked in self._side_by_side(group)]

    def _side_by_side(self, lanes: Sequence[Lane]) -> list[Walked]:
        features = self._features(lanes)
        canvas = _Canvas([(lane.height, lane.width) for lane in lanes], self._channels, features.device)
        found = _Found(len(features), self._channels, features.device)
        for step in canvas.steps():
            levels, means = self._parameters(features[step.rows], canvas.known[step.taps])
            parts = zip(lanes, step.own, *(torch.split(t, step.counts) for t in (levels, means)), strict=True)
            y = torch.cat([lane.source.at(level, mean, own) for lane, own, level, mean in parts if len(own)])
            # float32 rounds sums only from 2^24 on, and those are saturated
            canvas.known[step.cells] = saturate((y + means).mul_(ONE)).int()
            found.put(step.rows, levels, means, y)
        return found.split(canvas.sizes)

    def estimate(self, y: Tensor, z: Tensor, quality: float = 1.0) -> Symbols:
        """Symbols as if the context were round(y), which no decoder knows: one masked convolution over all of y."""
        z_symbols = self._z_symbols(z, quality)
        lane = self._lane(y, z_symbols, quality)
        features = self._features([lane])
        canvas = _Canvas([(lane.height, lane.width)], self._channels, features.device)
        canvas.fill(saturate(y.float().round().mul_(ONE)).nan_to_num_(0).int())
        found = _Found(len(features), self._channels, features.device)
        for rows in torch.split(torch.arange(len(features), device=features.device), PART):
            levels, means = self._parameters(features[rows], canvas.known[canvas.taps[rows]])
            found.put(rows, levels, means, lane.source.at(levels, means, rows))
        return self._symbols(z_symbols, quality, found.split(canvas.sizes)[0])

    def _features(self, lanes: Sequence[Lane]) -> Tensor:
        """(all positions, F), int32."""
        return torch.cat([features_of(self._h_s, lane, self._reach).flatten(0, 1) for lane in lanes])

    def _parameters(self, features: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
        """Levels and means (n, M) from (n, F) and (n, 12, M), int32."""
        a = torch.cat([features, self._context(near.flatten(1))], 1)
        for layer in self._entropy_parameters:
            a = layer(a)
        return self._levels_and_means(a)

    def _parts(self, shape: tuple[int, ...]) -> Iterator[Order]:
        return (_Front(own) for own in wavefronts(*shape[1:]))


class _Front(Order):
    """One step: its positions from top to bottom, of each all channels."""

    def __init__(self, positions: NDArray[np.int64]) -> None:
        """positions: r w + q."""
        self._positions = positions

    def take(self, whole: NDArray[Any]) -> NDArray[Any]:
        """See `Order`."""
        return whole.reshape(-1, whole.shape[2]).take(self._positions, axis=0).ravel()


def _groups(lanes: Sequence[Lane]) -> Iterator[Sequence[Lane]]:
    """Lanes, in order, in groups of at most `MOST_POSITIONS`; one that is larger walks alone."""
    ends = np.cumsum([lane.height * lane.width for lane in lanes])
    start = 0
    while start < len(lanes):
        taken = MOST_POSITIONS + (ends[start - 1] if start else 0)
        stop = max(start + 1, int(np.searchsorted(ends, taken, side="right")))
        yield lanes[start:stop]
        start = stop


def wavefronts(height: int, width: int) -> list[NDArray[np.int64]]:
    """The positions r w + q of each step, from top to bottom; together all of a grid."""
    row, column = np.divmod(np.arange(height * width), width)
    step = column + SLOPE * row
    order = np.argsort(step, kind="stable")
    return [part for part in np.split(order, np.cumsum(np.bincount(step))[:-1]) if len(part)]


@dataclass(frozen=True)
class _Step:
    """One wavefront through several pictures.

    rows: (n,) its positions among those of all pictures. cells: (n,), taps: (n, 12): where they and their context lie
    on the canvas. own: for each picture, its positions r w + q in that picture; counts: how many.
    """

    rows: Tensor
    cells: Tensor
    taps: Tensor
    own: list[Tensor]
    counts: list[int]


class _Canvas:
    """What is known of y of several pictures, one below the other, with margins of 0: (cells, M) int32."""

    def __init__(self, sizes: list[tuple[int, int]], channels: int, device: torch.device) -> None:
        """sizes: height and width of each."""
        self.sizes = sizes
        cells, taps, start = [], [], 0
        for height, width in sizes:
            pitch = width + 2 * _MARGIN
            row, column = np.divmod(np.arange(height * width), width)
            cells.append(start + (row + _MARGIN) * pitch + column + _MARGIN)
            taps.append(cells[-1][:, None] + [dy * pitch + dx for dy, dx in TAPS])
            start += (height + _MARGIN) * pitch
        self.cells = torch.from_numpy(np.concatenate(cells)).to(device)
        self.taps = torch.from_numpy(np.concatenate(taps)).to(device)
        self.known = torch.zeros(start, channels, dtype=torch.int32, device=device)

    def fill(self, y: Tensor) -> None:
        """Put all of y: (M, h, w) int32, where there is one picture."""
        self.known[self.cells] = y.permute(1, 2, 0).flatten(0, 1)

    def steps(self) -> Iterator[_Step]:
        """The wavefronts, all pictures side by side."""
        device = self.cells.device
        starts = np.cumsum([0] + [height * width for height, width in self.sizes])
        for fronts in itertools.zip_longest(*(wavefronts(*size) for size in self.sizes), fillvalue=_NOWHERE):
            rows = torch.from_numpy(np.concatenate([f + s for f, s in zip(fronts, starts, strict=False)])).to(device)
            own = [torch.from_numpy(front).to(device) for front in fronts]
            yield _Step(rows, self.cells[rows], self.taps[rows], own, [len(front) for front in fronts])


class _Found:
    """Levels, means and symbols of all positions, as they are found."""

    def __init__(self, positions: int, channels: int, device: torch.device) -> None:
        self._whole = Walked(positions, 1, channels, device)

    def put(self, rows: Tensor, levels: Tensor, means: Tensor, y: Tensor) -> None:
        """What one step found at these positions, (n, M) each."""
        self._whole.levels[rows, 0], self._whole.means[rows, 0], self._whole.y[rows, 0] = levels, means, y.short()

    def split(self, sizes: list[tuple[int, int]]) -> list[Walked]:
        """Picture by picture."""
        return self._whole.split(sizes)


_NOWHERE = np.zeros(0, np.int64)
