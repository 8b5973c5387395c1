"""The trainable form of `lapped-dct`: torch modules under the names of the model file's tensors.

The forward pass is the codec's, with rounding passed straight through for the distortion and replaced by uniform noise
for the rate (Ballé et al. 2017; Minnen and Singh 2020, section 3.3). Measured: straight-through rates cost 3 to 5 %.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from twcodec.errors import UnsupportedError
from twcodec.exact.rounding import SYMBOLS, lean, offsets
from twcodec.exact.two_step import first_step
from twcodec.models import _compressai
from twcodec.models.block_transform import BLOCK, MOST_BLOCKS
from twcodec.models.mean_scale import MOST_RATE_WEIGHT
from twcodec.models.scale_mixture import LOG_SCALE_MAX, LOG_SCALE_MIN, ScaleMixture

if TYPE_CHECKING:
    from torch import Tensor

_LIKELIHOOD_FLOOR = 1e-9
_MOST_CHANNELS = 4096
_DEAD_ZONE_LEVELS = 64


@dataclass(frozen=True)
class Config:
    """What defines a network. luma, chroma: channels of y that start as DCT pictures of the luma and of each chroma.

    n: channels of z. lap: pixels that the banks reach over each edge of a block. hidden: channels inside a residual
    block. features: channels that h_s gives. entropy_hidden: channels inside the two parameter networks.
    rate_weight: how far rounding leans towards 0 (`exact.rounding`). lambdas: trade-offs, one a quality row.
    """

    luma: int = 240
    chroma: int = 40
    n: int = 96
    lap: int = 4
    depth: int = 4
    hidden: int = 512
    features: int = 192
    entropy_hidden: int = 256
    filter: int = 32
    rate_weight: float = 0.6
    lambdas: tuple[float, ...] = (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932)

    def __post_init__(self) -> None:
        """UnsupportedError: sizes that no network can have, or that a model file should not ask for."""
        sizes = (self.luma, self.n, self.depth, self.hidden, self.features, self.entropy_hidden, self.filter)
        fits = all(type(n) is int and 1 <= n <= _MOST_CHANNELS for n in sizes) and self.depth <= MOST_BLOCKS
        fits = fits and type(self.chroma) is int and 0 <= self.chroma <= BLOCK**2 and self.luma <= BLOCK**2
        fits = fits and type(self.lap) is int and 0 <= self.lap <= BLOCK
        fits = fits and type(self.rate_weight) in (int, float) and 0 <= self.rate_weight <= MOST_RATE_WEIGHT
        fits = fits and len(self.lambdas) >= 2 and all(type(v) is float and 0 < v < 1e6 for v in self.lambdas)
        if not fits:
            raise UnsupportedError("the network's sizes are out of range")

    @property
    def m(self) -> int:
        """Channels of y."""
        return self.luma + 2 * self.chroma

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        return {**asdict(self), "lambdas": list(self.lambdas)}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Config:
        """The inverse of `to_json`."""
        return cls(**{**found, "lambdas": tuple(found["lambdas"])})


@dataclass(frozen=True)
class Output:
    """One forward pass. x_hat: (B, 3, H, W), not clipped. y_bits, z_bits: (B,)."""

    x_hat: Tensor
    y_bits: Tensor
    z_bits: Tensor


@dataclass(frozen=True)
class Coded:
    """The entropy part of a pass. y_hat: (B, M, h, w). y_bits, z_bits: (B,)."""

    y_hat: Tensor
    y_bits: Tensor
    z_bits: Tensor


class Network(nn.Module):
    """Everything that training learns."""

    dead_zone: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, m, n = config, config.m, config.n
        self.g_a = _Side(config)
        self.g_s = _Side(config)
        self.g_a.bank = nn.Conv2d(3, m, BLOCK + 2 * config.lap, BLOCK)
        self.g_s.bank = nn.ConvTranspose2d(m, 3, BLOCK + 2 * config.lap, BLOCK, config.lap)
        self.g_s.filter = _filter(config.filter)
        self.h_a = nn.ModuleList([_down(m, n, 3, 1), _down(n, n), _down(n, n)])
        self.h_s = nn.ModuleList([_up(n, n), _up(n, config.features)])
        self.first = _parameters(config.features, config)
        self.context = nn.Conv2d(2 * m, 2 * m, 3, padding=1, groups=2 * m)
        self.second = _parameters(config.features + 2 * m, config)
        self.bottleneck = _compressai.load("compressai.entropy_models").EntropyBottleneck(n)
        self.density = ScaleMixture()
        self.register_buffer("dead_zone", torch.zeros(_DEAD_ZONE_LEVELS, SYMBOLS + 1))
        rows = torch.tensor(config.lambdas)
        gain = (rows / rows[len(rows) // 2]).sqrt().log()[:, None].expand(-1, m).clone()
        self.gain = nn.ParameterDict({"log": nn.Parameter(gain), "log_inverse": nn.Parameter(-gain)})
        self._start_as_dct()

    @torch.no_grad()
    def _start_as_dct(self) -> None:
        """A working transform codec before the first step: orthonormal DCT banks, blocks and filter that do nothing."""
        scale = 255 / _DCT_STEP
        bank = functional.pad(dct_bank(self.config.luma, self.config.chroma), [self.config.lap] * 4)
        self.g_a.bank.weight.copy_(bank * scale)
        self.g_s.bank.weight.copy_(bank / scale)
        for module in (self.g_a.bank, self.g_s.bank):
            nn.init.zeros_(_bias(module))
        last = [block.project for block in self.blocks()]
        for layer in (*last, self.g_s.filter[-1]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        nn.init.constant_(self.context.weight, 0.1)

    def blocks(self) -> list[Block]:
        """The residual blocks of both sides."""
        return [block for side in (self.g_a, self.g_s) for block in side.blocks if isinstance(block, Block)]

    def forward(self, x: Tensor, rows: Tensor, amp: bool = False, noise: bool = True) -> Output:
        """x: (B, 3, H, W) in 0 .. 1, sides multiples of 64. rows: (B,) quality rows, from 0.

        amp: bfloat16, but for the banks and the last layers. noise: rates with uniform noise; else of real symbols.
        """
        with _autocast(x, amp):
            y = self.analyse(x, rows)
            z = self._h_a(y).float()
        coded = self.code(y, z, amp, noise)
        with _autocast(x, amp):
            x_hat = self.synthesise(coded.y_hat, rows)
        return Output(x_hat, coded.y_bits, coded.z_bits)

    def code(self, y: Tensor, z: Tensor, amp: bool = False, noise: bool = True) -> Coded:
        """The entropy part: bits of y and z, and y_hat, rounded straight through."""
        z_hat, z_bits = self._z(z, noise)
        with _autocast(y, amp):
            log_scales, means = self._parameters_of(y, self._h_s(z_hat))
        residual = y - means
        symbols = self._round(residual, log_scales)
        rated = residual + torch.rand_like(residual) - 0.5 if noise else symbols
        likelihood = self.density(rated, log_scales)
        return Coded(residual + (symbols - residual).detach() + means, _bits(likelihood), z_bits)

    def analyse(self, x: Tensor, rows: Tensor) -> Tensor:
        """g_a and the gain: x to y, (B, M, h, w)."""
        padded = functional.pad(x - 0.5, [self.config.lap] * 4, mode="replicate")
        with torch.autocast(x.device.type, enabled=False):
            y = self.g_a.bank(padded)
        for block in self.g_a.blocks:
            y = block(y)
        scaled: Tensor = y.float() * self.gain["log"][rows].exp()[:, :, None, None]
        return scaled

    def synthesise(self, y_hat: Tensor, rows: Tensor) -> Tensor:
        """The inverse gain and g_s: y_hat to x_hat."""
        h = y_hat * self.gain["log_inverse"][rows].exp()[:, :, None, None]
        for block in self.g_s.blocks:
            h = block(h)
        with torch.autocast(h.device.type, enabled=False):
            x = self.g_s.bank(h.float()) + 0.5
        f = functional.pixel_unshuffle(x, 2)
        for layer in self.g_s.filter[:-1]:
            f = functional.leaky_relu(layer(f), 0.1)
        with torch.autocast(h.device.type, enabled=False):
            residual: Tensor = self.g_s.filter[-1](f.float())
        x_hat: Tensor = x + functional.pixel_shuffle(residual, 2)
        return x_hat

    def _h_a(self, y: Tensor) -> Tensor:
        z = functional.leaky_relu(self.h_a[0](y), 0.01)
        z = functional.leaky_relu(self.h_a[1](z), 0.01)
        return self.h_a[2](z)  # type: ignore[no-any-return]

    def _h_s(self, z_hat: Tensor) -> Tensor:
        for layer in self.h_s:
            z_hat = functional.leaky_relu(layer(z_hat), 0.01)
        return z_hat

    def _z(self, z: Tensor, noise: bool) -> tuple[Tensor, Tensor]:
        """z_hat, rounded around the medians straight through, and the bits of z: (B,)."""
        likelihood = self.bottleneck(z, training=noise)[1]
        medians = self.bottleneck._get_medians()
        centred = z - medians
        return centred + (centred.round() - centred).detach() + medians, _bits(likelihood)

    def _parameters_of(self, y: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Log scales and means of y: (B, M, h, w), in two steps as `exact.two_step`."""
        first_scales, first_means = _apply(self.first, features)
        part = torch.from_numpy(first_step(tuple(y.shape[1:]))).to(y.device)
        residual = y - first_means
        symbols = self._round(residual, first_scales.clamp(LOG_SCALE_MIN, LOG_SCALE_MAX))
        known = (residual + (symbols - residual).detach() + first_means) * part
        context = self.context(torch.cat([known, known.abs()], 1))
        second_scales, second_means = _apply(self.second, torch.cat([features, context.to(features.dtype)], 1))
        log_scales = torch.where(part, first_scales, second_scales).clamp(LOG_SCALE_MIN, LOG_SCALE_MAX)
        return log_scales, torch.where(part, first_means, second_means)

    @torch.no_grad()
    def _round(self, residual: Tensor, log_scales: Tensor) -> Tensor:
        """As `exact.rounding.Rounding`, with the offsets of the nearest of a few levels."""
        symbols = residual.round()
        level = (log_scales - LOG_SCALE_MIN) * ((_DEAD_ZONE_LEVELS - 1) / (LOG_SCALE_MAX - LOG_SCALE_MIN))
        lean(residual, level.round(), symbols, self.dead_zone.view(-1))
        return symbols

    @torch.no_grad()
    def refresh_dead_zone(self) -> None:
        """Rounding offsets from what the assumed density says that symbols cost now."""
        scales = torch.linspace(LOG_SCALE_MIN, LOG_SCALE_MAX, _DEAD_ZONE_LEVELS, device=self.dead_zone.device)
        symbols = torch.arange(SYMBOLS + 1.0, device=scales.device).expand(len(scales), -1)
        bits = -torch.log2(self.density(symbols, scales[:, None].expand_as(symbols)).clamp_min(_LIKELIHOOD_FLOOR))
        self.dead_zone[:, 1:] = offsets(self.config.rate_weight, bits.diff(dim=1))


