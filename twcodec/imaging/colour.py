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
        except _BROKEN:
            reason = "its ICC profile is broken"
    else:
        reason = "its ICC profile is for another colour space" if icc else "it has no ICC profile"
    return image.convert("RGB"), f"{image.mode} was converted to RGB by a plain formula, because {reason}"


def to_srgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None, list[str]]:
    """Convert an image in one of `picture.MODES` from the colours of its profile to sRGB.

    Returns the image, the profile that describes it (None: sRGB) and a line where it was left as it is. Without a
    profile it counts as sRGB already. Grey stays grey; alpha stays as it is.
    """
    if not icc or not describes(icc, image.mode):
        return image, icc, []
    if image.mode in ("1", "I;16"):
        return image, icc, [f"the colours were left as they are: {image.mode} samples are not converted to sRGB"]
    colours = image if image.mode in ("L", "RGB") else Image.merge(image.mode[:-1], image.split()[:-1])
    try:
        converted = _through_profile(colours, icc)
    except _BROKEN:
        return image, icc, ["the colours were left as they are: the ICC profile is broken"]
    bands = converted.split()[: len(colours.getbands())]  # grey is the same in all three
    return Image.merge(image.mode, (*bands, *image.split()[len(bands) :])), None, []


_BROKEN = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


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
