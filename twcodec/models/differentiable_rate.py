"""The entropy part of `differentiable`: what latents cost, under the codec's own tables, and what they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.nn import functional

from twcodec.errors import UnsupportedError
from twcodec.exact.arithmetic import FRACTION_BITS, LEAKY_SLOPE, ONE
from twcodec.exact.rounding import Rounding
from twcodec.exact.two_step import first_step
from twcodec.exact.wavefront import TAPS
from twcodec.models import residual_dct
from twcodec.models.architectures import ARCHITECTURES, HyperLayer
from twcodec.models.integer_layers import UP
from twcodec.models.mean_scale import rate_weight, tables_from
from twcodec.models.smooth_cost import SmoothCost

if TYPE_CHECKING:
    from torch import Tensor

    from twcodec.models.file import ModelFile

Quantizer = Literal["ste", "noise", "identity"]
"""How a gradient passes the rounding: as if it were not there (straight through), with uniform noise in its place, or
with nothing in its place. In the forward pass only the first one computes what is coded."""


@dataclass(frozen=True)
class Rated:
    """What the entropy part makes of latents. bits: (B,), of y and z. y_hat, symbols: (B, M, h, w).

    index: the table of each symbol, of the same shape; None with a factorised prior, whose y is z.
    """

    bits: Tensor
    y_hat: Tensor
    symbols: Tensor
    index: Tensor | None = None


class _Rate:
    """The rate of y, given scales and means, under a quantizer."""

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        thresholds = file.tensors["thresholds"]
        tables = tables_from(file, "y", len(thresholds) + 1)
        self.cost = SmoothCost(tables, device)
        self._rounding = Rounding(tables, rate_weight(file), device)
        self._limits = torch.from_numpy(thresholds.astype(np.float32) / ONE).to(device)

    def levels(self, scales: Tensor) -> tuple[Tensor, Tensor]:
        """The table of each scale, and a float that stands for it and varies smoothly with the scale."""
        limits, fixed = self._limits, scales.detach().contiguous()
        index = torch.searchsorted(limits, fixed, right=True)
        if len(limits) < 2:
            return index, index.float()
        upper = index.clamp(1, len(limits) - 1)
        steepness = 1 / (limits[upper] - limits[upper - 1])
        return index, index.float() + steepness * (scales - fixed)

    def quantised(self, y: Tensor, means: Tensor, index: Tensor, quantizer: Quantizer) -> Tensor:
        """Symbols, or what stands for them: floats of y's shape."""
        residual = y - means
        if quantizer == "noise":
            return residual + torch.rand_like(residual) - 0.5
        if quantizer == "identity":
            return residual
        return residual + (self._rounding(residual.detach(), index) - residual).detach()


class _Bottleneck:
    """z, or a factorised prior's y: each channel's symbols around its median."""

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        medians = file.tensors["medians"]
        self._medians = torch.from_numpy(medians.astype(np.float32) / ONE).to(device)[:, None, None]
        self._cost = SmoothCost(tables_from(file, "z", len(medians)), device)
        self._channel = torch.arange(len(medians), device=device)[:, None, None]

    def __call__(self, z: Tensor, quantizer: Quantizer) -> tuple[Tensor, Tensor]:
        """Bits, (B,), and z_hat."""
        symbols = centred = z - self._medians
        if quantizer == "noise":
            symbols = centred + torch.rand_like(centred) - 0.5
        elif quantizer == "ste":
            symbols = centred + (centred.round() - centred).detach()
        bits = self._cost(symbols, self._channel.expand_as(z)).flatten(1).sum(1)
        return bits, symbols + self._medians


class _FactorisedRate:
    def __init__(self, file: ModelFile, device: torch.device) -> None:
        self._bottleneck = _Bottleneck(file, device)

    def __call__(self, _y: Tensor, z: Tensor, quantizer: Quantizer) -> Rated:
        bits, y_hat = self._bottleneck(z, quantizer)
        return Rated(bits, y_hat, y_hat)

    def cost(self, _symbols: Tensor, _index: Tensor) -> Tensor:
        raise UnsupportedError("a factorised prior has no y beside z")

    slope = cost


class _HyperRate:
    """A hyperprior: h_s, and what leads from its features to scales and means."""

    def __init__(self, file: ModelFile, device: torch.device, layers: Sequence[HyperLayer], context: _Context) -> None:
        self._bottleneck, self._rate = _Bottleneck(file, device), _Rate(file, device)
        self._h_s = [(layer, *_weights(file, f"h_s.{i}", device)) for i, layer in enumerate(layers)]
        self._context = context

    def __call__(self, y: Tensor, z: Tensor, quantizer: Quantizer) -> Rated:
        z_bits, features = self._bottleneck(z, quantizer)
        for layer, weight, bias in self._h_s:
            features = _hyper_layer(features, layer, weight, bias)
        scales, means = self._context(y, features[..., : y.shape[-2], : y.shape[-1]], self._rate, quantizer)
        index, level = self._rate.levels(scales)
        symbols = self._rate.quantised(y, means, index, quantizer)
        bits = z_bits + self._rate.cost(symbols, index, level).flatten(1).sum(1)
        return Rated(bits, symbols + means, symbols, index)

    def cost(self, symbols: Tensor, index: Tensor) -> Tensor:
        return self._rate.cost(symbols, index)

    def slope(self, symbols: Tensor, index: Tensor) -> Tensor:
        return self._rate.cost.slope(symbols, index)


