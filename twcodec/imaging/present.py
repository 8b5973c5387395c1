"""`Picture` -> Pillow image: the mode it came in, and its metadata where Pillow's own plugins put it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twcodec.imaging.carried import as_info
from twcodec.imaging.picture import Picture


def to_image(picture: Picture) -> Image.Image:
    """The image that `read_picture` saw, in `picture.mode` exactly; it shares no memory with the picture.

    info holds what `carried.as_info` says.
    """
    image = Image.fromarray(_array(picture))
    image.info.update(as_info(picture.metadata))
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
