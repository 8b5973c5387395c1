"""Pictures <-> the tensors that the networks take: scaled to 0 .. 1, three channels, padded to the latent grid."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from twcodec.models.footprint import TILE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.models.model import Model
    from twcodec.transforms import Draw


def to_samples(samples: NDArray[np.uint8] | NDArray[np.uint16], device: torch.device) -> Tensor:
    """(H, W, C) integers to (C, H, W) of the same values, uint8 or int32. Bytes stay where they are, where they may."""
    wide = samples.astype(np.int32) if samples.dtype == np.uint16 else samples
    wide = np.require(wide, requirements=("W", "C"))  # torch wants it writable, and no negative steps
    return torch.from_numpy(wide).to(device).permute(2, 0, 1)


def to_array(samples: Tensor, depth: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The inverse of `to_samples`: (C, H, W) to (H, W, C)."""
    array = samples.permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(array, np.uint16) if depth == 16 else np.ascontiguousarray(array, np.uint8)


class Input:
    """A picture as the networks take it: (3, H', W') floats in 0 .. 1, made window by window when they are asked for.

    It is transformed, has three channels, and is padded right and bottom by replication to the grid.
    """

    def __init__(self, samples: Tensor, levels: int, draw: Draw, stride: int) -> None:
        """samples: (C, H, W) integers in 0 .. levels. H' and W' are multiples of stride."""
        self._samples, self._levels = draw.apply(samples), levels
        rows, columns = (-(-n // stride) * stride for n in self._samples.shape[-2:])
        self.shape = (3, rows, columns)

    def __getitem__(self, window: tuple[slice, slice, slice]) -> Tensor:
        """All channels of some rows and columns, which begin inside the picture."""
        _, rows, columns = window
        part = self._samples[:, rows, columns]
        x = part.float().div_(self._levels).expand(3, -1, -1)
        missing = [
            len(range(*at.indices(size))) - found
            for at, size, found in zip(window[1:], self.shape[1:], part.shape[1:], strict=True)
        ]
        return functional.pad(x[None], (0, missing[1], 0, missing[0]), mode="replicate")[0] if any(missing) else x


def latent_size(draw: Draw, height: int, width: int, stride: int) -> tuple[int, int]:
    """Rows and columns of y for a picture of height x width pixels under a transform."""
    size = draw.size(height, width)
    return -(-size[0] // stride), -(-size[1] // stride)


Window = tuple[slice, slice]
"""Rows and columns of a picture."""


def reconstruct(
    model: Model,
    y_hat: Tensor,
    quality: float,
    draw: Draw,
    shape: tuple[int, int, int],
    levels: int,
    dtype: torch.dtype = torch.float32,
    tile: int = TILE,
    window: Window | None = None,
) -> Tensor:
    """What the decoder gives back: synthesise, clip, round, crop, invert the transform.

    y_hat: (M, h, w). shape: (C, H, W) of the picture. dtype: in which the synthesis computes. tile: latents a side of
    the tiles on which it does. window: the part of the picture that is wanted; no more is synthesised than what it
    depends on. Returns (C, H, W), or what the window has of it, integers in 0 .. levels, uint8 or int32.
    """
    channels, height, width = shape
    finish = partial(_rounded, channels, levels)
    if window is None:
        rows, columns = draw.size(height, width)
        x = model.family.g_s(y_hat, quality, dtype, finish, tile)
        return draw.undo(x[:, :rows, :columns])
    family = model.family
    spans = draw.part(*window, height, width)
    near = [
        _latents(span, family.stride, family.reach, size) for span, size in zip(spans, y_hat.shape[1:], strict=True)
    ]
    x = family.g_s(y_hat[:, near[0], near[1]], quality, dtype, finish, tile)
    inner = [_from(span, family.stride * seen.start) for span, seen in zip(spans, near, strict=True)]
    return draw.undo_part(x[:, inner[0], inner[1]])


def _latents(span: slice, stride: int, reach: int, size: int) -> slice:
    """The latents on which some pixels depend, along one axis of `size`."""
    return slice(max(0, span.start // stride - reach), min(size, -(-span.stop // stride) + reach))


def _from(span: slice, origin: int) -> slice:
    return slice(span.start - origin, span.stop - origin)


def _rounded(channels: int, levels: int, x: Tensor) -> Tensor:
    """(3, H, W) floats, of which 0 .. 1 is meant, to (C, H, W) integers."""
    if channels == 1:
        x = x.mean(0, keepdim=True)
    whole = x.nan_to_num(0).clamp_(0, 1).mul_(levels).round_()
    return whole.to(torch.uint8 if levels < 256 else torch.int32)
