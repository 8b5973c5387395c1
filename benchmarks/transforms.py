"""Is there a better set of transforms to draw from? Sets with more randomness beside flips and turns.

    python benchmarks/transforms.py run FOLDER [-q 2,6] [--pictures 4] [--ways 2,8] [--sets NAME,..] [--threats ..]
    python benchmarks/transforms.py costs FOLDER [-q 2,6] [--pictures 4]        what each costs on clean pictures
    python benchmarks/transforms.py control FOLDER [-q 2,6] [--pictures 4]      what changes cost any codec
    python benchmarks/transforms.py table FOLDER [--free FOLDER]    prints Markdown, writes results/transforms.json

The sets are those of random_transforms.py; only this process knows them. Whole files of 256 x 256 pixels from the
middle of Kodak pictures, PGD of 20 steps, eps 4. The adaptive attacker knows the set, differentiates through it, and
averages over the picture as it is and DRAWS draws that are new at each step. Every command goes on where it stopped.
A shift costs a row and a column of latents there; --crop 248 leaves room for one: --free, the folder of such a run.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import torch
from kodak import HERE, pictures
from random_transforms import SETS, WAYS, named, register
from torch import Tensor

import twcodec
from twcodec.codec.codec import Codec
from twcodec.codec.settings import Settings
from twcodec.imaging.picture import Picture
from twcodec.robustness import evaluation
from twcodec.robustness.aggregate import figures, interval
from twcodec.robustness.defences import Pixels, encoded, squared_error
from twcodec.robustness.evaluation import Evaluation, Plan, Source, sources
from twcodec.robustness.search import Loss
from twcodec.robustness.threats import Attacker

EPS, STEPS, DRAWS, CLEAN_DRAWS = 4.0, 20, 4, 7
OBJECTIVES = ("rate", "self-distortion")
Row = dict[str, Any]


class FreshDraws(Attacker):
    """The adaptive attacker of sets that are too large to try all of: other draws at each step."""

    def loss(self, source: Tensor) -> Loss:
        """As the attacker's, but each call goes on to the next `eot` draws."""
        if self.threat != "adaptive":
            return super().loss(source)
        seeds = (self.seed + step * self.eot for step in range(STEPS + 2))
        losses = cycle([Attacker.loss(replace(self, seed=seed), source) for seed in seeds])
        return lambda x: next(losses)(x)


def plan(options: argparse.Namespace) -> Plan:
    names = options.sets or SETS
    defences = ("none", *(named(name, ways) for ways, name in product(options.ways, names)))
    how = {"eps": (EPS,), "steps": STEPS, "eot": DRAWS, "draws": 2, "crop": options.crop}
    return Plan(options.qualities, defences, threats=options.threats, **how)


