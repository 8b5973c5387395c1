"""The pictures of docs/defence.md, and the figures beneath them: three photographs, attacked and defended.

    python benchmarks/defence_pictures.py            writes results/defence-pictures.json and the pictures
    python benchmarks/defence_pictures.py --tables   prints the page's tables from the JSON

Each photograph is a square of 256 pixels of one that ships with scikit-image. It is attacked at 8/255 for its rate by
PGD, once by an attacker who knows the model only (transfer), once by one who attacks the picture and all seven flips
and turns at once (adaptive). What is counted are whole files at -q 4 that were decoded again. A two-way file is that of
the lower loss, of the picture as it is and of one draw; means are over all seven draws, so no seed flatters them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw

import twcodec
from twcodec.codec.runtime import running
from twcodec.codec.settings import Settings
from twcodec.robustness.attacks import attacked
from twcodec.robustness.defences import encoded, squared_error
from twcodec.robustness.search import Budget
from twcodec.robustness.threats import Attacker
from twcodec.transforms import BY_NAME

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "defence-pictures.json"
IMAGES = ROOT / "docs" / "images"
PLACES = {"astronaut": (0, 100), "coffee": (60, 200), "chelsea": (20, 100)}
SIDE, QUALITY, EPS, STEPS, AMPLIFIED = 256, 4.0, 8.0, 20, 8
GIVEN = {
    "clean": "as it is",
    "noise": "noise of 8/255",
    "transfer": "attacked, defence unknown",
    "adaptive": "attacked, defence known",
}
MARGIN, TITLE = 6, 16


@dataclass(frozen=True)
class Coded:
    """One file, decoded. draw: "as it is", or how the picture was turned."""

    draw: str
    size: int
    pixels: np.ndarray
    psnr: float
    loss: float


def photograph(name: str) -> np.ndarray:
    top, left = PLACES[name]
    return np.ascontiguousarray(getattr(skimage.data, name)()[top : top + SIDE, left : left + SIDE])


def members() -> dict[int, str]:
    """A seed for each of the seven flips and turns, and what it does."""
    found: dict[object, int] = {}
    for seed in range(256):
        found.setdefault(BY_NAME["flip-turn"].from_seed(seed, SIDE, SIDE), seed)
    named = sorted(found.items(), key=lambda pair: pair[0].turn)  # type: ignore[attr-defined]
    return {seed: ", ".join(k.replace("_", " ") for k, v in draw.describe().items() if v) for draw, seed in named}  # type: ignore[attr-defined]


def given_pictures(codec, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """(B, H, W, 3) each: what the encoder gets."""
    model = codec.model
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    out = {"clean": pixels}
    with running(model.device, None):
        for kind in ("noise", "transfer", "adaptive"):
            threat = "transfer" if kind == "noise" else kind
            attacker = Attacker(
                model.differentiable,
                QUALITY,
                model.lambda_(QUALITY),
                "rate",
                threat,
                Settings(transforms=("flip-turn",)),
            )
            budget = Budget(EPS, STEPS, EPS / 4)
            found = attacked("noise" if kind == "noise" else "pgd", attacker.loss(x), x, budget)
            out[kind] = (found * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return out


def branches(codec, given: np.ndarray) -> list[Coded]:
    """The picture as it is, then the seven draws."""
    weight, out = codec.model.lambda_(QUALITY), []
    for seed, name in {None: "as it is", **members()}.items():
        how = {"transform": "never"} if seed is None else {"transform": "always", "seed": seed}
        made = encoded(codec, given, Settings(QUALITY, transforms=("flip-turn",), **how))
        error = squared_error(made.pixels, given)
        loss = 8 * made.size / given[..., 0].size + weight * error
        out.append(Coded(name, made.size, made.pixels, 10 * np.log10(255**2 / error), loss))
    return out


def two_way(tried: list[Coded]) -> list[Coded]:
    """The file that would be written for each of the seven draws."""
    return [min((tried[0], draw), key=lambda coded: coded.loss) for draw in tried[1:]]


def where_bits_are(codec, given: np.ndarray) -> np.ndarray:
    """(16, 16): bits of each latent position, all channels."""
    x = torch.from_numpy(given.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        network = codec.model.differentiable
        rated = network.rate(*network.analyse(x, QUALITY))
        return network.cost(rated.symbols, rated.index)[0].sum(0).numpy()


def row(tried: list[Coded]) -> dict[str, object]:
    chosen = two_way(tried)
    return {
        "undefended": {"bytes": tried[0].size, "psnr": round(tried[0].psnr, 2), "loss": round(tried[0].loss, 4)},
        "two_way": {
            "bytes": round(float(np.mean([c.size for c in chosen]))),
            "psnr": round(float(np.mean([c.psnr for c in chosen])), 2),
            "loss": round(float(np.mean([c.loss for c in chosen])), 4),
            "transformed": sum(c.draw != "as it is" for c in chosen),
        },
        "branches": {c.draw: c.size for c in tried},
    }


def measure() -> None:
    codec = twcodec.open_codec(device="cpu")
    pixels = np.stack([photograph(name) for name in PLACES])
    given = given_pictures(codec, pixels)
    tried = {name: {kind: branches(codec, given[kind][i]) for kind in GIVEN} for i, name in enumerate(PLACES)}
    results = {
        "command": "python benchmarks/defence_pictures.py",
        "twc": twcodec.__version__,
        "model": codec.model.name,
        "quality": QUALITY,
        "eps": EPS,
        "steps": STEPS,
        "pictures": {name: {kind: row(found) for kind, found in kinds.items()} for name, kinds in tried.items()},
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    draw_branches(given, tried["astronaut"])
    draw_reconstructions(given, tried)
    draw_bits(codec, given, tried)


class Sheet:
    """Tiles with a line of text above each."""

    def __init__(self, rows: int, columns: int, side: int) -> None:
        self._side = side
        self.image = Image.new("RGB", (columns * (side + MARGIN), rows * (side + TITLE + MARGIN)), "white")
        self._draw = ImageDraw.Draw(self.image)

    def put(self, row: int, column: int, pixels: np.ndarray, text: str) -> None:
        left, top = column * (self._side + MARGIN), row * (self._side + TITLE + MARGIN)
        smooth = pixels.shape[0] > self._side
        how = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
        tile = Image.fromarray(np.ascontiguousarray(pixels)).resize((self._side, self._side), how)
        self.image.paste(tile, (left, top + TITLE))
        self._draw.text((left + 2, top + 2), text, fill="black")

    def save(self, name: str, quality: int = 80) -> None:
        IMAGES.mkdir(exist_ok=True)
        self.image.save(IMAGES / name, quality=quality, method=6)


def draw_branches(given: dict[str, np.ndarray], tried: dict[str, list[Coded]]) -> None:
    """What each branch of the first photograph costs, before the attacks and after."""
    kinds = ("clean", "transfer", "adaptive")
    sheet = Sheet(len(kinds), 8, 140)
    seeds = list(members())
    for i, kind in enumerate(kinds):
        best = min(range(8), key=lambda j: tried[kind][j].loss)
        for j, coded in enumerate(tried[kind]):
            pixels = given[kind][0]
            if j:
                draw = BY_NAME["flip-turn"].from_seed(seeds[j - 1], SIDE, SIDE)
                pixels = draw.apply(torch.from_numpy(pixels).permute(2, 0, 1)).permute(1, 2, 0).numpy()
            sheet.put(i, j, pixels, f"{coded.size} bytes{' *' if j == best else ''}")
    sheet.save("defence-branches.webp", 70)


def draw_reconstructions(given: dict[str, np.ndarray], tried: dict[str, dict[str, list[Coded]]]) -> None:
    """The photographs, the attack without knowledge of the defence, and both files of it."""
    sheet = Sheet(len(PLACES), 6, 220)
    for i, (name, kinds) in enumerate(tried.items()):
        source, attack = given["clean"][i], given["transfer"][i]
        plain, chosen = kinds["transfer"][0], two_way(kinds["transfer"])[0]
        sheet.put(i, 0, source, f"photograph: {kinds['clean'][0].size} bytes")
        sheet.put(i, 1, attack, "attacked")
        sheet.put(i, 2, difference(attack, source), f"the attack, times {AMPLIFIED}")
        sheet.put(i, 3, plain.pixels, f"undefended: {plain.size} bytes")
        sheet.put(i, 4, chosen.pixels, f"two-way: {chosen.size} bytes")
        sheet.put(i, 5, difference(chosen.pixels, attack), f"two-way less attacked, times {AMPLIFIED}")
        assert name in PLACES
    sheet.save("defence-reconstructions.webp")


def draw_bits(codec, given: dict[str, np.ndarray], tried: dict[str, dict[str, list[Coded]]]) -> None:
    """Bits of each block of 16 x 16 pixels, on one scale a photograph."""
    columns = {"clean": "as it is", "transfer": "attacked", "turned": "attacked, turned half"}
    sheet = Sheet(len(PLACES), len(columns), 200)
    for i, name in enumerate(PLACES):
        turned = given["transfer"][i][::-1, ::-1]
        maps = [where_bits_are(codec, p) for p in (given["clean"][i], given["transfer"][i], turned)]
        maps[2] = maps[2][::-1, ::-1]
        top = max(float(m.max()) for m in maps)
        for j, (found, text) in enumerate(zip(maps, columns.values(), strict=True)):
            level = (255 * found / top).astype(np.uint8)
            sheet.put(i, j, np.stack([level] * 3, 2), f"{text}: {found.sum() / 8:.0f} bytes")
        assert name in tried
    sheet.save("defence-bits.webp")


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Grey is none."""
    return np.clip(128 + AMPLIFIED * (a.astype(int) - b), 0, 255).astype(np.uint8)


