"""Where a picture lies on the coding grid: one of its eight flips and turns, then a shift. Exactly invertible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TRANSPOSE, FLIP_ROWS, FLIP_COLUMNS = 4, 2, 1
"""The bits of `turn`, applied in this order."""


@dataclass(frozen=True)
class Placement:
    """A flip or quarter turn, then a move down by dy and right by dx pixels.

    turn: 0 .. 7, a sum of `TRANSPOSE`, `FLIP_ROWS` and `FLIP_COLUMNS`. 0 <= dy, dx < 16.
    """

    turn: int = 0
    dy: int = 0
    dx: int = 0

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what `apply` makes of a picture of height x width."""
        if self.turn & TRANSPOSE:
            height, width = width, height
        return height + self.dy, width + self.dx

    def apply(self, x: Tensor) -> Tensor:
        """Transform x: (..., H, W), any dtype. Returns (..., H', W') with (H', W') = `size(H, W)`."""
        return grid_shift(flip_turn(x, self.turn), self.dy, self.dx)

    def undo(self, x: Tensor) -> Tensor:
        """The inverse of `apply`, bit for bit. x: (..., H', W')."""
        return undo_flip_turn(crop_shift(x, self.dy, self.dx), self.turn)

    def part(self, rows: slice, columns: slice, height: int, width: int) -> tuple[slice, slice]:
        """Where `apply` puts a window of a picture of height x width: rows and columns of what it makes."""
        if self.turn & TRANSPOSE:
            rows, columns, height, width = columns, rows, width, height
        rows = _mirrored(rows, height) if self.turn & FLIP_ROWS else rows
        columns = _mirrored(columns, width) if self.turn & FLIP_COLUMNS else columns
        return _moved(rows, self.dy), _moved(columns, self.dx)

    def undo_part(self, x: Tensor) -> Tensor:
        """As `undo`, of a window that `part` gave. x: (..., h', w')."""
        return undo_flip_turn(x, self.turn)

    def describe(self) -> dict[str, int | bool]:
        """The parameters under readable names, for `twc info`."""
        return {
            "transpose": bool(self.turn & TRANSPOSE),
            "flip_rows": bool(self.turn & FLIP_ROWS),
            "flip_columns": bool(self.turn & FLIP_COLUMNS),
            "shift_down": self.dy,
            "shift_right": self.dx,
        }


def flip_turn(x: Tensor, turn: int) -> Tensor:
    """Transpose, then reverse the rows, then the columns, as the bits of `turn` say. x: (..., H, W)."""
    if turn & TRANSPOSE:
        x = x.transpose(-1, -2)
    dims = [dim for dim, bit in ((-2, FLIP_ROWS), (-1, FLIP_COLUMNS)) if turn & bit]
    return x.flip(dims) if dims else x


def undo_flip_turn(x: Tensor, turn: int) -> Tensor:
    """The inverse of `flip_turn`."""
    x = flip_turn(x, turn & ~TRANSPOSE)
    return x.transpose(-1, -2) if turn & TRANSPOSE else x


def grid_shift(x: Tensor, dy: int, dx: int) -> Tensor:
    """Move the picture down and right on the coding grid by reflecting its top and left margins.

    x: (..., H, W), any dtype and size: a margin larger than the picture reflects back and forth.
    Returns (..., H + dy, W + dx); `crop_shift` undoes it exactly.
    """
    if not dy and not dx:
        return x
    height, width = x.shape[-2:]
    out = x.new_empty((*x.shape[:-2], height + dy, width + dx))
    out[..., dy:, dx:] = x  # to select all of it by index takes ten times as long
    out[..., dy:, :dx] = x.index_select(-1, _reflected(width, dx, x))
    out[..., :dy, :] = out[..., dy:, :].index_select(-2, _reflected(height, dy, x))
    return out


def crop_shift(x: Tensor, dy: int, dx: int) -> Tensor:
    """The inverse of `grid_shift`."""
    return x[..., dy:, dx:]


def _mirrored(span: slice, size: int) -> slice:
    return slice(size - span.stop, size - span.start)


def _moved(span: slice, by: int) -> slice:
    return slice(span.start + by, span.stop + by)


def _reflected(size: int, shift: int, like: Tensor) -> Tensor:
    """Source index of each position -shift .. -1 under reflection without repeating the edge."""
    import torch

    period = max(2 * (size - 1), 1)
    at = torch.arange(-shift, 0, device=like.device).remainder(period)
    return torch.minimum(at, period - at).clamp_max_(size - 1)
