"""Peak memory of one process that encodes two-way and decodes a picture of a given size.

    python benchmarks/memory.py WIDTH HEIGHT        e.g. 4000 3000

The picture is scikit-image's astronaut, tiled. Prints megabytes: after the model is loaded, and at the peak.
"""

from __future__ import annotations

import resource
import sys

import numpy as np
import skimage.data

import twcodec
from twcodec.codec.settings import Settings
from twcodec.imaging.picture import Picture


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    width, height = int(sys.argv[1]), int(sys.argv[2])
    tiled = np.tile(skimage.data.astronaut(), (height // 512 + 1, width // 512 + 1, 1))[:height, :width]
    codec = twcodec.open_codec()
    loaded = peak()
    data, _ = codec.encode_picture(Picture(np.ascontiguousarray(tiled), "RGB"), Settings())
    encoded = peak()
    codec.decode_picture(data)
    megapixels = width * height / 1e6
    print(f"{megapixels:.1f} MP: loaded {loaded:.0f} MB, encode {encoded:.0f} MB, and decode {peak():.0f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main()
