"""Two layers one after the other, some rows at a time, so that what is between them stays in the processor's caches.

At half of a picture's resolution 128 channels are 50 MB for 768 x 512 pixels. To take so much from the system anew,
page by page, costs more time than to compute it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from twcodec.models.subpixel import shuffled

_BAND = 3 << 20
"""Numbers in the rows that are computed at once. Three rows of each band are computed twice."""


class Rows(Protocol):
    """A layer that computes some rows of its result. Tensors are (1, C, H, W)."""

    out_channels: int

    def size(self, positions: int) -> int:
        """Rows (or columns) of the result for so many of the input."""

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """The input's rows from which rows start .. stop of the result follow; some may lie outside the picture."""

    def rows(self, x: Tensor, origin: int, start: int, stop: int) -> Tensor:
        """Rows start .. stop. x: the input's rows from `origin` on; those it lacks lie outside the picture."""


class Convolution(nn.Conv2d):
    """nn.Conv2d that computes in the type of its weights, and some rows of its result, too.

    precise: it stays float32 in a network of another type, for bfloat16 has fewer levels than pixels.
    """

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1, padding: int = 0, precise: bool = False):
        super().__init__(inputs, outputs, side, stride, padding)
        self.precise = precise

    def forward(self, x: Tensor) -> Tensor:
        """x: (1, C, H, W), of any type."""
        return super().forward(x.to(self.weight.dtype))

    def size(self, positions: int) -> int:
        """As in Rows."""
        return (positions + 2 * self.padding[0] - self.kernel_size[0]) // self.stride[0] + 1  # type: ignore[operator]

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """As in Rows."""
        first = start * self.stride[0] - self.padding[0]  # type: ignore[operator]
        return first, first + (stop - start - 1) * self.stride[0] + self.kernel_size[0]

    def rows(self, x: Tensor, origin: int, start: int, stop: int) -> Tensor:
        """As in Rows."""
        stride, padding = self.stride[0], self.padding[0]
        x = x.to(self.weight.dtype)
        return _convolved(x, origin, self.needs(start, stop), self.weight, self.bias, stride, padding)  # type: ignore[arg-type]


class Deconvolution(nn.ConvTranspose2d):
    """nn.ConvTranspose2d (5x5, stride 2) that computes in the type of its weights, and some rows of its result, too."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 5, stride=2, padding=2, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x: (1, C, H, W), of any type."""
        return super().forward(x.to(self.weight.dtype))

    def size(self, positions: int) -> int:
        """As in Rows."""
        return 2 * positions

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """As in Rows. Row i of the input reaches rows 2 i - 2 .. 2 i + 2 of the result."""
        return (start - 1) // 2, (stop + 1) // 2 + 1

    def rows(self, x: Tensor, origin: int, start: int, stop: int) -> Tensor:
        """As in Rows."""
        low, high = self.needs(start, stop)
        first = max(low, origin)
        x = x[:, :, first - origin : high - origin].to(self.weight.dtype)
        top, bottom = 2 * first - 2, 2 * (first + x.shape[2]) + 1  # rows that the whole of x reaches
        cut = min(start - top, bottom - stop + 1)  # one less below: oneDNN takes five times as long for an odd height
        out = functional.conv_transpose2d(x, self.weight, self.bias, 2, (cut, 2), 1)
        return out[:, :, start - top - cut :][:, :, : stop - start]


class LastDeconvolution(Deconvolution):
    """The one that gives pixels, in float32 always: a row of the result here is a pair of theirs.

    It is computed as a 3x3 convolution to the 2 x 2 x 3 values of four pixels, in half the time.
    """

    precise = True

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, 3)

    def size(self, positions: int) -> int:
        """As in Rows."""
        return positions

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """As in Rows."""
        return start - 1, stop + 1

    def rows(self, x: Tensor, origin: int, start: int, stop: int) -> Tensor:
        """As in Rows: (1, N, h, w) to (1, 3, 2 (stop - start), 2 w)."""
        taps = functional.pad(self.weight, (0, 1, 0, 1)).view(-1, 3, 3, 2, 3, 2).flip(2, 4)
        weight = taps.permute(3, 5, 1, 0, 2, 4).reshape(12, -1, 3, 3).contiguous(memory_format=torch.channels_last)
        bias = None if self.bias is None else self.bias.repeat(4)
        return shuffled(_convolved(x.float(), origin, self.needs(start, stop), weight, bias, 1, 1))


def in_bands(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Three layers; the outer two are Rows, that between them acts on each position for itself. x: (1, C, H, W)."""
    first, between, second = cast("tuple[Rows, nn.Module, Rows]", tuple(layers))
    height, width = first.size(x.shape[2]), first.size(x.shape[3])
    total = second.size(height)
    step = max(2, _BAND * total // (height * width * first.out_channels))
    bands = []
    for start in range(0, total, step):
        stop = min(start + step, total)
        low, high = second.needs(start, stop)
        low, high = max(0, low), min(height, high)
        bands.append(second.rows(between(first.rows(x, 0, low, high)), low, start, stop))
    return torch.cat(bands, dim=2)


def _convolved(
    x: Tensor, origin: int, needs: tuple[int, int], weight: Tensor, bias: Tensor | None, stride: int, padding: int
) -> Tensor:
    """What follows from the rows `needs` of a picture, of which x holds those from `origin` on; what it lacks is zero.

    The convolution itself adds the zeros, above and below, and what is too much is cut off: to add them beforehand
    would copy x. padding: what is lacking above, a multiple of stride, or nothing is; at least what is lacking below.
    """
    low, high = needs
    above, below = low < origin, high > origin + x.shape[2]
    x = x[:, :, max(0, low - origin) : high - origin]
    out = functional.conv2d(x, weight, bias, stride, (padding if above or below else 0, padding))
    first = padding // stride if below and not above else 0
    return out[:, :, first : first + (high - low - weight.shape[2]) // stride + 1]
