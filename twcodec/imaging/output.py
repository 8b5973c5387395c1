"""A decoded picture -> the bytes of a picture file, in the colours that are wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO

from twcodec.errors import UsageError
from twcodec.imaging.colour import to_srgb
from twcodec.imaging.picture import Picture
from twcodec.imaging.png16 import write_png16
from twcodec.imaging.present import to_image
from twcodec.imaging.write import write_image


def write_picture(picture: Picture, fo: BinaryIO, format: str, icc: str = "keep") -> tuple[str, ...]:
    """Write a picture, with its metadata, as `write_image` does, and raise what that raises; 16 bits in colour as PNG.

    icc: "srgb" converts the colours by the picture's profile, which is left out then.
    """
    if picture.depth > 8 and picture.mode != "I;16":
        if format != "PNG":
            raise UsageError(f"16 bits a sample in colour are written as PNG, not as {format}")
        return write_png16(picture, fo)
    image, metadata = to_image(picture), picture.metadata
    left: list[str] = []
    if icc == "srgb":
        image, profile, left = to_srgb(image, metadata.icc)
        metadata = replace(metadata, icc=profile)
    return (*left, *write_image(image, fo, format, metadata))
