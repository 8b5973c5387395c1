"""What is coded for a picture, and where its symbols come from: an encoder rounds them, a decoder decodes them."""

from __future__ import annotations

import itertools
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from twcodec.exact.walk import bands

if TYPE_CHECKING:
    from torch import Tensor

    from twcodec.exact.coder import TableCoder
    from twcodec.exact.rounding import Rounding
    from twcodec.exact.walk import Part, Walked


@dataclass(frozen=True)
class Symbols:
    """What is coded for one picture or branch.

    y: (M, h, w) int16, z: (N, ceil(h / 4), ceil(w / 4)) int32; with a factorised prior y is empty, (0, h, w), and z
    is on y's grid. levels: (M, h, w) uint8, the table of each y symbol. y_hat: (M, h, w) float32, the latent that the
    decoder will have. What is (M, h, w) lies in memory channels last. z_first: the table of z's first channel.
    """

    y: Tensor
    z: Tensor
    levels: Tensor
    y_hat: Tensor
    z_first: int = 0


def symbols_crc(symbols: Symbols) -> int:
    """CRC-32 of all symbols, z then y, in (channel, row, column) order, as big-endian 16-bit integers."""
    crc = 0
    for channel in itertools.chain(symbols.z, symbols.y):
        crc = zlib.crc32(channel.cpu().numpy().astype(">i2").tobytes(), crc)
    return crc


class Source(ABC):
    """Where the symbols of y come from, step by step. Levels are uint8, means float32."""

    @abstractmethod
    def fill(self, walked: Walked, part: Part, gain: float = 1.0) -> None:
        """Find the symbols of a part of y, given levels and means. gain: what y and means are multiplied by."""

    @abstractmethod
    def at(self, levels: Tensor, means: Tensor, positions: Tensor) -> Tensor:
        """Symbols, float32, of some positions in all channels: levels, means (n, M); positions (n,), r w + q."""


class Rounded(Source):
    """An encoder's: y - mean, rounded."""

    def __init__(self, y: Tensor, rounding: Rounding) -> None:
        """y: (M, h, w)."""
        self._y, self._round = y.permute(1, 2, 0).contiguous(), rounding

    def fill(self, walked: Walked, part: Part, gain: float = 1.0) -> None:
        """See `Source`. Here all of y is rounded: what a later step holds, that step rounds once more."""
        for band in bands(self._y):
            y, means = self._y[band], walked.means[band]
            residual = y - means if gain == 1 else y * gain - means * gain
            walked.y[band] = self._round(residual, walked.levels[band]).short()

    def at(self, levels: Tensor, means: Tensor, positions: Tensor) -> Tensor:
        """See `Source`."""
        return self._round(self._y.flatten(0, 1).index_select(0, positions) - means, levels)


class Decoded(Source):
    """A decoder's: the next symbols of the stream."""

    def __init__(self, coder: TableCoder, decoder: Any) -> None:
        self._coder, self._decoder = coder, decoder

    def fill(self, walked: Walked, part: Part, gain: float = 1.0) -> None:
        """See `Source`."""
        found = self._coder.decode(self._decoder, part.take(walked.levels.cpu().numpy()))
        if walked.y.is_cpu:
            part.put(walked.y.numpy(), found)
            return
        y = walked.y.cpu()
        part.put(y.numpy(), found)
        walked.y.copy_(y)

    def at(self, levels: Tensor, means: Tensor, positions: Tensor) -> Tensor:
        """See `Source`."""
        decoded = self._coder.decode(self._decoder, levels.cpu().numpy().ravel())
        return torch.from_numpy(decoded).to(levels.device, torch.float32).view(levels.shape)
