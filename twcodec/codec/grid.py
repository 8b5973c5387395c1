"""Pictures <-> the tensors that the networks take: scaled to 0 .. 1, three channels, padded to the latent grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.models.model import Model
    from twcodec.transforms import Draw


def to_samples(samples: NDArray[np.uint8] | NDArray[np.uint16], device: torch.device) -> Tensor:
    """(H, W, C) integers to (C, H, W) of the same values, uint8 or int32."""
    wide = samples.astype(np.int32) if samples.dtype == np.uint16 else np.array(samples)  # torch wants it writable
    return torch.from_numpy(wide).to(device).permute(2, 0, 1)


def to_array(samples: Tensor, depth: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The inverse of `to_samples`: (C, H, W) to (H, W, C)."""
    array = samples.permute(1, 2, 0).contiguous().cpu().numpy()
    return array.astype(np.uint16) if depth == 16 else array.astype(np.uint8)


def to_input(samples: Tensor, levels: int, draw: Draw, stride: int) -> Tensor:
    """Transform, scale to 0 .. 1, make three channels, and pad right and bottom by replication to the grid.

    samples: (C, H, W) integers in 0 .. levels. Returns (3, H', W'), multiples of stride.
    """
    x = draw.apply(samples).float().div_(levels).expand(3, -1, -1)
    rows, columns = -x.shape[-2] % stride, -x.shape[-1] % stride
    return functional.pad(x[None], (0, columns, 0, rows), mode="replicate")[0] if rows or columns else x


def latent_size(draw: Draw, height: int, width: int, stride: int) -> tuple[int, int]:
    """Rows and columns of y for a picture of height x width pixels under a transform."""
    size = draw.size(height, width)
    return -(-size[0] // stride), -(-size[1] // stride)


def reconstruct(
    model: Model, y_hat: Tensor, quality: float, draw: Draw, shape: tuple[int, int, int], levels: int
) -> Tensor:
    """What the decoder gives back: synthesise, crop, invert the transform, clip, round.

    y_hat: (M, h, w). shape: (C, H, W) of the picture. Returns (C, H, W) integers in 0 .. levels, as float32.
    """
    channels, height, width = shape
    rows, columns = draw.size(height, width)
    x = draw.undo(model.family.g_s(y_hat, quality)[:, :rows, :columns])
    if channels == 1:
        x = x.mean(0, keepdim=True)
    return x.nan_to_num_(0).clamp_(0, 1).mul_(levels).round_()
