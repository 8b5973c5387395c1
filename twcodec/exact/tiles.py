"""Local networks tile by tile: the same result as on the whole picture, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Windows(Protocol):
    """What gives windows of (C, H, W): a tensor, or what makes tensors of them when they are asked for."""

    @property
    def shape(self) -> Sequence[int]: ...  # noqa: D102
    def __getitem__(self, window: tuple[slice, slice, slice], /) -> Tensor: ...


def tiled(network: Callable[[Tensor], Tensor], x: Windows, side: int, halo: int, up: int = 1, down: int = 1) -> Tensor:
    """network(x), computed on tiles of side x side positions that see `halo` more on every side.

    x: (C, H, W). network: local, with zero padding at its borders, from (C, h, w) to (O, h up / down, w up / down),
    rounded up; `halo` is at least its reach in positions of x. side and halo are multiples of down. Integers come out
    identical, floats but for the last bits that a library may change with the size.
    """
    height, width = x.shape[-2:]
    if height <= side and width <= side:
        return network(x[:, :, :])
    whole: Tensor | None = None
    for rows, seen_rows in spans(height, side, halo):
        for columns, seen_columns in spans(width, side, halo):
            out = network(x[:, seen_rows, seen_columns])
            if whole is None:
                whole = _like(out, -(-height * up // down), -(-width * up // down))
            inner = out[:, _scaled(rows, seen_rows.start, up, down), _scaled(columns, seen_columns.start, up, down)]
            whole[:, _scaled(rows, 0, up, down), _scaled(columns, 0, up, down)] = inner
    assert whole is not None  # there is more than one tile
    return whole


def tiled_in_place(network: Callable[[Tensor], Tensor], x: Tensor, side: int, halo: int) -> Tensor:
    """As `tiled` for a network from (C, h, w) to the same, in the memory of x where that takes more than one tile."""
    height, width = x.shape[-2:]
    if height <= side and width <= side:
        return network(x)
    above = x[:, :0]
    for rows, seen_rows in spans(height, side, halo):
        band = _rows_together(above, x[:, rows.start : seen_rows.stop])  # as it was
        above = x[:, max(rows.start, rows.stop - halo) : rows.stop].clone()
        own = slice(rows.start - seen_rows.start, rows.stop - seen_rows.start)
        for columns, seen_columns in spans(width, side, halo):
            out = network(band[:, :, seen_columns])
            x[:, rows, columns] = out[:, own, _scaled(columns, seen_columns.start, 1, 1)]
    return x


def as_it_is(x: Tensor) -> Tensor:
    """The network that does nothing."""
    return x


def _like(out: Tensor, height: int, width: int) -> Tensor:
    """An empty (O, height, width) whose channels lie in memory as those of out do: last, or first."""
    if out.stride(0) == 1:
        return out.new_empty((height, width, out.shape[0])).permute(2, 0, 1)
    return out.new_empty((out.shape[0], height, width))


def _rows_together(above: Tensor, below: Tensor) -> Tensor:
    """(C, h, w) and (C, h', w), one below the other, channels last in memory."""
    return torch.cat([above.permute(1, 2, 0), below.permute(1, 2, 0)]).permute(2, 0, 1)


def spans(size: int, side: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """The positions of each tile along one axis, and the positions it sees."""
    for start in range(0, size, side):
        stop = min(start + side, size)
        yield slice(start, stop), slice(max(0, start - halo), min(size, stop + halo))


def _scaled(span: slice, origin: int, up: int, down: int) -> slice:
    return slice((span.start - origin) * up // down, -(-(span.stop - origin) * up // down))
