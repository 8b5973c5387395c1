"""`Picture` -> Pillow image: the mode it came in, and its metadata where Pillow's own plugins put it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twcodec.imaging.picture import Picture

_PILLOWS_OWN = frozenset(
    "adobe adobe_transform aspect background bbox blend chromaticity comment compression default_image disposal dpi "
    "duration exif extension gamma icc_profile interlace jfif jfif_density jfif_unit jfif_version loop photoshop "
    "progression progressive quality raw_mode resolution srgb timestamp transparency version xmp".split()
)
"""Keys of `info` by which Pillow's plugins mean numbers and bytes: a text of that name, from a stranger's file, would
be taken for one of them when the image is converted or saved."""


def to_image(picture: Picture) -> Image.Image:
    """The image that `read_picture` saw, in `picture.mode` exactly; it shares no memory with the picture.

    info holds `icc_profile`, `exif` (with the prefix that JPEG wants), `xmp` as bytes, and each text under its keyword.
    """
    image = Image.fromarray(_array(picture))
    metadata = picture.metadata
    image.info.update(pair for pair in metadata.text if pair[0] not in _PILLOWS_OWN)
    if metadata.icc:
        image.info["icc_profile"] = metadata.icc
    if metadata.exif:
        image.info["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.xmp:
        image.info["xmp"] = metadata.xmp
    return image


def _array(picture: Picture) -> NDArray[np.generic]:
    """(H, W) for 1, L and I;16; (H, W, 2..4) for LA, RGB and RGBA, in the type by which Pillow knows the mode."""
    samples = picture.samples
    if picture.alpha is not None:
        return np.concatenate([samples, picture.alpha[..., None]], axis=2)
    if picture.mode == "RGB":
        return samples.copy()
    kind = {"1": np.bool_, "I;16": np.uint16}.get(picture.mode, np.uint8)
    return samples[..., 0].astype(kind)
