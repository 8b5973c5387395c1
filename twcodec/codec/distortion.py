"""How far a reconstruction is from the picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from twcodec.codec.similarity import FIVE_SCALES, WINDOW

if TYPE_CHECKING:
    from torch import Tensor

MS_SSIM_LAMBDA = 1280 / 255**2
"""lambda for 1 - MS-SSIM, per lambda for 255^2 MSE: CompressAI trains quality 4 with 16.64 and 0.0130."""

_PART = 1 << 20
"""Numbers that are compared at a time: bounds the memory. With fewer, rows of a turned picture are too thin."""


def mse(a: Tensor, b: Tensor, levels: int) -> Tensor:
    """Mean squared error of values in 0 .. 1. a, b: (C, H, W) integers in 0 .. levels. A float64 scalar."""
    step = max(1, _PART // a[:, 0].numel())
    rows = zip(torch.split(a, step, -2), torch.split(b, step, -2), strict=True)
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    for p, q in rows:  # a sum of each, kept for later, would pin down a piece of freed memory: gigabytes in all
        total += (p.double() - q).square_().sum()
    return total / (a.numel() * levels**2)


def ms_ssim_loss(a: Tensor, b: Tensor, levels: int) -> Tensor:
    """1 - MS-SSIM (Wang, Simoncelli and Bovik 2003). a, b: (C, H, W) integers in 0 .. levels.

    Pictures too small for five scales are compared on one (SSIM), ones smaller than the window are extended.
    """
    from pytorch_msssim import ms_ssim, ssim

    pad = [0, max(0, WINDOW - a.shape[-1]), 0, max(0, WINDOW - a.shape[-2])]
    x, y = (functional.pad(t[None].float() / levels, pad, mode="replicate") for t in (a, b))
    compare = ms_ssim if min(a.shape[-2:]) >= FIVE_SCALES else ssim
    similarity: Tensor = compare(x, y, data_range=1.0)
    return 1 - similarity.double()


def psnr(error: float) -> float:
    """dB, of a mean squared error of values in 0 .. 1. Infinite for none."""
    return -10 * math.log10(error) if error > 0 else math.inf
