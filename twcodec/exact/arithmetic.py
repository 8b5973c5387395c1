"""The normative integer arithmetic of the entropy path (formats/twc-1.md, section 6).

Activations are int32. Sums are carried in float64 and stay below 2^53 (`layers.bound` proves it when a model is
loaded), so each is exact in any order, on any device, with any number of threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

FRACTION_BITS = 10
ONE = 1 << FRACTION_BITS
"""Activations are Q11.10: the integer a stands for a / ONE."""

SATURATION = 1 << 21
"""|a| stays below this."""

EXACT_LIMIT = 1 << 53
"""Integers up to here are exact in float64."""

LEAKY_SLOPE = 655
"""LeakyReLU's slope of 0.01, in units of 2^-16."""


def saturate(a: Tensor) -> Tensor:
    """Clamp activations to -SATURATION < a < SATURATION, in place."""
    return a.clamp_(1 - SATURATION, SATURATION - 1)


def requantise(acc: Tensor, scale: Tensor) -> Tensor:
    """floor(acc scale + 1/2), saturated, in int32. acc: (..., C) integers in float64, overwritten.

    scale: (C,), powers of two, so the product is exact. Adding the half may round where |acc scale| is near 2^52 or
    its fraction has over 52 bits, but never across an integer that saturation leaves apart.
    """
    return saturate(acc.mul_(scale).add_(0.5).floor_()).int()


def leaky_relu(a: Tensor) -> Tensor:
    """a for a >= 0, floor(a 655 / 2^16 + 1/2) below. int32, in which the product, below 2^31, is exact."""
    return torch.maximum(a, a.mul(LEAKY_SLOPE).add_(1 << 15).bitwise_right_shift_(16))  # the slope is under 1


def relu(a: Tensor) -> Tensor:
    """a for a >= 0, 0 below. a is overwritten."""
    return a.clamp_(min=0)
