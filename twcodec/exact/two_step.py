"""A hyperprior with context that codes y in two steps, each of them parallel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided

from twcodec.exact.arithmetic import ONE, saturate
from twcodec.exact.hyperprior import REACH, Hyperprior, features_of
from twcodec.exact.walk import Part, Walked, bands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.exact.layers import DepthwiseLayer, Layer, RowLayer
    from twcodec.exact.walk import Lane


@dataclass(frozen=True)
class Parameters:
    """A network from rows to scales and means. even, odd: its last layer for those channels alone, if there are any.

    A position has only every other channel in a step, so half of the last layer would be computed for nothing.
    """

    hidden: RowLayer
    even: RowLayer
    odd: RowLayer | None


class TwoStepHyperprior(Hyperprior):
    """y in two steps: half of it from z alone, the other half from z and the first (Li et al. 2022, section 3.2).

    The halves are a checkerboard in space that changes its colour from channel to channel, so what is coded second has
    neighbours on all four sides in its own channel, and half of the other channels at its own place. Both steps are
    parallel. The context is y_hat of the first step and its magnitude, 0 elsewhere, seen through a depthwise kernel.
    """

    def __init__(
        self, h_s: Sequence[Layer], first: Parameters, context: DepthwiseLayer, second: Parameters, *shared: Any
    ) -> None:
        """h_s: z_hat (..., N) -> features (..., F). first: features -> scales and means.

        context: (..., 2 M) -> (..., 2 M). second: features and context (..., F + 2 M) -> scales and means.
        shared: as `Hyperprior`.
        """
        super().__init__(*shared)
        self._h_s, self._first, self._context, self._second = h_s, first, context, second
        self._channels = (first.even.outputs + (first.odd.outputs if first.odd else 0)) // 2

    def _walk(self, lane: Lane) -> Walked:
        features = features_of(self._h_s, lane, REACH)
        walked = Walked(lane.height, lane.width, self._channels, features.device)
        first, second = self._parts((self._channels, lane.height, lane.width))
        for band in bands(features):
            self._put(walked, band, self._first, features[band].flatten(0, 1), 0)
        lane.source.fill(walked, first)
        for band in bands(features):
            context = self._context(*_known(walked, band, first, self._context.reach))
            self._put(walked, band, self._second, torch.cat([features[band], context], -1).flatten(0, 1), 1)
        lane.source.fill(walked, second)
        return walked

    def _put(self, walked: Walked, band: slice, network: Parameters, rows: Tensor, step: int) -> None:
        """Levels and means of a band's symbols in a step, 0 or 1. rows: the network's inputs, position by position."""
        hidden = network.hidden(rows)
        levels, means = walked.levels[band].flatten(0, 1), walked.means[band].flatten(0, 1)
        width = walked.y.shape[1]
        odd_place = _odd_places(band, width)
        for odd, last in enumerate((network.even, network.odd)):
            if last is None:
                continue
            # in the first step even channels at even places and odd ones at odd places, in the second the others
            places = torch.from_numpy(np.flatnonzero(odd_place == odd ^ step)).to(rows.device)
            found = self._levels_and_means(last(hidden.index_select(0, places)))
            for whole, part in zip((levels, means), found, strict=True):
                whole[:, odd::2].index_copy_(0, places, part)

    def _parts(self, shape: tuple[int, ...]) -> tuple[Half, Half]:
        first, second = (Half(step, shape, self._medians.device) for step in (0, 1))
        return first, second


class Half(Part):
    """One of the two steps: where channel + row + column is even, or where it is odd."""

    def __init__(self, step: int, shape: tuple[int, ...], device: torch.device) -> None:
        """step: 0 or 1. shape: (M, h, w)."""
        channels, height, width = shape
        odd = _odd_places(slice(0, height), width)
        self._places = np.flatnonzero(odd == step), np.flatnonzero(odd != step)
        two_rows = first_step((channels, 2, width)).transpose(1, 2, 0) ^ (step == 1)
        self._two_rows = torch.from_numpy(np.ascontiguousarray(two_rows)).to(device)

    def take(self, whole: NDArray[Any]) -> NDArray[Any]:
        """See `Part`."""
        rows = whole.reshape(-1, whole.shape[2])
        even, odd = (rows.take(places, axis=0)[:, i::2] for i, places in enumerate(self._places))
        values = np.empty(even.size + odd.size, whole.dtype)
        for plane, found in zip(self._planes(values, whole.shape[2]), (even, odd), strict=True):
            plane[...] = found.T
        return values

    def put(self, whole: NDArray[Any], values: NDArray[Any]) -> None:
        """See `Part`."""
        rows = whole.reshape(-1, whole.shape[2])
        for i, (places, plane) in enumerate(zip(self._places, self._planes(values, whole.shape[2]), strict=True)):
            own = rows.take(places, axis=0)
            own[:, i::2] = plane.T
            rows[places] = own

    def _planes(self, values: NDArray[Any], channels: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Views of values in the order of coding: (even channels, places), (odd channels, places).

        An even channel's values are followed by those of the odd channel behind it.
        """
        even, odd = map(len, self._places)
        strides = ((even + odd) * values.itemsize, values.itemsize)
        return (
            as_strided(values, ((channels + 1) // 2, even), strides),
            as_strided(values[even:], (channels // 2, odd), strides),
        )

    def of_band(self, band: slice) -> Tensor:
        """A mask of what it holds of a band of rows, (rows, w, M)."""
        return self._two_rows[torch.arange(band.start, band.stop, device=self._two_rows.device) % 2]


def _known(walked: Walked, band: slice, first: Half, reach: int) -> tuple[Tensor, slice]:
    """y_hat of the first step and its magnitude, (rows, w, 2 M) int32, with `reach` rows around the band.

    And where in them the band lies.
    """
    seen = slice(max(0, band.start - reach), min(len(walked.y), band.stop + reach))
    # float32 rounds sums only from 2^24 on, and those are saturated
    y_hat = saturate((walked.means[seen] + walked.y[seen]).mul_(ONE)).mul_(first.of_band(seen)).int()
    return torch.cat([y_hat, y_hat.abs()], -1), slice(band.start - seen.start, band.stop - seen.start)


def _odd_places(band: slice, width: int) -> NDArray[np.int64]:
    """(rows w,): whether row + column is odd."""
    rows = np.arange(band.start, band.stop)[:, None]
    return np.asarray((rows + np.arange(width)) % 2).ravel()


def first_step(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(M, h, w): where channel + row + column is even."""
    odd = [np.arange(n) % 2 == 1 for n in shape]
    # bytes, where a sum would take eight for each
    return np.asarray(~(odd[0][:, None, None] ^ odd[1][:, None] ^ odd[2]))
