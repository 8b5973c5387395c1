"""What decoding a part of a picture costs: `twc decode --crop`, in this process, beside all of it.

    python benchmarks/crops.py       1 minute

The picture is scikit-image's astronaut, tiled to 12 megapixels. Every crop is compared with the whole picture's, sample
by sample. All symbols are decoded whatever the crop, for they come in one stream; the synthesis is what it saves.
Writes results/crops.json.
"""

from __future__ import annotations

import datetime
import json
import statistics
import time
from typing import Any

import numpy as np
import skimage.data
from kodak import HERE

import twcodec
from twcodec.codec.settings import Settings
from twcodec.codec.view import View
from twcodec.imaging.picture import Picture

RESULTS = HERE / "results" / "crops.json"
HEIGHT, WIDTH = 3000, 4000
SHARES = (1.0, 0.5, 0.25, 0.1, 0.01)
RUNS = 3


def crop_of(share: float) -> tuple[int, int, int, int]:
    """In the middle, of the picture's shape."""
    width, height = round(WIDTH * share**0.5), round(HEIGHT * share**0.5)
    return (WIDTH - width) // 2, (HEIGHT - height) // 2, width, height


def median(action: Any) -> float:
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    tile = skimage.data.astronaut()
    samples = np.ascontiguousarray(np.tile(tile, (HEIGHT // 512 + 1, WIDTH // 512 + 1, 1))[:HEIGHT, :WIDTH])
    codec = twcodec.open_codec(device="cpu")
    data, _ = codec.encode_picture(Picture(samples, "RGB"), Settings(seed=1))
    whole = codec.decode_picture(data).samples
    symbols = median(lambda: codec.decode_symbols(data))
    everything = median(lambda: codec.decode_picture(data)) - symbols
    rows = []
    for share in SHARES:
        left, top, width, height = crop = crop_of(share)
        part = codec.decode_picture(data, view=View(crop)).samples
        same = np.array_equal(part, whole[top : top + height, left : left + width])
        took = median(lambda crop=crop: codec.decode_picture(data, view=View(crop))) - symbols
        rows.append({"area": share, "synthesis": round(took / everything, 3), "identical": same})
        rows[-1]["decoding"] = round((took + symbols) / (everything + symbols), 3)
        print(rows[-1], flush=True)
    about = {"date": datetime.date.today().isoformat(), "picture": f"{WIDTH}x{HEIGHT}"}
    share_of_symbols = round(symbols / (everything + symbols), 3)
    RESULTS.write_text(
        json.dumps({**about, "symbols, share of decoding": share_of_symbols, "crops": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
