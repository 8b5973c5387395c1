"""Transforms that were tried and are in no format: gain, dither, resizing, flips tile by tile, and several in a row.

`register` adds them to the tables of this process, under ids from 200 up, and two-way and K-way defences that draw from
them. They are for pictures of 8 bits, and for attackers: floats in 0 .. 1 are rounded as integers are, and the gradient
passes straight through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from twcodec.codec.codec import Codec
from twcodec.codec.settings import Settings
from twcodec.robustness.defences import DEFENCES, Defence, Outcome, Pixels, encoded
from twcodec.transforms import registry
from twcodec.transforms.registry import Draw, Transform
from twcodec.transforms.splitmix import SplitMix64

MIDDLE = 128.0
GAINS = range(940, 1061)
"""Thousandths. 1000 itself is not drawn, nor what is within five of it."""
SIDES = range(950, 1051)
"""Thousandths of a side that a resized picture has."""
CELL = 16
"""Pixels a side of a latent: a smooth pattern of dither has one value of its own for each."""

Draws = Callable[[SplitMix64, int, int], Draw]


def whole(found: Tensor, like: Tensor) -> Tensor:
    """Levels, as floats, to what x was: 8-bit integers, or floats in 0 .. 1 whose gradient ignores the rounding."""
    rounded = found.detach().round().clamp(0, 255)
    if not like.is_floating_point():
        return rounded.to(like.dtype)
    return (found + (rounded - found.detach())) / 255


def levels(x: Tensor) -> Tensor:
    """Floats in 0 .. 255 of integers, or of floats in 0 .. 1."""
    return x * 255 if x.is_floating_point() else x.float()


class Tried:
    """What the transforms here have in common: files are always decoded whole."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def part(self, rows: slice, columns: slice, height: int, width: int) -> tuple[slice, slice]:
        raise NotImplementedError

    def undo_part(self, x: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Gain(Tried):
    """Contrast around the middle. thousandths: one gain for each channel. Undone within 0.5 + 0.5 / gain levels.

    That is where nothing was clipped; a gain over 1 clips what is near black and white.
    """

    thousandths: tuple[int, int, int]

    def apply(self, x: Tensor) -> Tensor:
        return whole(MIDDLE + self._gains(x) * (levels(x) - MIDDLE), x)

    def undo(self, x: Tensor) -> Tensor:
        return whole(MIDDLE + (levels(x) - MIDDLE) / self._gains(x), x)

    def describe(self) -> dict[str, int | bool]:
        return dict(zip(("red", "green", "blue"), self.thousandths, strict=True))

    def _gains(self, x: Tensor) -> Tensor:
        return torch.tensor(self.thousandths, device=x.device)[: x.shape[-3], None, None] / 1000


@dataclass(frozen=True)
class Dither(Tried):
    """A pattern of whole levels in -reach .. reach that is added before and subtracted after.

    smooth: one value for each 16 x 16 pixels with straight lines between, instead of one for each pixel. Undone exactly
    where nothing was clipped, and within `reach` levels where it was.
    """

    seed: int
    reach: int
    smooth: bool

    def apply(self, x: Tensor) -> Tensor:
        return whole(levels(x) + self._pattern(x), x)

    def undo(self, x: Tensor) -> Tensor:
        return whole(levels(x) - self._pattern(x), x)

    def describe(self) -> dict[str, int | bool]:
        return {"reach": self.reach, "smooth": self.smooth}

    def _pattern(self, x: Tensor) -> Tensor:
        channels, height, width = x.shape[-3:]
        generator = torch.Generator().manual_seed(self.seed)
        if not self.smooth:
            shape = channels, height, width
            return torch.randint(-self.reach, self.reach + 1, shape, generator=generator).to(x.device)
        coarse = torch.rand((1, channels, height // CELL + 2, width // CELL + 2), generator=generator) * 2 - 1
        fine = functional.interpolate(coarse, scale_factor=CELL, mode="bilinear")[0, :, :height, :width]
        return (self.reach * fine).round().to(x.device)


@dataclass(frozen=True)
class Resize(Tried):
    """Another size by bicubic interpolation, and back. Details finer than the smaller grid are lost."""

    source: tuple[int, int]
    coded: tuple[int, int]

    def size(self, height: int, width: int) -> tuple[int, int]:
        return self.coded

    def apply(self, x: Tensor) -> Tensor:
        return _resized(x, self.coded)

    def undo(self, x: Tensor) -> Tensor:
        return _resized(x, self.source)

    def describe(self) -> dict[str, int | bool]:
        return {"height": self.coded[0], "width": self.coded[1]}


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    batch = levels(x).reshape(-1, *x.shape[-3:])
    found = functional.interpolate(batch, size, mode="bicubic", antialias=True)
    return whole(found.reshape(*x.shape[:-2], *size), x)


@dataclass(frozen=True)
class Tiles(Tried):
    """Each tile of height x width pixels mirrored or not, by itself. Exactly undone: every flip is its own inverse.

    width 0: strips over the whole width. flips: two bits for each tile, row by row: 1 left-right, 2 top-bottom.
    """

    height: int
    width: int
    flips: tuple[int, ...]

    def apply(self, x: Tensor) -> Tensor:
        out, flips = x.clone(), iter(self.flips)
        for top in range(0, x.shape[-2], self.height):
            for left in range(0, x.shape[-1], self.width or x.shape[-1]):
                tile = (..., slice(top, top + self.height), slice(left, left + (self.width or x.shape[-1])))
                flip = next(flips)
                out[tile] = x[tile].flip([dim for dim, bit in ((-1, 1), (-2, 2)) if flip & bit])
        return out

    undo = apply

    def describe(self) -> dict[str, int | bool]:
        return {"tile_height": self.height, "tile_width": self.width, "flipped": sum(flip > 0 for flip in self.flips)}


@dataclass(frozen=True)
class Chain(Tried):
    """One transform after the other."""

    first: Draw
    second: Draw

    def size(self, height: int, width: int) -> tuple[int, int]:
        return self.second.size(*self.first.size(height, width))

    def apply(self, x: Tensor) -> Tensor:
        return self.second.apply(self.first.apply(x))

    def undo(self, x: Tensor) -> Tensor:
        return self.first.undo(self.second.undo(x))

    def describe(self) -> dict[str, int | bool]:
        return self.first.describe() | self.second.describe()


def gain(channels: int) -> Draws:
    """channels: how many gains are drawn: 1 for all three colours, or 3."""
    other = [n for n in GAINS if abs(n - 1000) > 5]

    def draw(rng: SplitMix64, _height: int, _width: int) -> Draw:
        red, green, blue = ([other[rng.below(len(other))] for _ in range(channels)] * 3)[:3]
        return Gain((red, green, blue))

    return draw


def dither(reach: int, smooth: bool = False) -> Draws:
    return lambda rng, _height, _width: Dither(rng.next() >> 32, reach, smooth)


def resize(rng: SplitMix64, height: int, width: int) -> Draw:
    """Two sides by up to 5 % each, in either direction, each by its own share."""
    rows, columns = (max(1, round(side * SIDES[rng.below(len(SIDES))] / 1000)) for side in (height, width))
    return Resize((height, width), (rows, columns))


def tiles(tall: int, wide: int = 0, flips: int = 4) -> Draws:
    """flips: 2 draws none or left-right for each tile, 4 one of all four. Where there are several, not all the same."""

    def draw(rng: SplitMix64, height: int, width: int) -> Draw:
        count = -(-height // tall) * (-(-width // wide) if wide else 1)
        first, *others = (rng.below(flips) for _ in range(count))
        return Tiles(tall, wide, (first if {first} != {*others} else first ^ 1, *others))

    return draw


def chain(first: Draws, second: Draws) -> Draws:
    def draw(rng: SplitMix64, height: int, width: int) -> Draw:
        start = first(rng, height, width)
        return Chain(start, second(rng, *start.size(height, width)))

    return draw


FLIP_TURN = registry.FLIP_TURN.draw

TRIED = (
    Transform(200, "gain", gain(1), "contrast by 0.94 to 1.06"),
    Transform(201, "gain-colour", gain(3), "contrast by 0.94 to 1.06, each colour by its own"),
    Transform(202, "dither-1", dither(1), "-1, 0 or 1 level on each value"),
    Transform(203, "dither-2", dither(2), "-2 to 2 levels on each value"),
    Transform(204, "dither-smooth", dither(4, smooth=True), "-4 to 4 levels, one value in 16 x 16 pixels"),
    Transform(205, "resize", resize, "sides by 0.95 to 1.05"),
    Transform(206, "strips-64", tiles(64, flips=2), "strips of 64 rows, each mirrored or not"),
    Transform(207, "strips-128", tiles(128, flips=4), "strips of 128 rows, each with one of the 4 flips"),
    Transform(208, "tiles-64", tiles(64, 64), "tiles of 64 x 64, each with one of the 4 flips"),
    Transform(209, "flip-turn-gain", chain(FLIP_TURN, gain(3)), "flip-turn, then gain-colour"),
    Transform(210, "flip-turn-dither", chain(FLIP_TURN, dither(4, smooth=True)), "flip-turn, then dither-smooth"),
    Transform(211, "flip-turn-resize", chain(FLIP_TURN, resize), "flip-turn, then resize"),
    Transform(212, "flip-turn-strips", chain(FLIP_TURN, tiles(64, flips=2)), "flip-turn, then strips-64"),
)

SETS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("flip-turn", "flip-turn-slack", "grid-shift", "flip-turn-shift")},
    **{transform.name: (transform.name,) for transform in TRIED},
    "one of each": ("flip-turn", "grid-shift", "gain-colour", "dither-smooth", "resize", "strips-128", "tiles-64"),
}
"""What the ways of an encoding are drawn from, by the name in the table: of several, in turn."""

WAYS = (2, 4, 8)


def register() -> None:
    """Make this process, and no file's reader, know the transforms, and the defences that draw from them."""
    registry.BY_ID.update({transform.id: transform for transform in TRIED})
    registry.BY_NAME.update({transform.name: transform for transform in TRIED})
    for name in SETS:
        DEFENCES.update({defence.name: defence for defence in (_defence(name, ways) for ways in WAYS)})


def named(name: str, ways: int) -> str:
    """The defence's name."""
    return f"{ways}-way {name}"


def _defence(name: str, ways: int) -> Defence:
    settings = Settings(ways=ways, transforms=SETS[name])

    def run(codec: Codec, pixels: Pixels, quality: float, seed: int) -> Outcome:
        return encoded(codec, pixels, replace(settings, quality=quality, seed=seed))

    return Defence(named(name, ways), f"the picture as it is and {ways - 1} of {name}", run, settings, draws=True)
