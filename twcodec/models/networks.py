"""The float transforms of the published models, as torch modules with CompressAI's names for their weights.

Ballé et al. 2018 (g_a, g_s with GDN), Minnen et al. 2018, Cheng et al. 2020. Unlike CompressAI's, the GDN holds beta
and gamma themselves, not what training reparametrises them as; and nothing here can be trained.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from twcodec.models.bands import Convolution, Deconvolution, LastDeconvolution, in_bands

PIXEL = 3
"""Channels of a picture: what takes or gives them computes in float32."""

_CACHE = 2 << 20
"""Bytes that stay in the caches of two cores while a GDN passes over them four times."""


class GDN(nn.Module):
    """x_i / sqrt(beta_i + sum_j gamma_ij x_j^2), or times it where inverse (Ballé et al. 2016, equation 2)."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.empty(channels))
        self.gamma = nn.Parameter(torch.empty(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (1, C, H, W), channels last; it is overwritten, some rows at a time: memory, not arithmetic, is slow."""
        x, gamma = x.to(self.gamma.dtype), self.gamma[:, :, None, None]
        rows = max(1, _CACHE // (x.shape[1] * x.shape[3] * x.element_size()))
        for band in torch.split(x, rows, dim=2):
            norm = functional.conv2d(band * band, gamma, self.beta)
            band.mul_(norm.sqrt_() if self.inverse else norm.rsqrt_())
        return x


def in_type(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a network whose layers compute in another type, but for those that are `precise`."""
    made = copy.deepcopy(network)
    for layer in made.modules():
        if not list(layer.children()) and not getattr(layer, "precise", False):
            layer.to(dtype)
    return made


def balle(n: int, m: int, gdn: bool = True) -> tuple[nn.Module, nn.Module]:
    """g_a and g_s of Ballé et al. 2018: four 5x5 convolutions with stride 2, GDN or ReLU between them."""

    def between(inverse: bool) -> nn.Module:
        return GDN(n, inverse) if gdn else nn.ReLU(inplace=True)

    a = [_conv(3, n), between(False), _conv(n, n), between(False), _conv(n, n), between(False), _conv(n, m)]
    s = [_deconv(m, n), between(True), _deconv(n, n), between(True), _deconv(n, n), between(True), LastDeconvolution(n)]
    return Analysis(*a), Synthesis(*s)


class Analysis(nn.Sequential):
    """g_a of Ballé et al. 2018. What the first layer gives, half of all memory, is never held whole."""

    def forward(self, x: Tensor) -> Tensor:
        """(1, 3, H, W) to (1, M, H / 16, W / 16)."""
        x = in_bands(list(self)[:3], x)
        for layer in list(self)[3:]:
            x = layer(x)
        return x


class Synthesis(nn.Sequential):
    """g_s of Ballé et al. 2018. What the last layer takes is never held whole."""

    def forward(self, x: Tensor) -> Tensor:
        """(1, M, h, w) to (1, 3, 16 h, 16 w)."""
        for layer in list(self)[:-3]:
            x = layer(x)
        return in_bands(list(self)[-3:], x)


def hyper_analysis(n: int, m: int, leaky: bool) -> nn.Module:
    """h_a of Ballé et al. 2018 (ReLU; it reads |y|) and of Minnen et al. 2018 (LeakyReLU; it reads y)."""
    first, second = (nn.LeakyReLU(inplace=True) if leaky else nn.ReLU(inplace=True) for _ in range(2))
    return nn.Sequential(_conv3(m, n), first, _conv(n, n), second, _conv(n, n))


def cheng(n: int, _m: int, attention: bool) -> tuple[nn.Module, nn.Module]:
    """g_a and g_s of Cheng et al. 2020, with or without attention blocks."""
    last = Convolution(n, n, 3, stride=2, padding=1, precise=True)  # without, 0.1 % more bits in bfloat16
    a: list[nn.Module] = [Down(3, n), Residual(n), Down(n, n), Residual(n), Down(n, n), Residual(n), last]
    s: list[nn.Module] = [Residual(n), Up(n), Residual(n), Up(n), Residual(n), Up(n), Residual(n), _subpel(n, 3)]
    if attention:
        a.insert(3, Attention(n))
        a.append(_precise(Attention(n)))
        s.insert(4, Attention(n))
        s.insert(0, Attention(n))
    return nn.Sequential(*a), nn.Sequential(*s)


def cheng_hyper_analysis(n: int, _m: int) -> nn.Module:
    """h_a of Cheng et al. 2020: five 3x3 convolutions."""
    layers: list[nn.Module] = []
    for stride in (1, 1, 2, 1, 2):
        layers += [_conv3(n, n, stride), nn.LeakyReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


class Down(nn.Module):
    """Residual block that halves the resolution."""

    def __init__(self, inputs: int, n: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.gdn = _conv3(inputs, n, 2), _conv3(n, n), GDN(n)
        self.skip = _conv1(inputs, n, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, N, H / 2, W / 2)."""
        out = self.gdn(self.conv2(_leaky(self.conv1(x))))
        return out.add_(self.skip(x).to(out.dtype))  # type: ignore[no-any-return]  # torch adds two types slowly


class Up(nn.Module):
    """Residual block that doubles the resolution."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.subpel_conv, self.conv, self.igdn = _subpel(n, n), _conv3(n, n), GDN(n, inverse=True)
        self.upsample = _subpel(n, n)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, H, W) to (B, N, 2 H, 2 W)."""
        out = self.igdn(self.conv(_leaky(self.subpel_conv(x))))
        return out.add_(self.upsample(x))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Residual block of two 3x3 convolutions."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv3(n, n), _conv3(n, n)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, H, W) to the same."""
        return _leaky(self.conv2(_leaky(self.conv1(x)))).add_(x)


class Attention(nn.Module):
    """Simplified attention: x + a(x) sigmoid(b(x)), both of residual units."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv_a = nn.Sequential(*(Unit(n) for _ in range(3)))
        self.conv_b = nn.Sequential(*(Unit(n) for _ in range(3)), _conv1(n, n))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, H, W) to the same."""
        return self.conv_a(x).mul_(self.conv_b(x).sigmoid_()).add_(x)  # type: ignore[no-any-return]


class Unit(nn.Module):
    """Residual unit of an attention block: a bottleneck of N / 2 channels."""

    def __init__(self, n: int) -> None:
        super().__init__()
        half = n // 2
        layers = [_conv1(n, half), nn.ReLU(inplace=True), _conv3(half, half)]
        self.conv = nn.Sequential(*layers, nn.ReLU(inplace=True), _conv1(half, n))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, H, W) to the same."""
        return self.conv(x).add_(x).relu_()  # type: ignore[no-any-return]


def _precise(network: nn.Module) -> nn.Module:
    for layer in network.modules():
        if isinstance(layer, Convolution):
            layer.precise = True
    return network


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu_(x, 0.01)


def _conv(inputs: int, outputs: int) -> nn.Module:
    return Convolution(inputs, outputs, 5, stride=2, padding=2, precise=inputs == PIXEL)


def _deconv(inputs: int, outputs: int) -> nn.Module:
    return Deconvolution(inputs, outputs)


def _conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return Convolution(inputs, outputs, 3, stride=stride, padding=1, precise=inputs == PIXEL)


def _conv1(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return Convolution(inputs, outputs, 1, stride=stride, precise=inputs == PIXEL)


def _subpel(inputs: int, outputs: int) -> nn.Module:
    last = Convolution(inputs, 4 * outputs, 3, padding=1, precise=outputs == PIXEL)
    return nn.Sequential(last, nn.PixelShuffle(2))
