"""What a family takes of memory: numbers a position of y for a whole picture, and bytes for a tile.

What is measured here was measured as resident size with `codec/allocator.py`'s settings, which keep what is freed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TILE = 64
"""Latents a side of the tiles on which large pictures are computed: 1024 x 1024 pixels."""

Working = Callable[[int, int], tuple[int, int]]
"""Bytes that g_a or g_s takes for a tile: (latents that it sees, bytes of a number) -> bytes where the picture is one
tile, and where it is many: malloc fits a next one's pieces badly between earlier ones. Bytes of a number are 6 where
networks run in bfloat16 and then in float32."""

_MANY = 9
"""Tiles from which on it is the latter; fewer lie between."""

_MB = 1_000_000
_KEPT = 64 << 20
"""malloc keeps freed pieces that are smaller, and fits new ones between them badly."""


@dataclass(frozen=True)
class Footprint:
    """m, n: channels of y and z. features: of what h_s gives, where all of it is held, or 0.

    serial: y has a serial context. hyper: there is a y beside z. in_place: g_s changes a copy of y_hat, band by band.
    halo: latents that a tile of g_s sees on every side.
    """

    m: int
    n: int
    features: int
    serial: bool
    hyper: bool
    in_place: bool
    halo: int
    working: Working

    def tile(self, tile: int, height: int, width: int, itemsize: int) -> int:
        """Bytes for a tile of a picture of height x width latents."""
        rows, columns = (min(size, tile + 2 * self.halo) for size in (height, width))
        one, many = self.working(rows * columns, itemsize)
        further = (min(_MANY, max(1, height * width / tile**2)) - 1) / (_MANY - 1)
        band = 4 * self.m * (rows + self.halo) * width if self.in_place and max(height, width) > tile else 0
        return band + int(one + (many - one) * further)


def of_blocks(bank: int, width: int) -> Working:
    """Of a bank that gives `bank` numbers a latent, and of a filter of so many channels at half of the resolution.

    The bank's sums lie there next to the pixels three times and the filter's channels four times.
    """
    numbers = bank + 64 * (3 * 12 + 4 * width)

    def working(seen: int, itemsize: int) -> tuple[int, int]:
        many = 8 * _MB + seen * numbers * (itemsize + 4) // 2  # sums stay float32
        return many // 2, many

    return working


def of_bands(n: int) -> Working:
    """Of Ballé et al. 2018: bands at half of the resolution, a fixed size, and the next layer's n x 4 x 4 numbers."""
    return lambda seen, itemsize: (20 * _MB + seen * 17 * n * itemsize, 60 * _MB + seen * 48 * n * itemsize)


def of_whole(n: int) -> Working:
    """Of Cheng et al. 2020: several of the largest layer's n x 8 x 8 numbers a latent."""

    def working(seen: int, itemsize: int) -> tuple[int, int]:
        layers = [seen * 64 * n * size for size in ((2, 4) if itemsize > 4 else (itemsize,))]
        many = sum(size * 8 if size < _KEPT else size * 5 for size in layers)
        return 15 * _MB + sum(layers) * 3, 30 * _MB + many

    return working
