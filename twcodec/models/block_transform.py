"""The float transforms of the block families: a bank at 1/16 resolution, residual blocks, gains for each quality.

All sizes come from the shapes of the model file's tensors: the bank's kernel (16, or more where it laps over its
neighbours), channels, hidden channels, the number of blocks, the filter's width.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from twcodec.errors import UnsupportedError
from twcodec.exact.tiles import tiled

if TYPE_CHECKING:
    from torch import Tensor

    from twcodec.exact.hyperprior import Hyperprior
    from twcodec.models.file import ModelFile

BLOCK = 16
_TILE = 64
"""Latents a side of the tiles on which large pictures are computed: 1024 x 1024 pixels."""

MOST_BLOCKS = 64
Layout = dict[str, tuple[tuple[int | None, ...], str]]
"""Shape and dtype of tensors in a model file; None is any size."""


class BlockTransform:
    """g_a, h_a and g_s. All of them take and return one picture, without a batch axis."""

    stride = BLOCK
    entropy: Hyperprior

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
        self._w = {name: torch.from_numpy(value.astype("float32")).to(device) for name, value in found.items()}
        self._log_gain, self._log_inverse = self._w["gain.log"], self._w["gain.log_inverse"]
        self._lap = (self._w["g_s.bank.weight"].shape[-1] - BLOCK) // 2

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

    def g_a(self, x: Tensor, quality: float) -> Tensor:
        """x: (3, H, W) in 0 .. 1, H and W multiples of 16. Returns y: (M, H / 16, W / 16), scaled for `quality`."""
        y = tiled(self._analysis_bank, x, BLOCK * _TILE, BLOCK if self._lap else 0, down=BLOCK)
        for i in range(self.depth["g_a"]):
            y = tiled(partial(self._block, f"g_a.blocks.{i}"), y, _TILE, 2)
        return y * self._gain(self._log_gain, quality)

    def h_a(self, y: Tensor) -> Tensor:
        """y: (M, h, w) to z: (N, ceil(h / 4), ceil(w / 4))."""
        z = functional.leaky_relu(self._conv(y[None], "h_a.0", padding=1), 0.01)
        z = functional.leaky_relu(self._conv(z, "h_a.1", stride=2, padding=2), 0.01)
        return self._conv(z, "h_a.2", stride=2, padding=2)[0]

    def g_s(self, y_hat: Tensor, quality: float) -> Tensor:
        """y_hat: (M, h, w) to x_hat: (3, 16 h, 16 w), not clipped."""
        h = y_hat * self._gain(self._log_inverse, quality)
        for i in range(self.depth["g_s"]):
            h = tiled(partial(self._block, f"g_s.blocks.{i}"), h, _TILE, 2)
        return tiled(self._synthesis_bank, h, _TILE, 2 if self._lap else 1, up=BLOCK)

    def _analysis_bank(self, x: Tensor) -> Tensor:
        """(3, 16 h, 16 w) to (M, h, w); the picture's edges are repeated where the bank reaches over them."""
        x = x[None] - 0.5
        return self._conv(functional.pad(x, [self._lap] * 4, mode="replicate"), "g_a.bank", stride=BLOCK)[0]

    def _synthesis_bank(self, h: Tensor) -> Tensor:
        """(M, h, w) to (3, 16 h, 16 w), with the residual filter, which reaches 6 pixels."""
        rows, columns = h.shape[1:]
        kernel = BLOCK + 2 * self._lap
        blocks = self._w["g_s.bank.weight"].view(len(h), -1).t() @ h.reshape(len(h), -1)  # (3 kernel kernel, h w)
        if self._lap:
            size = (BLOCK * rows, BLOCK * columns)
            x = functional.fold(blocks[None], size, kernel, padding=self._lap, stride=BLOCK)[0]
        else:
            x = blocks.view(3, BLOCK, BLOCK, rows, columns).permute(0, 3, 1, 4, 2)
            x = x.reshape(3, BLOCK * rows, BLOCK * columns)
        x = (x + (self._w["g_s.bank.bias"] + 0.5)[:, None, None])[None]
        f = functional.leaky_relu_(self._conv(functional.pixel_unshuffle(x, 2), "g_s.filter.0", padding=1), 0.1)
        f = functional.leaky_relu_(self._conv(f, "g_s.filter.1", padding=1), 0.1)
        return (x + functional.pixel_shuffle(self._conv(f, "g_s.filter.2", padding=1), 2))[0]

    def _conv(self, x: Tensor, name: str, **how: int) -> Tensor:
        return functional.conv2d(x, self._w[f"{name}.weight"], self._w[f"{name}.bias"], **how)

    def _block(self, name: str, x: Tensor) -> Tensor:
        h = self._conv(x[None], f"{name}.depthwise", padding=2, groups=x.shape[0])
        h = functional.leaky_relu_(self._conv(h, f"{name}.expand"), 0.1)
        return x + self._conv(h, f"{name}.project")[0]

    def _gain(self, log_rows: Tensor, quality: float) -> Tensor:
        """(M, 1, 1): the gain at `quality`, 1 .. rows, between rows by interpolating the logarithms."""
        low = min(int(quality), self.rows - 1)
        log = torch.lerp(log_rows[low - 1], log_rows[low], quality - low)
        return log.exp()[:, None, None]


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