class _Side(nn.Module):
    """A bank and residual blocks, and the filter on the synthesis side."""

    bank: nn.Conv2d | nn.ConvTranspose2d
    filter: nn.ModuleList

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(config.m, config.hidden) for _ in range(config.depth)])


class Block(nn.Module):
    """x + project(act(expand(depthwise 5x5(x))))."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.project = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, h, w)."""
        return x + self.project(functional.leaky_relu(self.expand(self.depthwise(x)), 0.1))  # type: ignore[no-any-return]


def _filter(width: int) -> nn.ModuleList:
    sizes = ((12, width), (width, width), (width, 12))
    return nn.ModuleList([nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in sizes])


def _down(inputs: int, outputs: int, kernel: int = 5, stride: int = 2) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 5, 2, 2, 1)


def _parameters(inputs: int, config: Config) -> nn.ModuleList:
    return nn.ModuleList(
        [nn.Conv2d(inputs, config.entropy_hidden, 1), nn.Conv2d(config.entropy_hidden, 2 * config.m, 1)]
    )


def _apply(layers: nn.ModuleList, x: Tensor) -> tuple[Tensor, Tensor]:
    """A parameter network: log scales and means, the last layer in fp32, because means reach hundreds."""
    hidden = functional.leaky_relu(layers[0](x), 0.01)
    with torch.autocast(x.device.type, enabled=False):
        scales, means = layers[1](hidden.float()).chunk(2, 1)
    return scales, means


