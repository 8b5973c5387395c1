"""Integers in the order of the text, (C, H, W), and as layers take and return them, (H, W, C)."""

from __future__ import annotations

import numpy as np
import torch


def channels_last(a: np.ndarray) -> torch.Tensor:
    """(C, H, W) integers to (H, W, C) int32."""
    return torch.from_numpy(np.ascontiguousarray(a.transpose(1, 2, 0), np.int32))


def channels_first(a: torch.Tensor) -> torch.Tensor:
    """(H, W, C) to (C, H, W)."""
    return a.permute(2, 0, 1)
