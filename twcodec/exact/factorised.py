"""A factorised prior on integers (Ballé et al. 2018, appendix 6.1): a table for each channel, no network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from twcodec.exact.arithmetic import ONE
from twcodec.exact.hyperprior import Hyperprior
from twcodec.exact.tables import SYMBOL_LIMIT, TOTAL, Tables
from twcodec.exact.walk import Walked

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.exact.symbols import Symbols
    from twcodec.exact.walk import Lane


class Factorised(Hyperprior):
    """The latent takes the place of z: each channel's symbols lie around its median. There is no y besides."""

    stride = 1
    z_limit = SYMBOL_LIMIT  # no layer reads what is decoded

    def __init__(self, tables: Tables, medians: NDArray[np.int32], device: torch.device) -> None:
        """tables: one a channel. medians: (M,). UnsupportedError: as `Hyperprior`."""
        unused = Tables.pack([(0, np.array([TOTAL - 1, 1], np.uint16))])
        super().__init__(unused, tables, np.zeros(0, np.int32), medians, 0.0, device)

    def _walk(self, lane: Lane) -> Walked:
        return Walked(lane.height, lane.width, 0, lane.z_hat.device)

    def _symbols(self, z: Tensor, quality: float, walked: Walked) -> Symbols:
        nothing = super()._symbols(z, quality, walked)
        return replace(nothing, y_hat=self._z_hat(z, quality).permute(2, 0, 1).float().div_(ONE))
