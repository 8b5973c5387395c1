"""What is coded for a picture, and where its symbols come from: an encoder rounds them, a decoder decodes them."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from twcodec.exact.coder import TableCoder
    from twcodec.exact.rounding import Rounding


@dataclass(frozen=True)
class Symbols:
    """What is coded for one picture or branch.

    y: (M, h, w), z: (N, ceil(h / 4), ceil(w / 4)), both int32; with a factorised prior y is empty, (0, h, w), and z
    is on y's grid. levels: (M, h, w) uint8, the table of each y symbol. y_hat: (M, h, w) float32, the latent that the
    decoder will have. z_first: the table of z's first channel.
    """

    y: Tensor
    z: Tensor
    levels: Tensor
    y_hat: Tensor
    z_first: int = 0


def symbols_crc(symbols: Symbols) -> int:
    """CRC-32 of all symbols, z then y, in (channel, row, column) order, as big-endian 16-bit integers."""
    crc = 0
    for part in (symbols.z, symbols.y):
        crc = zlib.crc32(part.cpu().numpy().astype(">i2").tobytes(), crc)
    return crc


class Source(ABC):
    """Where the symbols of y come from, step by step. Levels are uint8, means float32; symbols float32."""

    @abstractmethod
    def everywhere(self, levels: Tensor, means: Tensor, part: Tensor | None = None) -> Tensor:
        """Symbols of all of y: levels, means (M, h, w). part: bool (M, h, w), which are meant; None: all.

        What is returned elsewhere does not matter.
        """

    @abstractmethod
    def at(self, levels: Tensor, means: Tensor, positions: Tensor) -> Tensor:
        """Symbols of some positions, in all channels: levels, means (n, M); positions (n,), r w + q."""


class Rounded(Source):
    """An encoder's: y - mean, rounded."""

    def __init__(self, y: Tensor, rounding: Rounding) -> None:
        self._y, self._round = y, rounding

    def everywhere(self, levels: Tensor, means: Tensor, part: Tensor | None = None) -> Tensor:
        """See `Source`; it rounds everywhere."""
        return self._round(self._y - means, levels)

    def at(self, levels: Tensor, means: Tensor, positions: Tensor) -> Tensor:
        """See `Source`."""
        return self._round(self._y.flatten(1).index_select(1, positions).t() - means, levels)


class Decoded(Source):
    """A decoder's: the next symbols of the stream."""

    def __init__(self, coder: TableCoder, decoder: Any) -> None:
        self._coder, self._decoder = coder, decoder

    def everywhere(self, levels: Tensor, means: Tensor, part: Tensor | None = None) -> Tensor:
        """See `Source`; 0 where `part` does not say."""
        where = torch.ones_like(levels, dtype=torch.bool) if part is None else part
        found = torch.zeros(levels.shape, dtype=torch.float32, device=levels.device)
        found[where] = self._next(levels[where])
        return found

    def at(self, levels: Tensor, means: Tensor, positions: Tensor) -> Tensor:
        """See `Source`."""
        return self._next(levels.reshape(-1)).view(levels.shape)

    def _next(self, levels: Tensor) -> Tensor:
        decoded = self._coder.decode(self._decoder, levels.cpu().numpy())
        return torch.from_numpy(decoded).to(levels.device, torch.float32)
