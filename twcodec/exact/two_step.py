"""A hyperprior with context that codes y in two steps, each of them parallel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from twcodec.exact.arithmetic import ONE, saturate
from twcodec.exact.hyperprior import REACH, STRIDE, TILE, Hyperprior, Lane, Walked, chain, upsampled
from twcodec.exact.tiles import tiled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.exact.layers import DepthwiseLayer, Layer


class TwoStepHyperprior(Hyperprior):
    """y in two steps: half of it from z alone, the other half from z and the first (Li et al. 2022, section 3.2).

    The halves are a checkerboard in space that changes its colour from channel to channel, so what is coded second has
    neighbours on all four sides in its own channel, and half of the other channels at its own place. Both steps are
    parallel. The context is y_hat of the first step and its magnitude, 0 elsewhere, seen through a depthwise kernel.
    """

    def __init__(
        self,
        h_s: Sequence[Layer],
        first: Sequence[Layer],
        context: DepthwiseLayer,
        second: Sequence[Layer],
        *shared: Any,
    ) -> None:
        """h_s: z_hat (N, ...) -> features (F, ...). first: features -> scales and means (2 M, ...).

        context: (2 M, ...) -> (2 M, ...). second: features and context (F + 2 M, ...) -> scales and means.
        shared: as `Hyperprior`.
        """
        super().__init__(*shared)
        self._h_s, self._first, self._context, self._second = h_s, first, context, second

    def _walk(self, lane: Lane) -> Walked:
        features = upsampled(self._h_s, lane, REACH)
        levels, means = self._levels_and_means(tiled(chain(self._first), features, TILE * STRIDE, 0))
        part = torch.from_numpy(first_step(tuple(levels.shape))).to(levels.device)
        y = lane.source.everywhere(levels, means, part) * part
        # float32 rounds sums only from 2^24 on, and those are saturated
        known = saturate((y + means).mul_(ONE)).mul_(part)
        parameters = tiled(self._given, (features, known), TILE * STRIDE, 1)
        second_levels, second_means = self._levels_and_means(parameters)
        levels, means = torch.where(part, levels, second_levels), torch.where(part, means, second_means)
        y = torch.where(part, y, lane.source.everywhere(levels, means, ~part))
        return levels, y, y + means

    def _given(self, features: Tensor, known: Tensor) -> Tensor:
        """The second step's scales and means: (F, h, w) and (M, h, w) to (2 M, h, w)."""
        wide = known.double()
        context = self._context(torch.cat([wide, wide.abs()]))
        return chain(self._second)(torch.cat([features.double(), context]))

    def _parts(self, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], ...]:
        first = first_step(shape).ravel()
        return first, ~first


def first_step(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(M, h, w): where channel + row + column is even."""
    odd = [np.arange(n) % 2 == 1 for n in shape]
    # bytes, where a sum would take eight for each
    return np.asarray(~(odd[0][:, None, None] ^ odd[1][:, None] ^ odd[2]))
