"""Random damage to valid files: whatever decodes, decodes to the same pixels, and whatever does not, says why.

    python benchmarks/mutations.py [COUNT]      default: 100,000 mutations of 50 files; writes results/mutations.json

Files: the golden ones of formats/vectors, and encodings of crops of scikit-image's pictures. A mutation flips bits,
sets, cuts, doubles or moves bytes, or cuts the file short. "Detected" is one of twc's own errors.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import skimage.data
import torch
from kodak import HERE
from PIL import Image

import twcodec
from twcodec.errors import TwcError

FILES = 50


def valid_files(codec: Any) -> dict[str, bytes]:
    """Fifty valid files that are small."""
    folder = HERE.parent / "formats" / "vectors" / "valid"
    found = {p.name: p.read_bytes() for p in sorted(folder.glob("*.twc")) if p.stat().st_size < 20_000}
    pictures = [getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")]
    rng = random.Random(1)
    while len(found) < FILES:
        picture = pictures[len(found) % 4]
        top, left = rng.randrange(picture.shape[0] - 64), rng.randrange(picture.shape[1] - 64)
        crop = Image.fromarray(picture[top : top + 64, left : left + rng.choice([17, 48, 64])])
        crop = crop.convert(rng.choice(["RGB", "L", "RGBA"]))
        found[f"crop-{len(found)}"] = codec.encode(crop, quality=rng.choice([1, 3, 5, 7]), ways=4)
    return dict(list(found.items())[:FILES])


def mutated(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """What was done, and what came of it."""
    out, at = bytearray(data), rng.randrange(len(data))
    kind = rng.choice(["bit", "bits", "byte", "run", "cut", "double", "swap", "short", "long"])
    if kind == "bit":
        out[at] ^= 1 << rng.randrange(8)
    elif kind == "bits":
        for _ in range(rng.randrange(2, 20)):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        out[at] = rng.randrange(256)
    elif kind == "run":
        out[at : at + 16] = bytes([rng.choice([0, 255])]) * len(out[at : at + 16])
    elif kind == "cut":
        del out[at : at + rng.randrange(1, 40)]
    elif kind == "double":
        out[at:at] = out[at : at + rng.randrange(1, 40)]
    elif kind == "swap":
        other, size = rng.randrange(len(data)), rng.randrange(1, 20)
        out[at : at + size], out[other : other + size] = out[other : other + size], out[at : at + size]
    elif kind == "short":
        del out[at:]
    else:
        out += rng.randbytes(rng.randrange(1, 40))
    return kind, bytes(out)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    torch.set_num_threads(1)
    codec, rng = twcodec.open_codec(device="cpu", threads=1), random.Random(2)
    files = valid_files(codec)
    pixels = {name: np.asarray(codec.decode(data)) for name, data in files.items()}
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    findings: list[str] = []
    start = time.perf_counter()
    for i in range(count):
        name = rng.choice(list(files))
        kind, damaged = mutated(files[name], rng)
        if damaged == files[name]:
            outcomes["nothing was changed"] += 1
            continue
        kinds[kind] += 1
        try:
            found = np.asarray(codec.decode(damaged))
        except TwcError as error:
            outcomes[type(error).__name__] += 1
        except Exception as error:
            outcomes["another exception"] += 1
            findings.append(f"{i}: {name}, {kind}: {type(error).__name__}: {error}")
        else:
            same = np.array_equal(found, pixels[name])
            outcomes["decoded to the same pixels" if same else "decoded to other pixels"] += 1
            if not same:
                findings.append(f"{i}: {name}, {kind}: other pixels")
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python", *sys.argv]),
        "files": len(files),
        "mutations": count,
        "outcomes": dict(outcomes),
        "by kind": dict(kinds),
        "findings": findings[:50],
        "seconds": round(time.perf_counter() - start),
    }
    (HERE / "results" / "mutations.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