def prepared(options: argparse.Namespace) -> Evaluation:
    """The evaluation, with the experiment's transforms and attacker in this process."""
    register()
    setattr(evaluation, Attacker.__name__, FreshDraws)  # where it makes its attackers
    chosen = pictures()[:: max(1, 24 // options.pictures)][: options.pictures]
    codec = twcodec.open_codec(device="cpu", precision="fp32")
    return Evaluation(codec, sources(chosen, options.crop), plan(options), options.folder)


def run(options: argparse.Namespace) -> None:
    begun = time.monotonic()
    prepared(options).run(lambda done, total: print(f"{done} of {total}, {time.monotonic() - begun:.0f} s", flush=True))


class Lines:
    """Rows that are kept in a file as they come, and not computed again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[Row] = [json.loads(line) for line in lines]

    def missing(self, wanted: Iterator[Row]) -> Iterator[Row]:
        known = {json.dumps(row["key"]) for row in self.rows}
        return (key for key in wanted if json.dumps(key) not in known)

    def keep(self, key: Row, found: Row) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"key": key, **found}) + "\n")


def costs(options: argparse.Namespace) -> None:
    """Of clean pictures: each draw's branch over the plain branch, and the time that two ways take."""
    it = prepared(options)
    lines = Lines(options.folder / "costs.jsonl")
    by_name = {p.name: p for p in it.pictures}
    wanted = product(it.plan.qualities, by_name, options.sets or SETS)
    for key in lines.missing({"quality": q, "picture": p, "set": s} for q, p, s in wanted):
        lines.keep(key, _cost(it.codec, by_name[key["picture"]], key["quality"], SETS[key["set"]]))


def _cost(codec: Codec, source: Source, quality: float, transforms: tuple[str, ...]) -> Row:
    picture, settings = Picture(source.pixels, "RGB"), Settings(quality, ways=1 + CLEAN_DRAWS, transforms=transforms)
    seeded = replace(settings, seed=zlib.crc32(source.name.encode()))
    plain, *drawn = codec.encode_picture(picture, seeded)[1].branches
    ms = {ways: min(_ms(codec, picture, replace(seeded, ways=ways)) for _ in range(3)) for ways in (1, 2)}
    return {"ratios": [branch.loss / plain.loss for branch in drawn], "one_way_ms": ms[1], "two_way_ms": ms[2]}


def _ms(codec: Codec, picture: Picture, settings: Settings) -> float:
    begun = time.perf_counter()
    codec.encode_picture(picture, settings)
    return 1e3 * (time.perf_counter() - begun)


def control(options: argparse.Namespace) -> None:
    """What the transferred attack's own change costs when each value's sign is drawn anew: no search is left in it."""
    it = prepared(options)
    lines = Lines(options.folder / "control.jsonl")
    by_name = {p.name: p for p in it.pictures}
    wanted = product(it.plan.qualities, OBJECTIVES, by_name)
    for key in lines.missing({"quality": q, "objective": o, "picture": p} for q, o, p in wanted):
        condition = {"attack": "pgd", "objective": key["objective"], "threat": "transfer", "eps": EPS}
        clean = by_name[key["picture"]].pixels
        given = it.given(key["quality"], condition, key["picture"])
        found = {"clean": clean, "attacked": given, "scrambled": _scrambled(clean, given)}
        losses = {name: _loss(it.codec, pixels, key["quality"]) for name, pixels in found.items()}
        rms = {name: squared_error(pixels, clean) ** 0.5 for name, pixels in found.items()}
        lines.keep(key, {"loss": losses, "rms": rms})


def _scrambled(clean: Pixels, given: Pixels) -> Pixels:
    signs = np.random.default_rng(0).choice((-1, 1), clean.shape)
    scrambled: Pixels = np.clip(clean + signs * (given.astype(int) - clean), 0, 255).astype(np.uint8)
    return scrambled


def _loss(codec: Codec, pixels: Pixels, quality: float) -> float:
    found = encoded(codec, pixels, Settings(quality, transform="never"))
    error = squared_error(found.pixels, pixels)
    return 8 * found.size / pixels[..., 0].size + codec.model.lambda_(quality) * error


def table(options: argparse.Namespace) -> None:
    register()
    rows = Lines(options.folder / "rows.jsonl").rows
    found = figures(rows)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "attack": f"pgd, {STEPS} steps, eps {EPS:g}, {DRAWS} new draws a step, choice sum; crops of {options.crop}",
        "pictures": sorted({row["picture"] for row in rows}),
        "clean": clean_costs(Lines(options.folder / "costs.jsonl").rows),
        "control": controls(Lines(options.folder / "control.jsonl").rows),
        "removed": removed(found),
        "best of all, transferred": best_of_all(rows),
        "crops of 248": where_shifts_are_free(options.free) if options.free else {},
        "sanity": found["sanity"] + [never_worse(rows)],
    }
    print_table(result)
    print(json.dumps({name: result[name] for name in ("control", "best of all, transferred", "sanity")}, indent=1))
    (HERE / "results" / "transforms.json").write_text(json.dumps(result, indent=1) + "\n")


def where_shifts_are_free(folder: Path) -> dict[str, list[Row]]:
    attacked = removed(figures(Lines(folder / "rows.jsonl").rows))
    return {"clean": clean_costs(Lines(folder / "costs.jsonl").rows), "removed": attacked}


def clean_costs(rows: list[Row]) -> list[Row]:
    """By set and quality: the loss of a file that is always transformed, and of the better of the two, over plain."""
    out = []
    for name, quality in product(SETS, sorted({row["key"]["quality"] for row in rows})):
        own = [row for row in rows if (row["key"]["set"], row["key"]["quality"]) == (name, quality)]
        ratios = np.array([ratio for row in own for ratio in row["ratios"]])
        if own:
            out.append(
                {
                    "set": name,
                    "quality": quality,
                    "pictures": len(own),
                    "always": float(ratios.mean()),
                    "chosen": float((ratios < 1).mean()),
                    "two-way": float(np.minimum(ratios, 1).mean()),
                    "time": float(np.median([row["two_way_ms"] / row["one_way_ms"] for row in own])),
                }
            )
    return out


def controls(rows: list[Row]) -> list[Row]:
    """The share of the transferred attack's excess loss that the same change costs without its structure."""
    out = []
    for quality, objective in sorted({(row["key"]["quality"], row["key"]["objective"]) for row in rows}):
        own = [row for row in rows if (row["key"]["quality"], row["key"]["objective"]) == (quality, objective)]
        excess = {
            name: float(np.mean([row["loss"][name] / row["loss"]["clean"] - 1 for row in own]))
            for name in ("attacked", "scrambled")
        }
        rms = float(np.mean([row["rms"]["attacked"] for row in own]))
        share = excess["scrambled"] / excess["attacked"]
        out.append({"quality": quality, "objective": objective, "rms": rms, "excess": excess, "share": share})
    return out


def removed(found: dict[str, Any]) -> list[Row]:
    """Every attacked cell: what is left of the loss, and the share of the undefended excess that is gone."""
    names = ("quality", "objective", "threat", "defence")
    shares = {tuple(row[n] for n in names): row["share"] for row in found["removed"]}
    return [
        {
            **{n: row[n] for n in names},
            "pictures": row["pictures"],
            "loss": row["loss_ratio"],
            "worst": row["worst_loss_ratio"],
            "bpp": row["bpp_ratio"]["mean"],
            "removed": shares.get(tuple(row[n] for n in names)),
        }
        for row in found["attacked"]
    ]


def best_of_all(rows: list[Row]) -> list[Row]:
    """If all branches of all sets were tried: the lowest loss of any file of the same attacked picture."""
    clean = {(r["quality"], r["picture"]): r["loss"] for r in rows if not r["attack"] and r["defence"] == "none"}
    out = []
    for quality, objective in sorted({(r["quality"], r["objective"]) for r in rows if r["threat"] == "transfer"}):
        own = [r for r in rows if (r["quality"], r["objective"], r["threat"]) == (quality, objective, "transfer")]
        ratios: dict[str, list[float]] = {}
        for row in own:
            ratios.setdefault(row["picture"], []).append(row["loss"] / clean[quality, row["picture"]])
        plain = np.mean([r["loss"] / clean[quality, r["picture"]] for r in own if r["defence"] == "none"])
        lowest = interval([min(found) for found in ratios.values()])
        share = float(1 - (lowest["mean"] - 1) / (plain - 1))
        out.append({"quality": quality, "objective": objective, "loss": lowest, "removed": share})
    return out


def never_worse(rows: list[Row]) -> Row:
    """Two-way files beside one-way files of the very same picture."""
    names = ("quality", "objective", "attack", "picture")
    same = [row for row in rows if row["threat"] != "adaptive"]
    plain = {tuple(r[n] for n in names): r["loss"] for r in same if r["defence"] == "none"}
    worse = [r["defence"] for r in same if r["loss"] > plain[tuple(r[n] for n in names)] * (1 + 1e-9)]
    return {"name": "no file is worse than the one-way file", "holds": not worse, "detail": ", ".join(worse[:5])}


def print_table(result: dict[str, Any]) -> None:
    """A row for each defence: what it costs on clean pictures, the share of each attack that is gone, and the worst."""
    attacks = [(objective, threat) for objective in OBJECTIVES for threat in ("transfer", "adaptive")]
    columns = [
        "always",
        "chosen",
        "two-way",
        *(f"{objective}, {threat}" for objective, threat in attacks),
        "worst rate",
    ]
    print("\n| drawn from | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for ways, name in product(WAYS, SETS):
        own = [row for row in result["removed"] if row["defence"] == named(name, ways) and row["objective"]]
        if own:
            clean = [row for row in result["clean"] if row["set"] == name and ways == WAYS[0]]
            cells = [[f"{row['always']:.4f}" for row in clean], [f"{row['chosen']:.0%}" for row in clean]]
            cells += [[f"{row['two-way']:.4f}" for row in clean]]
            cells += [
                _shares([row for row in own if (row["objective"], row["threat"]) == attack]) for attack in attacks
            ]
            cells += [[f"{max(row['worst'] for row in group):.2f}" for group in _by_quality(own, "rate")]]
            print(f"| {named(name, ways)} | " + " | ".join(" / ".join(cell) for cell in cells) + " |")


def _shares(rows: list[Row]) -> list[str]:
    return [f"{row['removed']:.0%}" for row in sorted(rows, key=lambda row: row["quality"])]


def _by_quality(rows: list[Row], objective: str) -> list[list[Row]]:
    own = [row for row in rows if row["objective"] == objective]
    return [[row for row in own if row["quality"] == quality] for quality in sorted({row["quality"] for row in own})]


def numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def main() -> None:
    commands = {"run": run, "costs": costs, "control": control, "table": table}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=commands)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-q", "--qualities", type=numbers, default=(2.0, 6.0))
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--ways", type=lambda text: tuple(map(int, text.split(","))), default=(2,))
    parser.add_argument("--sets", type=words, default=())
    parser.add_argument("--threats", type=words, default=("transfer", "adaptive"))
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--free", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    commands[options.command](options)


if __name__ == "__main__":
    main()
