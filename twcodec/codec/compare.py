"""How much two pictures differ: figures, and a map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from twcodec.codec.distortion import mse, psnr
from twcodec.codec.similarity import similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twcodec.imaging.picture import Picture

_PART = 1 << 20
"""Samples whose differences are looked at at a time."""

_SHOWN = 0.999
"""Of all samples: as many are not at their limit in the map. One that is far off does not make the others dark."""


@dataclass(frozen=True)
class Difference:
    """Of the samples of two pictures, alpha not among them.

    peak: the highest value of a sample. mse: in squared levels. psnr: dB, infinite if they are the same. ssim, ms_ssim:
    None where the picture is too small. alpha: of the alpha planes, if there are any; without similarities.
    """

    peak: int
    mse: float
    psnr: float
    max_error: int
    ssim: float | None = None
    ms_ssim: float | None = None
    alpha: Difference | None = None

    @property
    def identical(self) -> bool:
        """Every sample is the same, of alpha too."""
        return self.max_error == 0 and (self.alpha is None or self.alpha.identical)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; an infinite PSNR becomes None."""
        alpha = self.alpha and {k: v for k, v in self.alpha.to_json().items() if k not in ("ssim", "ms_ssim", "alpha")}
        found = self.psnr if math.isfinite(self.psnr) else None
        return {"identical": self.identical, **vars(self), "psnr": found, "alpha": alpha}


def compare(a: Picture, b: Picture) -> Difference:
    """Measure. a, b: as `imaging.align.aligned` gives them."""
    peak = (1 << a.depth) - 1
    x, y = _tensor(a.samples), _tensor(b.samples)
    alpha = None if a.alpha is None or b.alpha is None else _of_planes(a.alpha[..., None], b.alpha[..., None], 255)
    plain = _of_planes(a.samples, b.samples, peak)
    ssim, ms_ssim = similarity(x, y, peak)
    return Difference(peak, plain.mse, plain.psnr, plain.max_error, ssim, ms_ssim, alpha)


def _of_planes(a: NDArray[Any], b: NDArray[Any], peak: int) -> Difference:
    error = float(mse(_tensor(a), _tensor(b), peak))
    counts = _histogram(a, b, peak)
    return Difference(peak, error * peak**2, psnr(error), int(np.flatnonzero(counts)[-1]))


def difference_map(a: Picture, b: Picture) -> tuple[NDArray[np.uint8], int]:
    """(H, W, C) absolute differences in 8-bit levels, times the whole number that comes with them.

    It is the largest with which all but a thousandth of the samples stay below 256.
    """
    peak = (1 << a.depth) - 1
    below = np.cumsum(_histogram(a.samples, b.samples, peak))
    most = int(np.searchsorted(below, _SHOWN * below[-1])) or int(np.searchsorted(below, below[-1])) or peak
    gain = max(1, peak // most)
    shown = np.empty(a.samples.shape, np.uint8)
    for rows in _strips(a.samples):
        error = np.abs(a.samples[rows].astype(np.int32) - b.samples[rows])
        shown[rows] = np.minimum(255, np.rint(error * (gain * 255 / peak)))
    return shown, gain


def _histogram(a: NDArray[Any], b: NDArray[Any], peak: int) -> NDArray[np.int64]:
    """How many samples differ by 0, 1, ... peak."""
    counts = np.zeros(peak + 1, np.int64)
    for rows in _strips(a):
        counts += np.bincount(np.abs(a[rows].astype(np.int32) - b[rows]).ravel(), minlength=peak + 1)
    return counts


def _strips(a: NDArray[Any]) -> list[slice]:
    step = max(1, _PART // a[0].size)
    return [slice(top, top + step) for top in range(0, len(a), step)]


def _tensor(samples: NDArray[Any]) -> torch.Tensor:
    """(C, H, W)."""
    wide = samples.astype(np.int32) if samples.dtype == np.uint16 else samples
    return torch.from_numpy(np.require(wide, requirements=("W", "C"))).permute(2, 0, 1)
