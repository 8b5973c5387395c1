"""ICC profiles: whether one describes the samples, and the way from CMYK and LAB to sRGB."""

from __future__ import annotations

import io

from PIL import Image, ImageCms

_HEADER_BYTES = 128
_SPACES = {"1": b"GRAY", "L": b"GRAY", "LA": b"GRAY", "I;16": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB "}
SEPARATED = {"CMYK": b"CMYK", "LAB": b"Lab "}
"""Modes that only a profile turns into colours. Afterwards it describes the samples no more."""


def colour_space(icc: bytes) -> bytes:
    """The four letters of a profile's colour space, such as `RGB `; empty when it is no ICC profile."""
    return icc[16:20] if len(icc) >= _HEADER_BYTES and icc[36:40] == b"acsp" else b""


def describes(icc: bytes, mode: str) -> bool:
    """Whether a profile is for samples of `mode`, one of `picture.MODES`."""
    return colour_space(icc) == _SPACES.get(mode)


def separated_to_srgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, str]:
    """Convert a CMYK or LAB image to RGB, through its profile where that is sound, and say how in one line.

    Relative colorimetric with black point compensation, as in print proofs: paper becomes white and ink black.
    """
    if icc and colour_space(icc) == SEPARATED[image.mode]:
        try:
            return _through_profile(image, icc), f"{image.mode} was converted to sRGB with its ICC profile"
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            reason = "its ICC profile is broken"
    else:
        reason = "its ICC profile is for another colour space" if icc else "it has no ICC profile"
    return image.convert("RGB"), f"{image.mode} was converted to RGB by a plain formula, because {reason}"


def _through_profile(image: Image.Image, icc: bytes) -> Image.Image:
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("sRGB"),
        image.mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return transform.apply(image)
