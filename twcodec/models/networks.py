"""The float transforms of the published models, as torch modules with CompressAI's names for their weights.

Ballé et al. 2018 (g_a, g_s with GDN), Minnen et al. 2018, Cheng et al. 2020. Unlike CompressAI's, the GDN holds beta
and gamma themselves, not what training reparametrises them as; and nothing here can be trained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class GDN(nn.Module):
    """x_i / sqrt(beta_i + sum_j gamma_ij x_j^2), or times it where inverse (Ballé et al. 2016, equation 2)."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.empty(channels))
        self.gamma = nn.Parameter(torch.empty(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W)."""
        norm = functional.conv2d(x * x, self.gamma[:, :, None, None], self.beta)
        return (norm.sqrt_() if self.inverse else norm.rsqrt_()).mul_(x)


def balle(n: int, m: int, gdn: bool = True) -> tuple[nn.Module, nn.Module]:
    """g_a and g_s of Ballé et al. 2018: four 5x5 convolutions with stride 2, GDN or ReLU between them."""

    def between(inverse: bool) -> nn.Module:
        return GDN(n, inverse) if gdn else nn.ReLU(inplace=True)

    a = [_conv(3, n), between(False), _conv(n, n), between(False), _conv(n, n), between(False), _conv(n, m)]
    s = [_deconv(m, n), between(True), _deconv(n, n), between(True), _deconv(n, n), between(True), _deconv(n, 3)]
    return nn.Sequential(*a), nn.Sequential(*s)


def hyper_analysis(n: int, m: int, leaky: bool) -> nn.Module:
    """h_a of Ballé et al. 2018 (ReLU; it reads |y|) and of Minnen et al. 2018 (LeakyReLU; it reads y)."""
    first, second = (nn.LeakyReLU(inplace=True) if leaky else nn.ReLU(inplace=True) for _ in range(2))
    return nn.Sequential(_conv3(m, n), first, _conv(n, n), second, _conv(n, n))


def cheng(n: int, _m: int, attention: bool) -> tuple[nn.Module, nn.Module]:
    """g_a and g_s of Cheng et al. 2020, with or without attention blocks."""
    a: list[nn.Module] = [Down(3, n), Residual(n), Down(n, n), Residual(n), Down(n, n), Residual(n), _conv3(n, n, 2)]
    s: list[nn.Module] = [Residual(n), Up(n), Residual(n), Up(n), Residual(n), Up(n), Residual(n), _subpel(n, 3)]
    if attention:
        a.insert(3, Attention(n))
        a.append(Attention(n))
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
        self.skip = nn.Conv2d(inputs, n, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, N, H / 2, W / 2)."""
        out = self.gdn(self.conv2(_leaky(self.conv1(x))))
        return out.add_(self.skip(x))  # type: ignore[no-any-return]


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
        self.conv_b = nn.Sequential(*(Unit(n) for _ in range(3)), nn.Conv2d(n, n, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, H, W) to the same."""
        return self.conv_a(x).mul_(self.conv_b(x).sigmoid_()).add_(x)  # type: ignore[no-any-return]


class Unit(nn.Module):
    """Residual unit of an attention block: a bottleneck of N / 2 channels."""

    def __init__(self, n: int) -> None:
        super().__init__()
        half = n // 2
        layers = [nn.Conv2d(n, half, 1), nn.ReLU(inplace=True), _conv3(half, half)]
        self.conv = nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Conv2d(half, n, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, H, W) to the same."""
        return self.conv(x).add_(x).relu_()  # type: ignore[no-any-return]


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu_(x, 0.01)


def _conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)


def _deconv(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)


def _conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)


def _subpel(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(_conv3(inputs, 4 * outputs), nn.PixelShuffle(2))
