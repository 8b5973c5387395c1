"""Hyperpriors with a gain for each quality (Kamisli et al. 2024): one set of weights for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from twcodec.errors import UnsupportedError
from twcodec.exact.arithmetic import ONE, saturate
from twcodec.exact.hyperprior import REACH, ScaleHyperprior
from twcodec.exact.walk import Part, bands

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.exact.walk import Lane, Walked

GAIN_BITS = 16
GAIN_LIMIT = 1 << 20
"""Gains are integers below this, in units of 2^-16: with a scale below 2^21, products stay below 2^41."""

Z_STEP_LIMIT = 1 << 20
QUALITY_STEPS = 1000
"""Between rows, gains are interpolated at thousandths."""


class VariableRateHyperprior(ScaleHyperprior):
    """y times a gain, in one step; scales and means are multiplied by the same gain.

    A symbol other than 0 is dequantised off its middle by an amount that depends on its table and the quality: where
    inside its interval a latent of that scale lies on average.
    """

    def __init__(
        self,
        gains: NDArray[np.int32],
        offsets: NDArray[np.float32],
        z_steps: NDArray[np.int32] | None,
        means: bool,
        *rest: Any,
        reach: int = REACH,
    ) -> None:
        """gains: (rows,) in units of 2^-16. offsets: (rows, levels), towards 0 where positive. z_steps: (rows,).

        z_steps: quantisation steps of z in units of 1 / ONE; z then has tables of its own in each row, N times rows in
        all. None: z has steps of 1 and N tables. means: whether h_s gives means, too. rest: as `ScaleHyperprior`.
        UnsupportedError: values out of range.
        """
        super().__init__(*rest, reach=reach)
        self.means = means
        bad = len(gains) < 2 or gains.min() < 1 or gains.max() >= GAIN_LIMIT
        bad = bad or offsets.shape != (len(gains), self.levels) or not np.isfinite(offsets).all()
        if bad or np.abs(offsets).max() > 1:
            raise UnsupportedError("the model's gains are out of range; the model file is damaged")
        if len(gains) * len(self._medians) > 1 << 16:
            raise UnsupportedError("the model has more tables for z than 65536")
        if z_steps is not None and (len(z_steps) != len(gains) or z_steps.min() < 1 or z_steps.max() >= Z_STEP_LIMIT):
            raise UnsupportedError("the model's steps of z are out of range; the model file is damaged")
        self._gains, self._z_steps = gains.astype(np.int64), z_steps
        self._offsets = torch.from_numpy(offsets).to(self._medians.device)
        if z_steps is not None:
            self._z_floor = float(self._z_cheapest.reshape(len(gains), -1).sum(1).min())

    def _scaled(self, scales: Tensor, quality: float) -> Tensor:
        return saturate(scales.double().mul_(self._gain(quality) * _UNIT).add_(0.5).floor_()).int()

    def _filled(self, walked: Walked, lane: Lane) -> None:
        lane.source.fill(walked, Part(), gain=self._gain(lane.quality) * _UNIT)

    def _dequantised(self, walked: Walked, quality: float) -> Tensor:
        low, share = self._between_rows(quality)
        offsets = torch.lerp(self._offsets[low], self._offsets[low + 1], share / QUALITY_STEPS)
        for band in bands(walked.y):
            y = walked.y[band].float()
            inwards = offsets[walked.levels[band].int()] * (y != 0)
            walked.means[band] += y.sign() * (y.abs() - inwards) / (self._gain(quality) * _UNIT)
        return walked.means

    def _gain(self, quality: float) -> int:
        """In units of 2^-16: the same integer on every machine."""
        low, share = self._between_rows(quality)
        mixed = self._gains[low] * (QUALITY_STEPS - share) + self._gains[low + 1] * share
        return int(mixed + QUALITY_STEPS // 2) // QUALITY_STEPS

    def _between_rows(self, quality: float) -> tuple[int, int]:
        """The row below a quality, from 0, and thousandths of the way to the next."""
        thousandths = round(quality * QUALITY_STEPS) - QUALITY_STEPS
        low = min(thousandths // QUALITY_STEPS, len(self._gains) - 2)
        return low, thousandths - low * QUALITY_STEPS

    def _z_row(self, quality: float) -> int:
        """The row, from 0, whose step and tables z has: the nearest one."""
        low, share = self._between_rows(quality)
        return low + (2 * share >= QUALITY_STEPS)

    def _z_step(self, quality: float) -> int:
        return ONE if self._z_steps is None else int(self._z_steps[self._z_row(quality)])

    def _z_first(self, quality: float) -> int:
        return 0 if self._z_steps is None else self._z_row(quality) * len(self._medians)

    def _within(self, z_hat: Tensor) -> Tensor:
        return saturate(z_hat)


_UNIT = 2.0**-GAIN_BITS
