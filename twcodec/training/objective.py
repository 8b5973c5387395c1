"""What training minimises, and the attack that adversarial training minimises it under."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from twcodec.models.trainable import Network

ROW_POWER = -0.25
"""A row's loss is weighted by lambda to this power: the loss in bits grows with lambda, and no row should rule."""

ATTACK_STEPS = 3


@dataclass(frozen=True)
class Loss:
    """Scalars: total is what is minimised; bpp (bits a pixel) and mse (values in 0 .. 1) are means over the batch."""

    total: Tensor
    bpp: Tensor
    mse: Tensor


def objective(network: Network, x: Tensor, rows: Tensor, amp: bool, adversarial: float = 0.0) -> Loss:
    """R + lambda 255^2 D, each picture with the lambda of its row, weighted so that all rows count about the same.

    x: (B, 3, H, W). rows: (B,). adversarial: radius of an attack on x in 8-bit levels; 0 for none. The distortion is
    measured against what the encoder was given, attacked or not: that is what a codec has to reproduce.
    """
    if adversarial > 0:
        x = attacked(network, x, rows, amp, adversarial / 255)
    return _loss(network, x, rows, amp)


def _loss(network: Network, x: Tensor, rows: Tensor, amp: bool) -> Loss:
    lambdas = torch.tensor(network.config.lambdas, device=x.device)
    out = network(x, rows, amp)
    bpp = (out.y_bits + out.z_bits) / (x.shape[-2] * x.shape[-1])
    mse = (out.x_hat - x).square().flatten(1).mean(1)
    weight = (lambdas[rows] / lambdas[len(lambdas) // 2]) ** ROW_POWER
    total = (weight * (bpp + lambdas[rows] * 255**2 * mse)).mean()
    return Loss(total, bpp.mean(), mse.mean())


def attacked(network: Network, x: Tensor, rows: Tensor, amp: bool, eps: float, steps: int = ATTACK_STEPS) -> Tensor:
    """x with a perturbation of at most eps in each value that raises its own loss (PGD, Madry et al. 2018).

    Starts at random, takes `steps` signed steps of 2 eps / steps. Half of the batch is attacked: the other half keeps
    the network good at clean pictures. Rounding is passed straight through, so the gradients are not zero.
    """
    half = len(x) // 2 or 1
    clean, rows = x[:half], rows[:half]
    delta = torch.empty_like(clean).uniform_(-eps, eps)
    for _ in range(steps):
        delta.requires_grad_(True)
        loss = _loss(network, (clean + delta).clamp(0, 1), rows, amp).total
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() + 2 * eps / steps * gradient.sign()).clamp(-eps, eps)
    return torch.cat([(clean + delta).clamp(0, 1).detach(), x[half:]]).contiguous(memory_format=torch.channels_last)
