"""Two pictures brought to samples that can be compared one by one, and what had to be done for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twcodec.errors import UsageError
from twcodec.imaging.fit import on_white
from twcodec.imaging.orientation import orientation, upright
from twcodec.imaging.picture import Metadata, Picture, bits_as_grey
from twcodec.imaging.present import to_image

_COLOURED = {"L": "RGB", "LA": "RGBA"}
"""What becomes of a grey mode beside a picture in colour; others keep their name."""


def stood_upright(picture: Picture) -> Picture:
    """The picture as it is to be looked at: turned as its EXIF or XMP says, and neither beside it any more."""
    turn = orientation(picture.metadata)
    kept = Metadata(icc=picture.metadata.icc)
    if turn == 1:
        return replace(picture, metadata=kept)
    alpha = None if picture.alpha is None else _turned(picture.alpha, turn)
    samples = np.stack([_turned(picture.samples[..., c], turn) for c in range(picture.samples.shape[2])], axis=2)
    return replace(picture, samples=samples, alpha=alpha, metadata=kept)


def _turned(plane: NDArray[Any], turn: int) -> NDArray[Any]:
    return np.asarray(upright(Image.fromarray(plane), turn))


def aligned(a: Picture, b: Picture, names: tuple[str, str]) -> tuple[Picture, Picture, tuple[str, ...]]:
    """Both pictures with as many channels, in one depth, alpha in both or none; and a line for each change.

    UsageError: they differ in size, or one has 16 bits a sample. names: for the lines. Pictures as by `stood_upright`.
    """
    if (a.width, a.height) != (b.width, b.height):
        raise UsageError(
            f"{names[0]} has {a.width}x{a.height} pixels, {names[1]} {b.width}x{b.height}; "
            "only pictures of one size can be compared"
        )
    if (a.depth == 16) != (b.depth == 16):
        raise UsageError(
            f"{names[0]} has {a.depth} bits a sample, {names[1]} {b.depth}; only pictures of one depth can be compared"
        )
    pair, said = (a, b), list[str]()
    if a.metadata.icc != b.metadata.icc:
        said.append("the two have different ICC profiles; samples are compared as they are")
    for change in (_in_eight_bits, _in_colour, _without_alpha):
        made = [change(one, other, name) for one, other, name in ((*pair, names[0]), (pair[1], pair[0], names[1]))]
        pair = made[0][0], made[1][0]
        said += [line for _, line in made if line]
    return *pair, tuple(said)


def _in_eight_bits(one: Picture, other: Picture, name: str) -> tuple[Picture, str]:
    """Black and white become 0 and 255 beside a picture of 8 bits."""
    if one.depth != 1 or other.depth == 1:
        return one, ""
    return bits_as_grey(one), f"{name} is bilevel; converted to grey"


def _in_colour(one: Picture, other: Picture, name: str) -> tuple[Picture, str]:
    """Grey three times, beside a picture in colour."""
    if one.samples.shape[2] == other.samples.shape[2] or one.samples.shape[2] == 3:
        return one, ""
    return replace(
        one, samples=np.concatenate([one.samples] * 3, axis=2), mode=_COLOURED.get(one.mode, one.mode)
    ), f"{name} is grey; converted to RGB"


def _without_alpha(one: Picture, other: Picture, name: str) -> tuple[Picture, str]:
    """Alpha is left out where the other picture has none; what is transparent becomes white."""
    if one.alpha is None or other.alpha is not None:
        return one, ""
    mode = one.mode.removesuffix("A")
    if (one.alpha == 255).all():
        return replace(one, alpha=None, mode=mode), f"{name} has alpha, opaque all over; left out"
    flat = np.array(on_white(to_image(one))).reshape(one.samples.shape)
    return replace(one, samples=flat, alpha=None, mode=mode), f"{name} has alpha, the other has none; laid on white"
