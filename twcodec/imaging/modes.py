"""Every mode that Pillow reads -> one of `picture.MODES`, exactly where that is possible, with a warning where not.

1, L, LA, RGB, RGBA     as they are; with a transparent colour (PNG's tRNS): LA or RGBA
La, RGBa                LA, RGBA, divided by alpha
P, PA                   RGB or RGBA; L or LA when every pixel is grey and no ICC profile says what RGB means
I;16 (any byte order)   I;16; with a transparent colour LA, 8 bits
I                       I;16 when the values fit, else an error; F: an error
CMYK, LAB               RGB through the ICC profile; YCbCr, HSV, RGBX: RGB
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from twcodec.errors import UnreadableError
from twcodec.imaging.colour import SEPARATED, separated_to_srgb

_SCALED_GREY = {"L;2": 85, "L;4": 17}
"""Pillow spreads 2 and 4 bit greys to 0..255 but leaves the transparent colour of tRNS as it is in the file."""


@dataclass(frozen=True)
class Storage:
    """How a file stores its samples, known only until Pillow decodes them."""

    rawmode: str = ""
    """Pillow's name for the packing, such as `RGB;16B`; empty when unknown."""
    reduced: bool = False
    """More than 8 bits a sample, of which Pillow keeps 8."""


def storage(image: Image.Image) -> Storage:
    """What the tiles of an image that is not decoded yet tell about its samples."""
    for tile in getattr(image, "tile", [])[:1]:
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        rawmode = args[0] if args and isinstance(args[0], str) else ""
        deep = ";16" in rawmode or (tile.codec_name.startswith("ppm") and isinstance(args[-1], int) and args[-1] > 255)
        return Storage(rawmode, deep and not image.mode.startswith("I"))
    return Storage()


def to_coded_mode(
    image: Image.Image, icc: bytes | None = None, stored: Storage = Storage()
) -> tuple[Image.Image, list[str]]:
    """An image in one of `picture.MODES`, perhaps `image` itself, and a line for each thing that was lost.

    Raises UnreadableError for samples that neither 8 nor 16 bits hold.
    """
    warnings = ["16 bits a sample were reduced to 8, all that Pillow decodes in colour"] if stored.reduced else []
    mode, key = image.mode, image.info.get("transparency")
    if mode in SEPARATED:
        converted, warning = separated_to_srgb(image, icc)
        return converted, [*warnings, warning]
    if mode in ("P", "PA"):
        return _from_palette(image, keep_colour=icc is not None), warnings
    if mode == "F":
        raise UnreadableError("floating-point samples (mode F); scale them to 8 or 16 bit integers first")
    if mode == "I" or mode.startswith("I;16"):
        image = Image.fromarray(_sixteen_bits(image))
    elif mode in ("La", "RGBa"):
        image = image.convert(mode.upper())
    elif mode == "RGBA" and stored.rawmode == "LA;16B":
        image = image.convert("LA")
    elif mode not in ("1", "L", "LA", "RGB", "RGBA"):
        image = image.convert("RGB")
    return _with_transparent_colour(image, key, stored, warnings), warnings


def eight_bits(image: Image.Image) -> Image.Image:
    """An I;16 image as L, scaled so that 65535 becomes 255, to the nearest."""
    wide = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))


def _sixteen_bits(image: Image.Image) -> NDArray[np.uint16]:
    """(H, W) of an image in mode I or any I;16, in native byte order."""
    samples = np.asarray(image)
    if image.mode == "I":
        low, high = int(samples.min()), int(samples.max())
        if low < 0 or high > 65535:
            raise UnreadableError(f"32 bit samples from {low} to {high}; scale them to 0..65535 first")
    return samples.astype(np.uint16)


def _from_palette(image: Image.Image, keep_colour: bool) -> Image.Image:
    """RGB or RGBA, or L or LA where that is the same picture."""
    image = image.copy()  # convert() writes the transparency into the palette of the image it converts
    coloured = image.convert("RGBA" if image.has_transparency_data else "RGB")
    red, green, blue = coloured.split()[:3]
    if keep_colour or ImageChops.difference(red, green).getbbox() or ImageChops.difference(red, blue).getbbox():
        return coloured
    return Image.merge("LA", (red, coloured.getchannel("A"))) if coloured.mode == "RGBA" else red


def _with_transparent_colour(image: Image.Image, key: object, stored: Storage, warnings: list[str]) -> Image.Image:
    """An alpha plane in place of one colour that counts as transparent; the image itself where there is none.

    Done by hand, because Pillow compares the samples after the reduction to 8 bits with the colour before it.
    """
    values = key if isinstance(key, tuple) else (key,)
    bands = {"1": 1, "L": 1, "I;16": 1, "RGB": 3}.get(image.mode)
    if bands != len(values) or not all(isinstance(value, int) for value in values):
        return image
    colour = np.array(values, dtype=np.int64)
    if stored.rawmode in _SCALED_GREY:
        colour = colour * _SCALED_GREY[stored.rawmode]
    elif image.mode == "1":
        colour = (colour > 0).astype(np.int64)
    elif stored.reduced:
        colour = colour >> 8
    samples = np.asarray(image).reshape(image.height, image.width, bands)
    alpha = Image.fromarray(np.where((samples == colour).all(axis=2), 0, 255).astype(np.uint8))
    if image.mode == "I;16":
        image = eight_bits(image)
        warnings.append("16 bits a sample were reduced to 8, because a 16 bit picture cannot be transparent here")
    if image.mode == "RGB":
        return Image.merge("RGBA", (*image.split(), alpha))
    return Image.merge("LA", (image.convert("L"), alpha))
