"""A picture as the codec sees it: samples, depth, alpha, and what travels with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16")
"""Pillow modes that come back from a file. Every other mode that Pillow reads is converted to one of these."""

WIDE = 257
"""From 8 bits to 16: 255 becomes 65535."""


@dataclass(frozen=True)
class Metadata:
    """What travels with a picture, byte for byte. `None` or empty where the picture has none."""

    icc: bytes | None = None
    exif: bytes | None = None
    """A TIFF structure, without the `Exif\\0\\0` prefix that JPEG puts in front of it."""
    xmp: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()
    """Keyword and value pairs, as in PNG."""


@dataclass(frozen=True)
class Picture:
    """Decoded samples and their metadata.

    samples: (H, W, C), C = 1 (grey) or 3 (sRGB-like colour); uint8 for depth 8 and 1, uint16 for depth 16;
    values 0 .. 2^depth - 1.
    alpha: (H, W) uint8 or None.
    mode: one of `MODES`: the Pillow mode that decoding gives back.
    """

    samples: NDArray[np.uint8] | NDArray[np.uint16]
    mode: str
    depth: int = 8
    alpha: NDArray[np.uint8] | None = None
    metadata: Metadata = field(default_factory=Metadata)
    warnings: tuple[str, ...] = ()
    """One line each, about what was lost or changed on reading: further frames, a conversion from CMYK."""

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.samples.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.samples.shape[1])


def bits_as_grey(picture: Picture) -> Picture:
    """A picture of 1 bit a sample as one of 8, which are 0 and 255."""
    return replace(picture, samples=picture.samples * picture.samples.dtype.type(255), depth=8, mode="L")
