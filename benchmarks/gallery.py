"""The pictures and tables of docs/gallery.md: photographs beside JPEG, WebP and AVIF, and attacked pictures.

    python benchmarks/gallery.py photographs      docs/images/gallery/<name>.webp
    python benchmarks/gallery.py attacks          docs/images/gallery/attacked-<name>.webp
    python benchmarks/gallery.py page             the tables in docs/gallery.md, from the JSON

The pictures are those that ship with scikit-image. AVIF gets the highest quality whose file
takes no more than so many bits a pixel, and the others the highest whose file is no larger than that (WebP with method
6, AVIF at speed 3, JPEG progressive, twc with a target size). Two squares of each picture are
shown, found by rule: where twc gains most PSNR on AVIF, and where it loses most. Writes results/gallery.json.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFont

import twcodec
from twcodec.codec.codec import Codec
from twcodec.codec.compare import compare
from twcodec.codec.settings import Settings, TransformMode
from twcodec.imaging.picture import Picture

Pixels = np.ndarray[Any, Any]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gallery.json"
PAGE, IMAGES = ROOT / "docs" / "gallery.md", ROOT / "docs" / "images" / "gallery"
PICTURES = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle")
BPP = (0.25, 0.75)
"""Sizes in the tables; the pictures show the first."""
SIDE, SCALE, GAP, TITLE = 128, 2, 6, 18

ATTACKED = {"astronaut": (40, 150), "coffee": (110, 180)}
"""Top left of the 256 x 256 pixels that are attacked: an attack on the whole would take hours on two cores."""
THREATS, EPS, QUALITY, EOT = ("transfer", "adaptive"), (4, 8), 4.0, 8

FORMATS: dict[str, tuple[range, dict[str, Any]]] = {
    "JPEG": (range(1, 96), {"optimize": True, "progressive": True}),
    "WebP": (range(101), {"method": 6}),
    "AVIF": (range(101), {"speed": 3}),
}


def photograph(name: str) -> Pixels:
    found = skimage.data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(skimage.data, name)()
    return np.ascontiguousarray(found[..., :3])


def no_larger(size: int, qualities: range, encode: Callable[[int], bytes]) -> bytes:
    """The file of the highest quality that takes `size` bytes or fewer, by bisection; of the lowest if none does."""
    low, high = 0, len(qualities) - 1
    best = encode(qualities[0])
    while low < high:
        middle = (low + high + 1) // 2
        data = encode(qualities[middle])
        low, high, best = (middle, high, data) if len(data) <= size else (low, middle - 1, best)
    return best


def conventional(name: str, image: Pixels, size: int) -> tuple[int, Pixels]:
    qualities, options = FORMATS[name]

    def encode(quality: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, name, quality=quality, **options)
        return file.getvalue()

    data = no_larger(size, qualities, encode)
    return len(data), np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def all_formats(codec: Codec, image: Pixels, bpp: float) -> dict[str, tuple[int, Pixels]]:
    """Bytes and pixels of each codec's file. AVIF has the coarsest steps: what it takes is what the others may take."""
    avif = conventional("AVIF", image, round(bpp * image[..., 0].size / 8))
    files = {name: conventional(name, image, avif[0]) for name in ("JPEG", "WebP")} | {"AVIF": avif}
    ours = codec.encode(Image.fromarray(image), target_size=avif[0], seed=1)
    return {**files, "twc": (len(ours), np.array(codec.decode(ours)))}


def psnr(a: Pixels, b: Pixels) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def squares(image: Pixels, ours: Pixels, theirs: Pixels) -> dict[str, tuple[slice, slice]]:
    """Where `ours` gains most dB, and where it loses most, among the squares that stand every 32 pixels."""
    places = [
        (slice(top, top + SIDE), slice(left, left + SIDE))
        for top in range(0, image.shape[0] - SIDE + 1, 32)
        for left in range(0, image.shape[1] - SIDE + 1, 32)
    ]
    gains = [psnr(image[at], ours[at]) - psnr(image[at], theirs[at]) for at in places]
    return {"best": places[int(np.argmax(gains))], "worst": places[int(np.argmin(gains))]}


def sheet(rows: list[list[tuple[str, Pixels]]]) -> Image.Image:
    """Titles above tiles, magnified."""
    side = SIDE * SCALE
    paper = Image.new("RGB", (len(rows[0]) * (side + GAP) - GAP, len(rows) * (side + TITLE + GAP) - GAP), "white")
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(13)
    for row, tiles in enumerate(rows):
        for column, (title, pixels) in enumerate(tiles):
            left, top = column * (side + GAP), row * (side + TITLE + GAP)
            tile = Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.NEAREST)
            paper.paste(tile, (left, top + TITLE))
            draw.text((left + 2, top), title, fill="black", font=font)
    return paper


