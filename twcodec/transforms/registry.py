"""The transforms by the id that a file holds, and how a seed becomes their parameters (formats/twc-1.md, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from twcodec.errors import UnsupportedError, UsageError
from twcodec.transforms.placement import TRANSPOSE, Placement
from twcodec.transforms.splitmix import SplitMix64

if TYPE_CHECKING:
    from torch import Tensor

GRID = 16
"""Shifts stay below this: a shift by a multiple of it would leave the latents of the interior as they are."""


class Draw(Protocol):
    """One member of a transform's set, ready to be applied. Members that compare equal do the same."""

    def size(self, height: int, width: int) -> tuple[int, int]: ...  # noqa: D102
    def apply(self, x: Tensor) -> Tensor: ...  # noqa: D102
    def undo(self, x: Tensor) -> Tensor: ...  # noqa: D102
    def part(self, rows: slice, columns: slice, height: int, width: int) -> tuple[slice, slice]: ...  # noqa: D102
    def undo_part(self, x: Tensor) -> Tensor: ...  # noqa: D102
    def describe(self) -> dict[str, int | bool]: ...  # noqa: D102


IDENTITY: Draw = Placement()


@dataclass(frozen=True)
class Transform:
    """A named set of invertible transforms. id: 1 .. 255, what the file holds. draw: (generator, H, W) -> member."""

    id: int
    name: str
    draw: Callable[[SplitMix64, int, int], Draw]
    summary: str

    def from_seed(self, seed: int, height: int, width: int) -> Draw:
        """The member that the file's 32-bit seed stands for, for a picture of height x width pixels."""
        return self.draw(SplitMix64(self.id << 32 | seed), height, width)


def _turn(rng: SplitMix64) -> int:
    return 1 + rng.below(7)


def _shift(rng: SplitMix64) -> tuple[int, int]:
    return divmod(1 + rng.below(GRID * GRID - 1), GRID)


def _flip_turn(rng: SplitMix64, _height: int, _width: int) -> Draw:
    return Placement(_turn(rng))


def _grid_shift(rng: SplitMix64, _height: int, _width: int) -> Draw:
    return Placement(0, *_shift(rng))


def _flip_turn_shift(rng: SplitMix64, _height: int, _width: int) -> Draw:
    return Placement(_turn(rng), *_shift(rng))


def _flip_turn_slack(rng: SplitMix64, height: int, width: int) -> Draw:
    turn = _turn(rng)
    if turn & TRANSPOSE:
        height, width = width, height
    slack_y, slack_x = -height % GRID, -width % GRID
    return Placement(turn, *divmod(rng.below((slack_y + 1) * (slack_x + 1)), slack_x + 1))


FLIP_TURN = Transform(1, "flip-turn", _flip_turn, "one of the 7 flips and quarter turns")
GRID_SHIFT = Transform(2, "grid-shift", _grid_shift, "a shift of up to 15 pixels down and right, margins reflected")
FLIP_TURN_SHIFT = Transform(3, "flip-turn-shift", _flip_turn_shift, "flip-turn, then grid-shift")
FLIP_TURN_SLACK = Transform(
    4, "flip-turn-slack", _flip_turn_slack, "flip-turn, then a shift within the padding that the picture needs anyway"
)

_ALL = (FLIP_TURN, GRID_SHIFT, FLIP_TURN_SHIFT, FLIP_TURN_SLACK)
BY_ID = {transform.id: transform for transform in _ALL}
BY_NAME = {transform.name: transform for transform in _ALL}

SHIFT_IS_CHEAP_FROM = 4096
"""Pixels a side: from here the extra row and column of latents that a shift needs are under 0.4 % each."""


def default_set(height: int, width: int) -> tuple[Transform, ...]:
    """What to draw from when nothing was asked for: flips and turns, with a shift where it is nearly free.

    A shift within the padding takes no more latents either, but costs bits, and defends no better: benchmarks/slack.py.
    """
    large = min(height, width) >= SHIFT_IS_CHEAP_FROM
    return (FLIP_TURN_SHIFT,) if large else (FLIP_TURN,)


def by_name(name: str) -> Transform:
    """The transform that the command line calls `name`. UsageError: there is none."""
    if name not in BY_NAME:
        raise UsageError(f"unknown transform {name!r}; there are: {', '.join(BY_NAME)}")
    return BY_NAME[name]


def by_id(number: int) -> Transform:
    """The transform with this id in a file. UnsupportedError: a later version's."""
    if number not in BY_ID:
        raise UnsupportedError(f"needs transform {number}, this twc knows {sorted(BY_ID)}; decode it with a later twc")
    return BY_ID[number]
