"""What a shift within a picture's padding costs or gains: python benchmarks/slack.py

All of Kodak, cut to sizes that are no multiples of 16, clean: the loss of branches of `flip-turn` and of
`flip-turn-slack` over that of the plain one, and of the two-way file, for four draws. Writes results/slack.json.
"""

from __future__ import annotations

import datetime
import json
import statistics

import numpy as np
from kodak import HERE, pictures

import twcodec
from twcodec.codec.codec import read
from twcodec.codec.settings import Settings
from twcodec.imaging.picture import Picture

RESULTS = HERE / "results" / "slack.json"
SIZES = ((248, 248), (250, 373), (500, 760))
SETS = ("flip-turn", "flip-turn-slack")
DRAWS = 4


def cut(path: object, size: tuple[int, int]) -> Picture:
    """The middle of a picture; upright ones are turned."""
    samples = read(path).samples
    samples = samples if samples.shape[1] > samples.shape[0] else samples.transpose(1, 0, 2)
    top, left = ((have - want) // 2 for have, want in zip(samples.shape, size, strict=False))
    return Picture(np.ascontiguousarray(samples[top : top + size[0], left : left + size[1]]), "RGB")


def main() -> None:
    codec, rows = twcodec.open_codec(device="cpu"), []
    for size in SIZES:
        for quality in (2.0, 6.0):
            found: dict[str, list[list[float]]] = {name: [] for name in SETS}
            for path in pictures():
                picture = cut(path, size)
                for name in SETS:
                    settings = Settings(
                        quality, ways=1 + DRAWS, transforms=(name,), seed=7, precision="fp32", verify=False
                    )
                    branches = codec.encode_picture(picture, settings)[1].branches
                    found[name].append([branch.loss / branches[0].loss for branch in branches[1:]])
            row = {"size": f"{size[1]}x{size[0]}", "quality": quality}
            for name in SETS:
                ratios = [ratio for one in found[name] for ratio in one]
                row[f"{name}: branch"] = round(statistics.fmean(ratios), 5)
                row[f"{name}: two-way"] = round(statistics.fmean(min(1.0, ratio) for ratio in ratios), 5)
            rows.append(row)
            print(row, flush=True)
    about = {"date": datetime.date.today().isoformat(), "pictures": len(pictures()), "draws": DRAWS}
    RESULTS.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