def save(paper: Image.Image, name: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    paper.save(IMAGES / f"{name}.webp", quality=82, method=6)


def photographs(codec: Codec) -> dict[str, Any]:
    rows = []
    for name in PICTURES:
        image = photograph(name)
        for bpp in BPP:
            made = all_formats(codec, image, bpp)
            found = {key: figures(image, back, size) for key, (size, back) in made.items()}
            rows.append({"picture": name, "bpp": bpp, **found})
            if bpp == BPP[0]:
                rows[-1]["squares"] = shown(name, image, made)
            print(json.dumps(rows[-1]), flush=True)
    return {"photographs": rows}


def figures(image: Pixels, back: Pixels, size: int) -> dict[str, Any]:
    found = compare(Picture(image, "RGB"), Picture(back, "RGB"))
    return {"bytes": size, "psnr": round(found.psnr, 2), "ms_ssim": round(found.ms_ssim or 0, 4)}


def shown(name: str, image: Pixels, made: dict[str, tuple[int, Pixels]]) -> dict[str, Any]:
    """The sheet of one picture; where its squares are, and their PSNR."""
    rows, found = [], {}
    for kind, at in squares(image, made["twc"][1], made["AVIF"][1]).items():
        db = {key: round(psnr(image[at], back[at]), 2) for key, (_, back) in made.items()}
        tiles = [(f"{key}  {size} B  {db[key]:.2f} dB here", back[at]) for key, (size, back) in made.items()]
        rows.append([(f"original, x {at[1].start}, y {at[0].start}", image[at]), *tiles])
        found[kind] = {"x": at[1].start, "y": at[0].start, "psnr": db}
    save(sheet(rows), name)
    return found


def attacks(codec: Codec) -> dict[str, Any]:
    rows = []
    for name, (top, left) in ATTACKED.items():
        image = np.ascontiguousarray(photograph(name)[top : top + 256, left : left + 256])
        tiles = [row_of_tiles(codec, image, image, "clean")[1]]
        for threat in THREATS:
            for eps in EPS:
                adversarial = attack(codec, image, threat, eps)
                row, shown_here = row_of_tiles(codec, image, adversarial, f"{threat}, eps {eps}")
                rows.append({"picture": name, "threat": threat, "eps": eps, **row})
                print(json.dumps(rows[-1]), flush=True)
                tiles += [shown_here] if threat == THREATS[-1] else []
        save(sheet(tiles), f"attacked-{name}")
    return {"attacks": rows}


def attack(codec: Codec, image: Pixels, threat: Any, eps: int) -> Pixels:
    from twcodec.robustness.single import Attempt, attack_picture

    how = Attempt("pgd", "rate", threat, eps, eot=EOT)
    return np.asarray(Image.open(io.BytesIO(attack_picture(codec, Picture(image, "RGB"), Settings(QUALITY), how)[0])))


def row_of_tiles(codec: Codec, image: Pixels, given: Pixels, title: str) -> tuple[dict[str, Any], list[Any]]:
    """What both settings make of a picture, and what one sees: the middle of it."""
    at = (slice(64, 64 + SIDE), slice(64, 64 + SIDE))
    change = np.clip(128 + 8 * (given.astype(int) - image), 0, 255).astype(np.uint8)
    tiles, found = [(f"input: {title}", given[at]), ("its change, x 8", change[at])], {}
    modes: dict[str, TransformMode] = {"undefended": "never", "two-way": "auto"}
    for name, mode in modes.items():
        data, clean = (codec.encode(Image.fromarray(x), QUALITY, transform=mode, seed=1) for x in (given, image))
        back = np.asarray(codec.decode(data))
        db = round(psnr(given, back), 2)
        found[name] = {
            "clean": len(clean),
            "bytes": len(data),
            "psnr": db,
            "psnr_original": round(psnr(image, back), 2),
        }
        tiles.append((f"{name}  {len(data)} B  {db:.2f} dB", back[at]))
    return found, tiles


def photograph_table(rows: list[dict[str, Any]]) -> str:
    names = [*FORMATS, "twc"]
    lines = ["| picture | bits a pixel | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for row in rows:
        cells = [f"{row[n]['psnr']:.2f}, {row[n]['ms_ssim']:.4f} ({row[n]['bytes']})" for n in names]
        lines.append(f"| {row['picture']} | {row['bpp']:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def attack_table(rows: list[dict[str, Any]]) -> str:
    lines = ["| picture | attacker | eps | undefended | two-way | PSNR, undefended | two-way |", "|---" * 7 + "|"]
    for row in rows:
        kinds = [row["undefended"], row["two-way"]]
        sizes = [f"{k['bytes']} ({100 * k['bytes'] / k['clean'] - 100:+.0f} %)" for k in kinds]
        cells = [row["picture"], row["threat"], str(row["eps"]), *sizes, *(f"{k['psnr']:.2f}" for k in kinds)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(known: dict[str, Any]) -> None:
    """Lay the tables between their marks in docs/gallery.md."""
    tables = {
        "photographs": photograph_table(known["photographs"]),
        "attacks": attack_table(known["attacks"]),
    }
    text = PAGE.read_text()
    for name, table in tables.items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        text = f"{before}<!-- {name} -->\n\n{table}\n\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    PAGE.write_text(text)


def main(what: str) -> None:
    if what == "page":
        return page(json.loads(RESULTS.read_text()))
    codec = twcodec.open_codec(device="cpu")
    made = {"photographs": photographs, "attacks": attacks}[what](codec)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known |= {"date": time.strftime("%Y-%m-%d"), "model": codec.model.name, **made}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__))
