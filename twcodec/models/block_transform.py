"""The float transforms of the block families: a bank at 1/16 resolution, residual blocks, gains for each quality.

All sizes come from the shapes of the model file's tensors: the bank's kernel (16, or more where it laps over its
neighbours), channels, hidden channels, the number of blocks, the filter's width.

Everything is channels last, in which oneDNN is two to ten times faster. In bfloat16 the sums stay float32, that to
which the residual blocks add and that of the pixels, but for what a block laps over those above and below it; and
pixels are centred before they are rounded to it: those that have 8 bits are then whole numbers that it has.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from twcodec.errors import UnsupportedError
from twcodec.exact.tiles import as_it_is, tiled, tiled_in_place
from twcodec.models.footprint import TILE, Footprint, of_blocks
from twcodec.models.subpixel import places, shuffled

if TYPE_CHECKING:
    from torch import Tensor

    from twcodec.exact.hyperprior import Hyperprior, Network
    from twcodec.exact.tiles import Windows
    from twcodec.models.file import ModelFile

BLOCK = 16
MOST_BLOCKS = 64
Layout = dict[str, tuple[tuple[int | None, ...], str]]
"""Shape and dtype of tensors in a model file; None is any size."""


class BlockTransform:
    """g_a, h_a and g_s. All of them take and return one picture, without a batch axis."""

    stride = BLOCK
    entropy: Hyperprior
    features = 0
    """Channels of what h_s gives, where all of it is held."""

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        """UnsupportedError: the file does not hold such transforms."""
        rows = file.tensor("gain.log", (None, None), "float32")
        self.n = file.tensor("medians", (None,), "int32").shape[0]
        self.m = rows.shape[1]
        if min(self.n, self.m) < 1 or len(rows) < 2:
            raise UnsupportedError("the model file has no channels, or fewer than two quality rows")
        self.depth = self._depth(file)
        found = {name: file.tensor(name, *wanted) for name, wanted in self._layout(file).items()}
        if len(found["gain.log"]) != len(found["gain.log_inverse"]):
            raise UnsupportedError("the model file's gains do not match")
        damaged = [name for name, value in found.items() if not np.isfinite(value).all()]
        if damaged:
            raise UnsupportedError(f"the model file's {damaged[0]} holds what is no number; it is damaged")
        w = {name: torch.from_numpy(value.astype("float32")).to(device) for name, value in found.items()}
        self._log_gain, self._log_inverse = w.pop("gain.log"), w.pop("gain.log_inverse")
        self.lap = (w["g_s.bank.weight"].shape[-1] - BLOCK) // 2
        self._weights = {torch.float32: _prepared(w)}

    def _depth(self, file: ModelFile) -> dict[str, int]:
        """Residual blocks on each side."""
        return {side: _count(file, side) for side in ("g_a", "g_s")}

    def _layout(self, file: ModelFile) -> Layout:
        """The tensors that the file must hold."""
        kernel = file.tensor("g_s.bank.weight", (None, 3, None, None), "float32").shape[-1]
        if kernel % 2 or not BLOCK <= kernel <= 3 * BLOCK:
            raise UnsupportedError(f"the model file's bank has a kernel of {kernel}; {BLOCK} to {3 * BLOCK} is known")
        hidden = file.tensor("g_s.blocks.0.expand.bias", (None,), "float32").shape[0]
        width = file.tensor("g_s.filter.0.bias", (None,), "float32").shape[0]
        if min(hidden, width) < 1:
            raise UnsupportedError("the model file's blocks or filter have no channels inside")
        return layout(self.n, self.m, kernel, hidden, width, self.depth)

    @property
    def rows(self) -> int:
        """Quality rows: quality runs from 1 to this."""
        return len(self._log_gain)

    @property
    def reach(self) -> int:
        """Latents on every side of a pixel's own on which it depends."""
        return 2 * self.depth["g_s"] + self._bank_reach

    @property
    def _bank_reach(self) -> int:
        """Of the bank and the filter behind it."""
        return 2 if self.lap else 1

    @property
    def footprint(self) -> Footprint:
        """What it takes of memory."""
        bank, width = (len(self._weights[torch.float32][f"g_s.{name}.bias"]) for name in ("bank", "filter.0"))
        serial, halo = self.entropy.side_by_side, self._bank_reach
        return Footprint(self.m, self.n, self.features, serial, True, True, halo, of_blocks(bank, width))

    def g_a(self, x: Windows, quality: float, dtype: torch.dtype = torch.float32, tile: int = TILE) -> Tensor:
        """x: (3, H, W) in 0 .. 1, H and W multiples of 16. Returns y: (M, H / 16, W / 16), scaled for `quality`.

        dtype: in which the residual blocks compute. tile: latents a side of the tiles.
        """
        y = tiled(partial(self._analysis_bank, dtype), x, BLOCK * tile, BLOCK if self.lap else 0, down=BLOCK)
        for i in range(self.depth["g_a"]):
            y = tiled_in_place(partial(self._block, f"g_a.blocks.{i}", dtype), y, tile, 2)
        return y.mul_(self.gain(quality))

    def at_quality(self, y: Tensor, before: float, after: float) -> Tensor:
        """What g_a gives at quality `after`, but for the last bits, from what it gave at `before`."""
        return y * (self.gain(after) / self.gain(before))

    def h_a(self, y: Tensor, dtype: torch.dtype = torch.float32, tile: int = TILE) -> Tensor:
        """y: (M, h, w) to z: (N, ceil(h / 4), ceil(w / 4)). dtype: in which the layers compute. tile: as in g_a."""
        return tiled(partial(self._hyper_analysis, dtype), y, tile, 8, down=4)

    def _hyper_analysis(self, dtype: torch.dtype, y: Tensor) -> Tensor:
        z = functional.leaky_relu_(self._conv(_last(y, dtype), "h_a.0", padding=1), 0.01)
        z = functional.leaky_relu_(self._conv(z, "h_a.1", stride=2, padding=2), 0.01)
        return self._conv(z, "h_a.2", stride=2, padding=2)[0].float()

    def g_s(
        self,
        y_hat: Tensor,
        quality: float,
        dtype: torch.dtype = torch.float32,
        finish: Network = as_it_is,
        tile: int = TILE,
    ) -> Tensor:
        """y_hat: (M, h, w) to x_hat: (3, 16 h, 16 w), not clipped. dtype: in which the layers compute.

        finish: what is done with x_hat, tile by tile, before it is put together. tile: as in g_a.
        """
        h = y_hat * self.inverse_gain(quality)
        for i in range(self.depth["g_s"]):
            h = tiled_in_place(partial(self._block, f"g_s.blocks.{i}", dtype), h, tile, 2)
        pixels = partial(self._synthesis_bank, dtype)
        return tiled(lambda part: finish(pixels(part)), h, tile, self._bank_reach, up=BLOCK)

    def _analysis_bank(self, dtype: torch.dtype, x: Tensor) -> Tensor:
        """(3, 16 h, 16 w) to (M, h, w); the picture's edges are repeated where the bank reaches over them."""
        x = functional.pad(x[None].mul(255).sub_(128), [self.lap] * 4, mode="replicate")
        return self._conv(_last(x[0], dtype), "g_a.bank", stride=BLOCK)[0].float()

    def _synthesis_bank(self, dtype: torch.dtype, h: Tensor) -> Tensor:
        """(M, h, w) to (3, 16 h, 16 w), with the residual filter, which reaches 6 pixels."""
        x = _lapped(self._conv(_last(h, dtype), "g_s.bank"))  # (1, 12, 8 h, 8 w), less 0.5
        f = functional.pad(x.to(dtype), [1] * 4, value=-0.5)
        f = functional.leaky_relu_(self._conv(f, "g_s.filter.0"), 0.1)
        f = functional.leaky_relu_(self._conv(f, "g_s.filter.1", padding=1), 0.1)
        return shuffled(x.add_(self._conv(f, "g_s.filter.2", padding=1)).add_(0.5))[0]

    def _conv(self, x: Tensor, name: str, **how: int) -> Tensor:
        """The layer in the type of x, channels last: (1, C, h, w)."""
        weights = self._in(x.dtype)
        return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **how)

    def _in(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The weights in a type, made when they are first asked for; threads that ask at once make the same ones."""
        if dtype not in self._weights:
            self._weights[dtype] = {name: value.to(dtype) for name, value in self._weights[torch.float32].items()}
        return self._weights[dtype]

    def _block(self, name: str, dtype: torch.dtype, x: Tensor) -> Tensor:
        h = self._conv(_last(x, dtype), f"{name}.depthwise", padding=2, groups=x.shape[0])
        h = functional.leaky_relu_(self._conv(h, f"{name}.expand"), 0.1)
        return x + self._conv(h, f"{name}.project")[0]

    @property
    def weights(self) -> dict[str, Tensor]:
        """What the layers compute with, in float32: see `_prepared`."""
        return self._weights[torch.float32]

    def gain(self, quality: float) -> Tensor:
        """(M, 1, 1): what y is multiplied by before it is rounded."""
        return self._gain(self._log_gain, quality)

    def inverse_gain(self, quality: float) -> Tensor:
        """(M, 1, 1): what y_hat is multiplied by before synthesis."""
        return self._gain(self._log_inverse, quality)

    def _gain(self, log_rows: Tensor, quality: float) -> Tensor:
        """(M, 1, 1): the gain at `quality`, 1 .. rows, between rows by interpolating the logarithms."""
        low = min(int(quality), self.rows - 1)
        log = torch.lerp(log_rows[low - 1], log_rows[low], quality - low)
        return log.exp()[:, None, None]


def _last(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(C, h, w) to (1, C, h, w), channels last."""
    return x[None].to(dtype, memory_format=torch.channels_last)


def _prepared(w: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights as the layers here want them. Those that take pixels are made to take centred ones.

    The synthesis works on pixels two by two: 12 channels (row, column, colour) at half resolution. Its bank is a 1x1
    convolution to the K x K x 12 values of a block; as a transposed convolution it is six times slower. Its bias goes
    to the 16 x 16 pixels in the middle, which are no other block's.
    """
    bank = w["g_s.bank.weight"]
    bank = functional.pad(bank, [bank.shape[-1] // 2 % 2] * 4)  # laps of whole pairs
    m, _, kernel, _ = bank.shape
    bank = bank.view(m, 3, kernel // 2, 2, kernel // 2, 2).permute(2, 4, 3, 5, 1, 0)
    bias, lap = bank.new_zeros(bank.shape[:-1]), (kernel - BLOCK) // 4
    bias[lap : lap + BLOCK // 2, lap : lap + BLOCK // 2] = w["g_s.bank.bias"]
    first, last, order = w["g_s.filter.0.weight"], w["g_s.filter.2.weight"], places(3).to(bank.device)
    analysis = w["g_a.bank.weight"]
    w |= {
        "g_a.bank.weight": analysis / 255,
        "g_a.bank.bias": w["g_a.bank.bias"] + analysis.sum((1, 2, 3)) * (0.5 / 255),
        "g_s.filter.0.bias": w["g_s.filter.0.bias"] + 0.5 * first.sum((1, 2, 3)),
        "g_s.bank.weight": bank.reshape(-1, m, 1, 1),
        "g_s.bank.bias": bias.flatten(),
        "g_s.filter.0.weight": first[:, order],
        "g_s.filter.2.weight": last[order],
        "g_s.filter.2.bias": w["g_s.filter.2.bias"][order],
    }
    return {k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in w.items()}


def _lapped(blocks: Tensor) -> Tensor:
    """Blocks of K x K pairs of pixels, 8 apart, added up: (1, 12 K K, h, w) to float32 (1, 12, 8 h, 8 w).

    Rows first, then columns.
    """
    side = BLOCK // 2
    _, channels, h, w = blocks.shape
    kernel = math.isqrt(channels // 12)
    lap, end = (kernel - side) // 2, (kernel + side) // 2
    b = blocks[0].permute(1, 2, 0).view(h, w, kernel, kernel, 12)
    b[1:, :, lap : 2 * lap] += b[:-1, :, end:]
    b[:-1, :, side:end] += b[1:, :, :lap]
    b = b[:, :, lap:end].permute(0, 2, 1, 3, 4)  # (h, 8, w, K, 12)
    x = b[:, :, :, lap:end].to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    x[:, :, 1:, :lap] += b[:, :, :-1, end:]
    x[:, :, :-1, side - lap :] += b[:, :, 1:, :lap]
    return x.view(1, side * h, side * w, 12).permute(0, 3, 1, 2)


def _count(file: ModelFile, side: str) -> int:
    """The number of residual blocks on one side."""
    count = file.count(side + ".blocks.{}.depthwise.weight")
    if not 1 <= count <= MOST_BLOCKS:
        raise UnsupportedError(f"the model file has {count} blocks in {side}; 1 to {MOST_BLOCKS} are known")
    return count


def layout(n: int, m: int, kernel: int, hidden: int, width: int, depth: dict[str, int]) -> Layout:
    """Every float tensor of the transforms: fp16, but for biases, the two banks and the gains.

    n, m: channels of z and y. kernel: of the banks. hidden: channels inside a block. width: channels of the filter.
    """
    out: Layout = {"gain.log": ((None, m), "float32"), "gain.log_inverse": ((None, m), "float32")}

    def conv(name: str, shape: tuple[int, ...], outputs: int, dtype: str = "float16") -> None:
        out[f"{name}.weight"] = (shape, dtype)
        out[f"{name}.bias"] = ((outputs,), "float32")

    conv("g_a.bank", (m, 3, kernel, kernel), m, "float32")
    conv("g_s.bank", (m, 3, kernel, kernel), 3, "float32")
    for side, blocks in depth.items():
        for i in range(blocks):
            conv(f"{side}.blocks.{i}.depthwise", (m, 1, 5, 5), m)
            conv(f"{side}.blocks.{i}.expand", (hidden, m, 1, 1), hidden)
            conv(f"{side}.blocks.{i}.project", (m, hidden, 1, 1), m)
    for i, (outputs, inputs) in enumerate(((width, 12), (width, width), (12, width))):
        conv(f"g_s.filter.{i}", (outputs, inputs, 3, 3), outputs)
    for i, (inputs, side_) in enumerate(((m, 3), (n, 5), (n, 5))):
        conv(f"h_a.{i}", (n, inputs, side_, side_), n)
    return out
