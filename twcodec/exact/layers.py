"""Convolutions on integers: im2col and one matrix product, never a library's convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from twcodec.errors import UnsupportedError
from twcodec.exact.arithmetic import EXACT_LIMIT, FRACTION_BITS, SATURATION, leaky_relu, requantise
from twcodec.exact.products import product

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

WEIGHT_LIMIT = (1 << 15) - 1
"""|weight| of a layer: 15 bits and a sign."""


@dataclass(frozen=True)
class Geometry:
    """How a layer moves over its input. output_padding is used by transposed layers only."""

    kernel: int
    stride: int = 1
    padding: int = 0
    transposed: bool = False
    output_padding: int = 0


def quantise_weights(
    weight: NDArray[np.float64], bias: NDArray[np.float64]
) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int32]]:
    """Integer weights, biases and shifts of a layer, made once when a model file is made.

    weight: (O, ...) floats, output channel first; bias: (O,). Per output channel, s = 15 - e with max |w| = m 2^e,
    1/2 <= m < 1; then w = floor(w 2^s + 1/2), b = floor(b 2^(s + 10) + 1/2).
    """
    _, exponent = np.frexp(np.abs(weight).reshape(len(weight), -1).max(axis=1))
    shift = (15 - exponent).clip(0, 40)
    scaled = np.floor(weight * np.exp2(shift).reshape(-1, *[1] * (weight.ndim - 1)) + 0.5)
    integer_bias = np.floor(bias * np.exp2(shift + FRACTION_BITS) + 0.5)
    limited = scaled.clip(-WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int16)
    return limited, integer_bias.astype(np.int64), shift.astype(np.int32)


def bound(weight: NDArray[np.int16], bias: NDArray[np.int64]) -> int:
    """The largest magnitude that any partial sum can have: max over channels of sum |w| 2^21 + |bias|."""
    sums = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)
    return max(int(s) * SATURATION + abs(int(b)) for s, b in zip(sums, bias, strict=True))


def _prove_exact(weight: NDArray[np.int16], bias: NDArray[np.int64], shift: NDArray[np.int32]) -> None:
    if bound(weight, bias) >= EXACT_LIMIT or shift.min() < 0 or shift.max() > 40:
        raise UnsupportedError("the model's entropy network could exceed 53 bits; it cannot be decoded exactly")


class Layer:
    """One integer convolution, requantised, with an optional LeakyReLU behind it."""

    def __init__(
        self,
        weight: NDArray[np.int16],
        bias: NDArray[np.int64],
        shift: NDArray[np.int32],
        geometry: Geometry,
        activation: bool,
        device: str | torch.device = "cpu",
    ) -> None:
        """weight: (O, I, k, k), output channel first for transposed layers too; bias, shift: (O,).

        UnsupportedError: the layer could leave the range in which float64 holds every integer.
        """
        self.geometry, self.activation = geometry, activation
        _prove_exact(weight, bias, shift)
        kernel = torch.from_numpy(weight.astype(np.float64)).to(device)
        out_channels, in_channels = weight.shape[:2]
        if geometry.transposed:  # columns of the output: (O k k, I)
            self._matrix = kernel.permute(0, 2, 3, 1).reshape(-1, in_channels)
        else:  # rows of the im2col matrix: (O, I k k)
            self._matrix = kernel.reshape(out_channels, -1)
        self._bias = torch.from_numpy(bias.astype(np.float64)).to(device)[:, None]
        self._scale = torch.from_numpy(np.exp2(-shift.astype(np.float64))).to(device)[:, None]

    def __call__(self, a: Tensor) -> Tensor:
        """a: (I, H, W) integers in float64. Returns (O, H', W')."""
        acc, size = self._transposed(a) if self.geometry.transposed else self._plain(a)
        out = requantise(acc.add_(self._bias), self._scale).view(-1, *size)
        return leaky_relu(out) if self.activation else out

    def _plain(self, a: Tensor) -> tuple[Tensor, tuple[int, int]]:
        g, (height, width) = self.geometry, a.shape[1:]
        if (g.kernel, g.stride, g.padding) == (1, 1, 0):  # a product and nothing else
            return self._matrix @ a.reshape(len(a), -1), (height, width)
        rows, cols = ((n + 2 * g.padding - g.kernel) // g.stride + 1 for n in (height, width))
        columns = functional.unfold(a[None], g.kernel, padding=g.padding, stride=g.stride)[0]  # (I k k, N)
        return self._matrix @ columns, (rows, cols)

    def _transposed(self, a: Tensor) -> tuple[Tensor, tuple[int, int]]:
        g, (height, width) = self.geometry, a.shape[1:]
        rows, cols = ((n - 1) * g.stride - 2 * g.padding + g.kernel + g.output_padding for n in (height, width))
        columns = self._matrix @ a.reshape(a.shape[0], -1)  # (O k k, H W)
        out = functional.fold(columns[None], (rows, cols), g.kernel, padding=g.padding, stride=g.stride)[0]
        return out.reshape(out.shape[0], -1), (rows, cols)


class RowLayer:
    """One integer product on rows, requantised, with an optional LeakyReLU behind it: positions in rows, not columns.

    A 1x1 convolution, or one with a larger kernel of which the caller has gathered the inputs.
    """

    def __init__(
        self,
        weight: NDArray[np.int16],
        bias: NDArray[np.int64],
        shift: NDArray[np.int32],
        activation: bool,
        device: str | torch.device = "cpu",
    ) -> None:
        """weight: (O, ...), inputs in the order of the rows; bias, shift: (O,). UnsupportedError: as `Layer`."""
        self.activation, self.outputs = activation, len(weight)
        _prove_exact(weight, bias, shift)
        self._product = product(weight.reshape(len(weight), -1), device)
        self._bias = torch.from_numpy(bias.astype(np.float64)).to(device)
        self._scale = torch.from_numpy(np.exp2(-shift.astype(np.float64))).to(device)

    def __call__(self, a: Tensor) -> Tensor:
        """a: (n, I) integers in any float type. Returns (n, O) in float64."""
        out = requantise(self._product(a).add_(self._bias), self._scale)
        return leaky_relu(out) if self.activation else out


class DepthwiseLayer:
    """One integer convolution of each channel with a kernel of its own, stride 1, zero padding, requantised."""

    def __init__(
        self,
        weight: NDArray[np.int16],
        bias: NDArray[np.int64],
        shift: NDArray[np.int32],
        device: str | torch.device = "cpu",
    ) -> None:
        """weight: (C, 1, k, k), k odd; bias, shift: (C,). UnsupportedError: as `Layer`."""
        _prove_exact(weight, bias, shift)
        self._kernel = torch.from_numpy(weight[:, 0].astype(np.float64)).to(device)
        self._bias = torch.from_numpy(bias.astype(np.float64)).to(device)[:, None, None]
        self._scale = torch.from_numpy(np.exp2(-shift.astype(np.float64))).to(device)[:, None, None]

    def __call__(self, a: Tensor) -> Tensor:
        """a: (C, H, W) integers in float64. Returns (C, H, W)."""
        side, (height, width) = self._kernel.shape[-1], a.shape[1:]
        padded = functional.pad(a, [side // 2] * 4)
        acc = self._bias.expand_as(a).clone()
        for u in range(side):
            for v in range(side):
                acc.addcmul_(padded[:, u : u + height, v : v + width], self._kernel[:, u, v, None, None])
        return requantise(acc, self._scale)