def _bits(likelihood: Tensor) -> Tensor:
    return -torch.log2(likelihood.clamp_min(_LIKELIHOOD_FLOOR)).flatten(1).sum(1)


def _autocast(x: Tensor, amp: bool) -> AbstractContextManager[Any]:
    """Without the cache of cast weights: in a caller's autocast it outlives the step, and what is used is stale."""
    return torch.autocast(x.device.type, torch.bfloat16, enabled=amp, cache_enabled=False)


def _bias(module: nn.Module) -> Tensor:
    bias = module.bias
    assert isinstance(bias, torch.Tensor)
    return bias


_DCT_STEP = 25.8
"""Quantiser step, in levels of 8 bits, that suits the middle quality row before anything is learned."""


def dct_bank(luma: int, chroma: int) -> Tensor:
    """(luma + 2 chroma, 3, 16, 16): the lowest pictures of an orthonormal DCT of the luma, Cb and Cr, by frequency."""
    n = torch.arange(BLOCK, dtype=torch.float64)
    basis = torch.cos(math.pi * (2 * n[None] + 1) * n[:, None] / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    basis[0] /= math.sqrt(2)
    order = sorted(((u, v) for u in range(BLOCK) for v in range(BLOCK)), key=lambda t: (t[0] ** 2 + t[1] ** 2, t))
    colours = torch.tensor([[1.0, 1, 1], [-1, -1, 2], [1, -1, 0]], dtype=torch.float64)
    colours = torch.linalg.qr(colours.T)[0].T
    pictures = [
        colour[:, None, None] * torch.outer(basis[u], basis[v])
        for colour, count in zip(colours, (luma, chroma, chroma), strict=True)
        for u, v in order[:count]
    ]
    return torch.stack(pictures).float()
