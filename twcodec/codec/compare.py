"""How much two pictures differ: figures, and a map."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from twcodec.codec import resources
from twcodec.codec.allocator import give_back_freed_memory
from twcodec.codec.distortion import psnr
from twcodec.codec.grid import to_samples
from twcodec.codec.memory import BADLY_USED
from twcodec.codec.similarity import HELD, similarity
from twcodec.errors import LimitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twcodec.imaging.picture import Picture

_PART = 1 << 20
"""Samples whose differences are looked at at a time."""

_WORKING = 72 << 20
"""Bytes for what is worked on at a time, torch's first call and its threads, and freed pieces that nothing fits in."""

_MAP = {1: 4, 3: 14}
"""Bytes a pixel of the map, by channels: its samples, Pillow's image, a copy of that, and the file."""

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


def check_memory(a: Picture, b: Picture, with_map: bool, max_memory: int | None = None) -> None:
    """LimitError unless there is room to compare two pictures, and for a map of their differences if one is wanted.

    max_memory: bytes that the process may use in all.
    """
    wide = 8 * a.samples.shape[2] if a.depth == 16 else 0  # both, as torch has them
    a_pixel = max(HELD + wide, _MAP[a.samples.shape[2]] if with_map else 0)
    more = _WORKING + int(BADLY_USED * a_pixel * a.width * a.height)
    allowed = resources.budget(max_memory)
    if resources.resident() + more > allowed:
        give_back_freed_memory()  # what reading has left
    needed = resources.resident() + more
    if needed > allowed:
        raise LimitError(
            f"comparing these pictures takes about {resources.at_least(needed)}, {resources.at_most(allowed)} are "
            "allowed; allow more, or compare smaller ones"
        )


def compare(a: Picture, b: Picture) -> Difference:
    """Measure. a, b: as `imaging.align.aligned` gives them."""
    peak = (1 << a.depth) - 1
    alpha = None if a.alpha is None or b.alpha is None else _of_planes(a.alpha, b.alpha, 255)
    plain = _of_planes(a.samples, b.samples, peak)
    here = torch.device("cpu")
    ssim, ms_ssim = similarity(to_samples(a.samples, here), to_samples(b.samples, here), peak)
    return Difference(peak, plain.mse, plain.psnr, plain.max_error, ssim, ms_ssim, alpha)


def _of_planes(a: NDArray[Any], b: NDArray[Any], peak: int) -> Difference:
    counts = _histogram(a, b, peak)
    error = int(counts @ np.arange(peak + 1, dtype=np.int64) ** 2) / a.size
    return Difference(peak, error, psnr(error / peak**2), int(np.flatnonzero(counts)[-1]))


def difference_map(a: Picture, b: Picture) -> tuple[NDArray[np.uint8], int]:
    """(H, W, C) absolute differences in 8-bit levels, times the whole number that comes with them.

    It is the largest with which all but a thousandth of the samples stay below 256.
    """
    peak = (1 << a.depth) - 1
    below = np.cumsum(_histogram(a.samples, b.samples, peak))
    most = int(np.searchsorted(below, _SHOWN * below[-1])) or int(np.searchsorted(below, below[-1])) or peak
    gain = max(1, peak // most)
    shown = np.empty(a.samples.shape, np.uint8)
    flat = shown.reshape(-1)
    for part, error in _errors(a.samples, b.samples):
        flat[part] = np.minimum(255, np.rint(error * (gain * 255 / peak)))
    return shown, gain


def _histogram(a: NDArray[Any], b: NDArray[Any], peak: int) -> NDArray[np.int64]:
    """How many samples differ by 0, 1, ... peak."""
    counts = np.zeros(peak + 1, np.int64)
    for _, error in _errors(a, b):
        counts += np.bincount(error, minlength=peak + 1)
    return counts


def _errors(a: NDArray[Any], b: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.int32]]]:
    """Absolute differences of some samples after others, in the order of the arrays, and which samples these are."""
    p, q = a.reshape(-1), b.reshape(-1)
    for at in range(0, p.size, _PART):
        part = slice(at, at + _PART)
        yield part, np.abs(p[part].astype(np.int32) - q[part])
