"""Sub-pixels: channels that become the pixels of a square of two by two.

torch's pixel_shuffle wants channels in the order (channel, row, column): channels last, it moves single numbers. Here
the order is (row, column, channel): what moves is contiguous.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def places(channels: int) -> Tensor:
    """Where pixel_shuffle has the channels (row, column, channel), 4 x channels of them."""
    return torch.arange(4 * channels).view(channels, 4).t().flatten()


def shuffled(x: Tensor) -> Tensor:
    """(1, 4 C, h, w) to (1, C, 2 h, 2 w), both channels last."""
    channels, h, w = x.shape[1] // 4, *x.shape[2:]
    x = x.permute(0, 2, 3, 1).reshape(h, w, 2, 2, channels).transpose(1, 2)
    return x.reshape(1, 2 * h, 2 * w, channels).permute(0, 3, 1, 2)
