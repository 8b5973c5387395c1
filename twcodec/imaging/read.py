"""Any picture that Pillow reads -> `Picture`: checked, decoded, brought to one of `picture.MODES`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twcodec.imaging.carried import carried
from twcodec.imaging.colour import SEPARATED, describes, to_srgb
from twcodec.imaging.modes import storage, to_coded_mode
from twcodec.imaging.orientation import orientation, upright
from twcodec.imaging.picture import Metadata, Picture
from twcodec.imaging.source import DEFAULT_MAX_PIXELS, Source, check_size, opened


def read_picture(
    source: Source,
    *,
    metadata: Literal["all", "none"] = "all",
    icc: Literal["keep", "srgb"] = "keep",
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Picture:
    """Read one picture from a path, bytes, a stream (seekable or not) or a Pillow image, which stays as it is.

    With metadata "all" the samples are as stored, and the EXIF that travels along says which way up they are; with
    "none" nothing travels, so the samples are turned upright. Of an animation or a document the first frame is
    taken (of a Pillow image the current one). What was lost or converted is in `Picture.warnings`.

    icc: "srgb" converts colours by the ICC profile, which does not travel along then.
    max_pixels: width times height, checked before any pixel is decoded.
    Raises UnreadableError, or LimitError above the limits; no message holds the name of the file.
    """
    with opened(source, max_pixels) as image:
        stored = storage(image)
        image.load()
        check_size(image.size, max_pixels)  # a plugin may learn it only now
        found = carried(image)
        coded, warnings = to_coded_mode(image, found.icc, stored)
        if icc == "srgb" and image.mode not in SEPARATED:
            coded, kept, left = to_srgb(coded, found.icc)
            found, warnings = replace(found, icc=kept), warnings + left
        if metadata == "none":
            warnings += _profile_lost(found.icc, image.mode)
            coded, found = upright(coded, orientation(found)), Metadata()
        elif image.mode in SEPARATED:
            found = replace(found, icc=None)
        elif found.icc and not describes(found.icc, coded.mode):
            warnings.append(f"the ICC profile was left out, because it is not for {coded.mode} samples")
            found = replace(found, icc=None)
        samples, alpha = _planes(coded)
        warnings += _frames_left_out(image)
        depth = {"1": 1, "I;16": 16}.get(coded.mode, 8)
        return Picture(samples, coded.mode, depth=depth, alpha=alpha, metadata=found, warnings=tuple(warnings))


def _planes(coded: Image.Image) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], NDArray[np.uint8] | None]:
    """Samples (H, W, C) and alpha (H, W) or None, of an image in one of `picture.MODES`; writable and contiguous."""
    array = np.array(coded)
    if coded.mode in ("LA", "RGBA"):
        return np.ascontiguousarray(array[..., :-1]), np.ascontiguousarray(array[..., -1])
    if coded.mode == "1":
        array = array.astype(np.uint8)
    return array.reshape(coded.height, coded.width, -1), None


def _profile_lost(icc: bytes | None, mode: str) -> list[str]:
    """A line if leaving out the profile changes how the picture looks, as far as its text tells."""
    if not icc or mode in SEPARATED or b"sRGB" in icc.replace(b"\0", b""):
        return []
    return ["the ICC profile was left out with the other metadata, so the colours may look different"]


def _frames_left_out(image: Image.Image) -> list[str]:
    """A line about further frames or pages. Called last: to count them, some plugins leave the frame they are at."""
    if image.format == "PSD":  # its frames are the layers, and the picture is all of them together
        return []
    try:
        count = getattr(image, "n_frames", 1)
    except Exception:
        return ["further frames or pages were left out; they are damaged and cannot be counted"]
    return [f"only the first of {count} frames or pages was taken, {count - 1} left out"] if count > 1 else []