def tables(results: dict) -> str:
    """The page's first table."""
    lines = [
        "| photograph | given | undefended | two-way | transformed branch wins |",
        "|---|---|---|---|---|",
    ]
    for name, kinds in results["pictures"].items():
        for kind, found in kinds.items():
            cells = (f"{f['bytes']:,} bytes, {f['psnr']:.2f} dB" for f in (found["undefended"], found["two_way"]))
            lines.append(f"| {name} | {GIVEN[kind]} | {' | '.join(cells)} | {found['two_way']['transformed']} of 7 |")
    return "\n".join(lines)


def means(results: dict) -> str:
    """Lines of the page's second table: means over the photographs, against their own files."""

    def ratio(kind: str, what: str, figure: str) -> float:
        pictures = results["pictures"].values()
        return float(np.mean([p[kind][what][figure] / p["clean"][what][figure] for p in pictures]))

    lines = []
    for kind in ("noise", "transfer", "adaptive"):
        bytes_, losses = (
            [ratio(kind, what, figure) for what in ("undefended", "two_way")] for figure in ("bytes", "loss")
        )
        removed = f"{100 * (1 - (losses[1] - 1) / (losses[0] - 1)):.0f} %"
        lines.append(f"| {GIVEN[kind]} | {' | '.join(f'x {n:.2f}' for n in (*bytes_, *losses))} | {removed} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="only print what the JSON says")
    if not parser.parse_args().tables:
        measure()
    results = json.loads(RESULTS.read_text())
    print(f"{tables(results)}\n\n{means(results)}")


if __name__ == "__main__":
    main()
