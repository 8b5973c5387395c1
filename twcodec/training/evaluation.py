"""Rate and distortion of a network on held-out pictures, before it becomes a model file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from twcodec.codec.distortion import psnr
from twcodec.models.trainable import Network
from twcodec.training.crops import Photograph, Pixels

SIDE = 384


@dataclass(frozen=True)
class Point:
    """Of one quality row, means over the pictures. bpp: bits a pixel of real symbols under the assumed density.

    psnr: dB, of 8-bit pixels. loss: bpp + lambda 255^2 MSE, without the weights that balance the rows in training.
    """

    quality: int
    bpp: float
    psnr: float
    loss: float


@torch.inference_mode()
def evaluate(
    network: Network, photographs: Sequence[Photograph], device: torch.device, side: int = SIDE
) -> list[Point]:
    """A point for each quality row, on the middle `side` x `side` pixels (or less, in 64s) of each picture."""
    network.eval()
    sums = torch.zeros(len(network.config.lambdas), 3, dtype=torch.float64)
    for photograph in photographs:
        pixels = torch.from_numpy(middle(photograph, side).copy())
        x = pixels.permute(2, 0, 1)[None].to(device).float().div_(255)
        for row, trade_off in enumerate(network.config.lambdas):
            out = network(x, torch.tensor([row], device=device), noise=False)
            bpp = float(out.y_bits + out.z_bits) / (x.shape[-1] * x.shape[-2])
            mse = float(((out.x_hat.clamp(0, 1) * 255).round() - x * 255).square().mean())
            sums[row] += torch.tensor([bpp, psnr(max(mse, 1e-9) / 255**2), bpp + trade_off * mse])
    means = (sums / len(photographs)).tolist()
    return [Point(row + 1, *values) for row, values in enumerate(means)]


def middle(photograph: Photograph, side: int = SIDE) -> Pixels:
    """(s, t, 3): the middle of a picture, at most `side` a side, in multiples of 64."""
    pixels = photograph.read()
    rows, columns = (min(side, n) // 64 * 64 for n in pixels.shape[:2])
    top, left = (pixels.shape[0] - rows) // 2, (pixels.shape[1] - columns) // 2
    return np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
