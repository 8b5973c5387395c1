"""What an attacker raises, from what a codec makes of a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from twcodec.codec.distortion import ms_ssim_loss
from twcodec.errors import UsageError


class Coded(Protocol):
    """A batch as a codec gives it back. Both must keep their gradients where one is wanted."""

    @property
    def x_hat(self) -> Tensor:
        """(B, 3, H, W) floats around 0 .. 1, not clipped."""

    @property
    def bits(self) -> Tensor:
        """(B,)."""


@dataclass(frozen=True)
class Target:
    """What is attacked. source: (B, 3, H, W), the clean pictures; clean: their x_hat, clipped; lambda_: the codec's."""

    source: Tensor
    clean: Tensor
    lambda_: float


@dataclass(frozen=True)
class Objective:
    """value: (target, x, coded of x) to (B,), float."""

    name: str
    summary: str
    value: Callable[[Target, Tensor, Coded], Tensor]


def objective(name: str, source: Tensor, clean: Coded, lambda_: float) -> Callable[[Tensor, Coded], Tensor]:
    """(x, coded of x) to (B,): what an attacker of `source` raises. x: (B, 3, H, W) in 0 .. 1, the attacked pictures.

    clean: coded of the source. Mean squared errors are of values in 0 .. 1, rates in bits a pixel of the source.
    UsageError: unknown name.
    """
    if name not in OBJECTIVES:
        raise UsageError(f"no objective is called {name}; there are {', '.join(OBJECTIVES)}")
    value = OBJECTIVES[name].value
    target = Target(source.detach(), clipped(clean.x_hat.detach()), lambda_)
    return lambda x, coded: value(target, x, coded)


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: object, x_hat: Tensor) -> Tensor:
        return x_hat.clamp(0, 1)

    @staticmethod
    def backward(_ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0]


def clipped(x_hat: Tensor) -> Tensor:
    """In 0 .. 1, as pictures are; the gradient passes straight through, or attacks would stop at what is out of it."""
    out: Tensor = _Clip.apply(x_hat)  # type: ignore[no-untyped-call]
    return out


def _mse(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().flatten(1).mean(1)


def _distortion(target: Target, _x: Tensor, coded: Coded) -> Tensor:
    return _mse(clipped(coded.x_hat), target.clean)


def _self_distortion(_target: Target, x: Tensor, coded: Coded) -> Tensor:
    return _mse(clipped(coded.x_hat), x)


def _source_distortion(target: Target, _x: Tensor, coded: Coded) -> Tensor:
    return _mse(clipped(coded.x_hat), target.source)


def _ms_ssim(_target: Target, x: Tensor, coded: Coded) -> Tensor:
    pairs = zip(clipped(coded.x_hat), x, strict=True)
    return torch.stack([ms_ssim_loss(a, b, 1) for a, b in pairs])


def _rate(target: Target, _x: Tensor, coded: Coded) -> Tensor:
    return coded.bits / (target.source.shape[-2] * target.source.shape[-1])


def _rd(target: Target, x: Tensor, coded: Coded) -> Tensor:
    return _rate(target, x, coded) + target.lambda_ * 255**2 * _self_distortion(target, x, coded)


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("distortion", "error against the clean reconstruction (Chen and Ma)", _distortion),
        Objective(
            "self-distortion", "error against the attacked picture: what the codec itself sees", _self_distortion
        ),
        Objective("source-distortion", "error against the clean picture", _source_distortion),
        Objective("ms-ssim", "1 - MS-SSIM against the attacked picture", _ms_ssim),
        Objective("rate", "bits a pixel", _rate),
        Objective("rd", "bits a pixel + lambda 255^2 self-distortion", _rd),
    )
}
"""By name."""
