"""What is wanted of a picture that is decoded: all of it, a part, a smaller one, more bits a sample. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from twcodec.errors import UsageError
from twcodec.imaging.picture import WIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twcodec.imaging.picture import Picture

SCALES = (1, 2, 4, 8)
DEEP = 16


@dataclass(frozen=True)
class View:
    """crop: left, top, width and height in pixels of the picture as it is stored, whatever its EXIF says of up.

    scale: one pixel for each square of so many, its mean; one of `SCALES`. depth: 16 for 16 bits a sample from a
    picture of 8; None for its own. Cropping comes first.
    """

    crop: tuple[int, int, int, int] | None = None
    scale: int = 1
    depth: int | None = None

    def __post_init__(self) -> None:
        """UsageError: a value that cannot be meant. Whether the crop lies in the picture is checked by `window`."""
        if self.scale not in SCALES:
            raise UsageError(f"scale 1/{self.scale} is unknown; there are: {', '.join(f'1/{n}' for n in SCALES)}")
        if self.depth not in (None, DEEP):
            raise UsageError(f"{self.depth} bits a sample; only 16 can be asked for")
        if self.crop is not None:
            whole = len(self.crop) == 4 and all(type(n) is int for n in self.crop)
            if not whole or min(self.crop[:2]) < 0 or min(self.crop[2:]) < 1:
                raise UsageError(f"a crop is left, top, width, height in whole pixels, not {self.crop}")

    def window(self, height: int, width: int) -> tuple[slice, slice] | None:
        """Rows and columns of a picture of this size; None: all. UsageError: the crop reaches beyond it."""
        if self.crop is None:
            return None
        left, top, wide, high = self.crop
        if left + wide > width or top + high > height:
            raise UsageError(f"the crop {left},{top},{wide},{high} reaches beyond the picture, {width}x{height} pixels")
        return slice(top, top + high), slice(left, left + wide)

    def depth_of(self, depth: int) -> int:
        """Bits a sample of what is made of a picture. UsageError: one of 1 bit."""
        if self.depth == DEEP and depth == 1:
            raise UsageError("the picture has 1 bit a sample; 16 would hold no more")
        return self.depth or depth

    def cut(self, picture: Picture) -> Picture:
        """A whole picture as it is wanted."""
        window = self.window(picture.height, picture.width)
        if window is not None:
            alpha = None if picture.alpha is None else picture.alpha[window].copy()
            picture = replace(picture, samples=picture.samples[window].copy(), alpha=alpha)
        if self.depth_of(picture.depth) == DEEP and picture.depth < DEEP:
            picture = deep(picture, picture.samples.astype("uint16") * WIDE)
        return self.scaled(picture)

    def scaled(self, picture: Picture) -> Picture:
        """A picture, cut out already, at its scale."""
        if self.scale == 1:
            return picture
        from twcodec.imaging.reduce import reduced

        return reduced(picture, self.scale)


WHOLE = View()
"""All of it, as it is."""


def deep(picture: Picture, samples: NDArray[Any]) -> Picture:
    """The picture with samples of 16 bits, where it had 8."""
    return replace(
        picture,
        samples=samples.astype("uint16", copy=False),
        depth=DEEP,
        mode="I;16" if picture.mode == "L" else picture.mode,
    )
