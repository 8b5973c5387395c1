"""SSIM and MS-SSIM of whole pictures, one channel and a block of it at a time; the coarser scales are held whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 11
"""Pixels: side of the Gaussian window, sigma 1.5, and the smallest side that has an SSIM."""

FIVE_SCALES = 161
"""Pixels: the smallest side on which the window fits five times halved, and so the smallest that has an MS-SSIM."""

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, the finest first: table 1 of Wang, Simoncelli and Bovik 2003."""

_C1, _C2 = 0.01**2, 0.03**2
"""Of values in 0 .. 1: section III B of Wang, Bovik, Sheikh and Simoncelli 2004."""

_PART, _LEAST_ROWS = 1 << 17, 32
"""Pixels whose maps are held at a time: they stay in the cache. Rows: thinner blocks would overlap too much."""

HELD = 5
"""Bytes a pixel for a channel of two pictures: of both every second pixel on each axis in float64, and every fourth."""

_GAUSSIAN = [math.exp(-((at - WINDOW // 2) ** 2) / (2 * 1.5**2)) for at in range(WINDOW)]
_TAPS = [value / sum(_GAUSSIAN) for value in _GAUSSIAN]


@torch.no_grad()
def similarity(a: Tensor, b: Tensor, levels: int) -> tuple[float | None, float | None]:
    """SSIM and MS-SSIM, each the mean over the channels; None where the picture is too small for it.

    a, b: (C, H, W) integers in 0 .. levels. SSIM over windows that lie within the picture, as scikit-image's with
    gaussian_weights, sigma 1.5 and no sample covariance; MS-SSIM as pytorch-msssim's.
    """
    side = min(a.shape[-2:])
    if side < WINDOW:
        return None, None
    scales = len(_WEIGHTS) if side >= FIVE_SCALES else 1
    pairs = [_scales(x, y, levels, scales) for x, y in zip(a, b, strict=True)]
    ssim = sum(channel[0][0] for channel in pairs) / len(pairs)
    if scales == 1:
        return ssim, None
    return ssim, sum(map(_product, pairs)) / len(pairs)


def _scales(x: Tensor, y: Tensor, levels: int, count: int) -> list[tuple[float, float]]:
    """Mean SSIM and mean contrast-structure of two planes (H, W) in 0 .. levels, on so many scales."""
    found = [_means(x, y, levels)]
    for _ in range(count - 1):
        x, y, levels = _halved(x, levels), _halved(y, levels), 1
        found.append(_means(x, y, levels))
    return found


def _halved(plane: Tensor, levels: int) -> Tensor:
    """(H, W) in 0 .. levels -> float64 in 0 .. 1, means of 2 x 2. As pytorch-msssim: odd sides get zeros, counted."""
    odd = [size % 2 for size in plane.shape]
    height, width = (-(-size // 2) for size in plane.shape)
    out = torch.empty(height, width, dtype=torch.float64)
    for rows, columns in _blocks(height, width):
        part = plane[_doubled(rows, odd[0]), _doubled(columns, odd[1])].double() / levels
        before = [side if at.start == 0 else 0 for side, at in zip(odd, (rows, columns), strict=True)]
        out[rows, columns] = functional.avg_pool2d(functional.pad(part, (before[1], 0, before[0], 0))[None], 2)[0]
    return out


def _doubled(at: slice, odd: int) -> slice:
    """What becomes these rows or columns of half the size."""
    return slice(max(0, 2 * at.start - odd), 2 * at.stop - odd)


def _product(scales: list[tuple[float, float]]) -> float:
    """MS-SSIM: contrast and structure on all scales but the coarsest, luminance as well there. Never negative."""
    factors = [contrast for _, contrast in scales[:-1]] + [scales[-1][0]]
    value = 1.0
    for factor, weight in zip(factors, _WEIGHTS, strict=True):
        value *= max(factor, 0.0) ** weight
    return value


def _means(x: Tensor, y: Tensor, levels: int) -> tuple[float, float]:
    """Mean of SSIM and of its factor for contrast and structure, over all windows."""
    total = torch.zeros(2, dtype=torch.float64)
    height, width = (size - WINDOW + 1 for size in x.shape)
    for at in _blocks(height, width):
        seen = tuple(slice(side.start, side.stop + WINDOW - 1) for side in at)
        p, q = x[seen].double() / levels, y[seen].double() / levels
        mean_p, mean_q = _blurred(p), _blurred(q)
        variances = _blurred(p * p) - mean_p**2 + _blurred(q * q) - mean_q**2
        contrast = (2 * (_blurred(p * q) - mean_p * mean_q) + _C2) / (variances + _C2)
        luminance = (2 * mean_p * mean_q + _C1) / (mean_p**2 + mean_q**2 + _C1)
        total += torch.stack([(luminance * contrast).sum(), contrast.sum()])
    ssim, contrast = (total / (height * width)).tolist()
    return ssim, contrast


def _blocks(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of blocks of at most `_PART` pixels, which cover a plane."""
    across = min(width, _PART // _LEAST_ROWS)
    down = _PART // across
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield slice(top, min(top + down, height)), slice(left, min(left + across, width))


def _blurred(plane: Tensor) -> Tensor:
    """(H, W) -> (H - 10, W - 10): weighted means of the windows. Twelve times as fast as torch's convolution."""
    return _along(_along(plane, 0), 1)


def _along(plane: Tensor, axis: int) -> Tensor:
    size = plane.shape[axis] - WINDOW + 1
    out = plane.narrow(axis, 0, size) * _TAPS[0]
    for at, tap in enumerate(_TAPS[1:], 1):
        out.add_(plane.narrow(axis, at, size), alpha=tap)
    return out