_Context = Callable[["Tensor", "Tensor", _Rate, Quantizer], "tuple[Tensor, Tensor]"]
"""(y, features, rated, quantizer) -> scales and means, (B, M, h, w)."""


def _scales_only(_y: Tensor, features: Tensor, _rate: _Rate, _quantizer: Quantizer) -> tuple[Tensor, Tensor]:
    return features, torch.zeros_like(features)


def _both(_y: Tensor, features: Tensor, _rate: _Rate, _quantizer: Quantizer) -> tuple[Tensor, Tensor]:
    scales, means = features.chunk(2, 1)
    return scales, means


class _TwoSteps:
    """See `exact.two_step`."""

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        self._first = [_weights(file, f"first.{i}", device) for i in range(2)]
        self._second = [_weights(file, f"second.{i}", device) for i in range(2)]
        self._kernel = _weights(file, "context", device)

    def __call__(self, y: Tensor, features: Tensor, rate: _Rate, quantizer: Quantizer) -> tuple[Tensor, Tensor]:
        scales, means = _perceptron(features, self._first).chunk(2, 1)
        part = torch.from_numpy(first_step((y.shape[1], y.shape[2], y.shape[3]))).to(y.device)
        symbols = rate.quantised(y, means, rate.levels(scales)[0], quantizer)
        known = (symbols + means) * part
        context = functional.conv2d(torch.cat([known, known.abs()], 1), *self._kernel, padding=1, groups=2 * y.shape[1])
        later = _perceptron(torch.cat([features, context], 1), self._second).chunk(2, 1)
        return torch.where(part, scales, later[0]), torch.where(part, means, later[1])


class _Serial:
    """A serial context by one masked convolution over all of y, rounded as it is: the codec rounds around means."""

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        seen, self._bias = _weights(file, "context", device)  # (C, 12, M)
        self._kernel = seen.new_zeros(len(seen), seen.shape[2], 5, 5)
        for tap, (dy, dx) in enumerate(TAPS):
            self._kernel[:, :, 2 + dy, 2 + dx] = seen[:, tap]
        count = file.count("entropy_parameters.{}.shift")
        self._parameters = [_weights(file, f"entropy_parameters.{i}", device) for i in range(count)]

    def __call__(self, y: Tensor, features: Tensor, _rate: _Rate, _quantizer: Quantizer) -> tuple[Tensor, Tensor]:
        y_hat = y + (y.round() - y).detach()
        context = functional.conv2d(y_hat, self._kernel, self._bias, padding=2)
        scales, means = _perceptron(torch.cat([features, context], 1), self._parameters).chunk(2, 1)
        return scales, means


def rate_of(file: ModelFile, device: torch.device) -> _HyperRate | _FactorisedRate:
    """The entropy part of a model. UnsupportedError: it has gains for each quality."""
    family = file.metadata["family"]
    architecture = ARCHITECTURES.get(family)
    if architecture is not None and architecture.variable:
        raise UnsupportedError(f"models of family {family} cannot be differentiated yet")
    if architecture is not None and architecture.h_s is None:
        return _FactorisedRate(file, device)
    n = len(file.tensors["medians"])
    if architecture is not None and architecture.h_s is not None:
        layers = architecture.h_s(n, len(file.tensors[architecture.m_from]))
    else:
        layers = _h_s_of_blocks(file, n)
    if "entropy_parameters.0.shift" in file.tensors:
        return _HyperRate(file, device, layers, _Serial(file, device))
    if "second.0.shift" in file.tensors:
        return _HyperRate(file, device, layers, _TwoSteps(file, device))
    means = architecture is None or architecture.means
    return _HyperRate(file, device, layers, _both if means else _scales_only)


def _h_s_of_blocks(file: ModelFile, n: int) -> list[HyperLayer]:
    """The layers of h_s of the block families; those without context end in scales and means."""
    count = file.count("h_s.{}.shift")
    geometries = residual_dct.H_S if count == len(residual_dct.H_S) else (UP,) * count
    last = count - 1 if count == len(residual_dct.H_S) else count
    return [HyperLayer(0, 0, geometry, "leaky" if i < last else "") for i, geometry in enumerate(geometries)]


def _weights(file: ModelFile, name: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Weight and bias of an integer layer as the floats that they stand for."""
    weight, bias, shift = (file.tensors[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias", "shift"))
    scale = np.exp2(-shift)
    found = weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), bias * scale / (1 << FRACTION_BITS)
    return torch.from_numpy(found[0]).float().to(device), torch.from_numpy(found[1]).float().to(device)


def _hyper_layer(a: Tensor, layer: HyperLayer, weight: Tensor, bias: Tensor) -> Tensor:
    g = layer.geometry
    if g.transposed:
        out = functional.conv_transpose2d(a, weight.transpose(0, 1), bias, g.stride, g.padding, g.output_padding)
    else:
        out = functional.conv2d(a, weight, bias, g.stride, g.padding)
    if layer.then == "leaky":
        out = functional.leaky_relu(out, _SLOPE)
    elif layer.then == "relu":
        out = out.relu()
    return functional.pixel_shuffle(out, 2) if layer.shuffled else out


def _perceptron(a: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """1x1 layers with LeakyReLU between them."""
    for i, (weight, bias) in enumerate(layers):
        a = functional.conv2d(a, weight.view(len(weight), -1, 1, 1), bias)
        a = functional.leaky_relu(a, _SLOPE) if i + 1 < len(layers) else a
    return a


_SLOPE = LEAKY_SLOPE / 65536
