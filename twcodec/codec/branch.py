"""One branch: transform, analyse, quantise, score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from twcodec.codec import distortion
from twcodec.codec.grid import reconstruct, to_input

if TYPE_CHECKING:
    from torch import Tensor

    from twcodec.codec.candidates import Candidate
    from twcodec.codec.settings import Settings
    from twcodec.exact.hyperprior import Symbols
    from twcodec.models.model import Model


@dataclass(frozen=True)
class Branch:
    """A branch that has been run. bits: of the coded symbols, estimated from the integer tables; a float64 scalar.

    error: mean squared error of values in 0 .. 1. penalty: the distortion in the loss, lambda applied.
    """

    candidate: Candidate
    symbols: Symbols
    bits: Tensor
    error: Tensor
    penalty: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """Everything on the device that outlives the branch's stream."""
        s = self.symbols
        return s.y, s.z, s.levels, s.y_hat, self.bits, self.error, self.penalty


def run(model: Model, samples: Tensor, levels: int, candidate: Candidate, settings: Settings) -> Branch:
    """Run one branch of the paper's section 3 on samples: (C, H, W) integers in 0 .. levels.

    The distortion is measured after inversion, against the untransformed input, on values rounded as the decoder
    rounds them, so what is compared is what will be read.
    """
    x = to_input(samples, levels, candidate.draw, model.family.stride)
    symbols = analyse(model, x, settings)
    bits = model.family.entropy.bits(symbols)
    shape = (samples.shape[0], samples.shape[1], samples.shape[2])
    x_hat = reconstruct(model, symbols.y_hat, settings.quality, candidate.draw, shape, levels)
    error = distortion.mse(samples, x_hat, levels)
    weight = model.lambda_(settings.quality) * 255**2
    if settings.metric == "mse":
        return Branch(candidate, symbols, bits, error, weight * error)
    loss = distortion.ms_ssim_loss(samples, x_hat, levels)
    return Branch(candidate, symbols, bits, error, weight * distortion.MS_SSIM_LAMBDA * loss)


def analyse(model: Model, x: Tensor, settings: Settings) -> Symbols:
    """Latents of x: (3, H', W') in 0 .. 1, quantised. bf16 may be used here: any y is codable."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        y = model.family.g_a(x, settings.quality)
        z = model.family.h_a(y)
    return model.family.entropy.quantise(y.float(), z.float())
