"""Local networks tile by tile: the same result as on the whole picture, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def tiled(
    network: Callable[..., Tensor], x: Tensor | tuple[Tensor, ...], side: int, halo: int, up: int = 1, down: int = 1
) -> Tensor:
    """network(x), computed on tiles of side x side positions that see `halo` more on every side.

    x: (C, H, W), or several of one height and width, for a network that takes several. network: local, with zero
    padding at its borders, from (C, h, w) to (O, h up / down, w up / down); `halo` is at least its reach in positions
    of x. side and halo are multiples of down. Integers come out identical, floats but for the last bits that a library
    may change with the size.
    """
    inputs = x if isinstance(x, tuple) else (x,)
    height, width = inputs[0].shape[-2:]
    if height <= side and width <= side:
        return network(*inputs)
    whole: Tensor | None = None
    for rows, seen_rows in _spans(height, side, halo):
        for columns, seen_columns in _spans(width, side, halo):
            out = network(*(part[:, seen_rows, seen_columns] for part in inputs))
            if whole is None:
                whole = out.new_empty((out.shape[0], height * up // down, width * up // down))
            inner = out[:, _scaled(rows, seen_rows.start, up, down), _scaled(columns, seen_columns.start, up, down)]
            whole[:, _scaled(rows, 0, up, down), _scaled(columns, 0, up, down)] = inner
    return torch.empty(0) if whole is None else whole


def _spans(size: int, side: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """The positions of each tile along one axis, and the positions it sees."""
    for start in range(0, size, side):
        stop = min(start + side, size)
        yield slice(start, stop), slice(max(0, start - halo), min(size, stop + halo))


def _scaled(span: slice, origin: int, up: int, down: int) -> slice:
    return slice((span.start - origin) * up // down, (span.stop - origin) * up // down)
