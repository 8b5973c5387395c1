"""A results.json with made-up figures and the pictures of two examples, as `twc evaluate` would leave them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

MODELS = {"default": [2.0, 6.0], "mbt2018-mean": [4.0]}
DEFENCES = {
    "none": "The codec as it is.",
    "two-way": "As it is and under a random flip or turn; the better one is kept.",
    "best-of-8": "The best of all flips and turns.",
    "guard": "Two-way, and a plain DCT where both fail.",
}
STRENGTH = {"rate": 0.09, "distortion": 0.12, "joint": 0.15}
LEFT = {"none": 1.0, "two-way": 0.8, "best-of-8": 0.75, "guard": 0.45}  # of the undefended damage, adaptively
EPS = (2.0, 4.0, 8.0)


def span(mean: float, width: float) -> dict[str, float]:
    return {"mean": round(mean, 4), "low": round(mean - width, 4), "high": round(mean + width * 1.3, 4)}


def attacked_row(model, quality, objective, threat, eps, defence) -> dict:
    excess = STRENGTH[objective] * eps * LEFT[defence] * (0.6 if threat == "transfer" else 1) * (1 + quality / 20)
    excess *= 0.25 if threat == "random noise" else 1
    return {
        "model": model, "quality": quality, "attack": "noise" if threat == "random noise" else "pgd",
        "objective": objective, "threat": threat, "eps": eps, "defence": defence, "pictures": 24, "draws": 3,
        "bpp_ratio": span(1 + excess * 0.8, 0.03), "loss_ratio": span(1 + excess, 0.04),
        "worst_loss_ratio": round(1 + 1.9 * excess, 4), "delta_psnr": span(-1.4 * excess, 0.1),
        "delta_psnr_source": span(-2 * excess, 0.1), "delta_ms_ssim": span(-0.01 * excess, 0.001),
        "vi": span(4 * excess - 1, 0.3), "transformed_share": 0.6, "guard_share": 0.3 if defence == "guard" else 0.0,
        "encode_ms": 110.0, "decode_ms": 60.0,
    }  # fmt: skip


def clean_row(model, quality, defence) -> dict:
    return {
        "model": model, "quality": quality, "defence": defence, "bpp": 0.1 * quality + 0.1, "psnr": 27 + 1.6 * quality,
        "ms_ssim": 0.93 + 0.01 * quality, "loss": 0.3 + 0.15 * quality, "loss_ratio": span(0.999, 0.001),
        "transformed_share": 0.4, "guard_share": 0.0, "encode_ms": 60.0 if defence == "none" else 110.0, "decode_ms": 60.0,
    }  # fmt: skip


def curve(model, defence, condition) -> dict:
    more = 1.0 if condition == "clean" else 1 + 0.35 * LEFT[defence]
    points = [
        {"quality": q, "bpp": more * 0.09 * 1.45**q, "psnr": 27 + 1.7 * q - (more - 1), "ms_ssim": 0.9 + 0.01 * q}
        for q in (1.0, 3.0, 5.0, 7.0)
    ]
    return {"model": model, "defence": defence, "condition": condition, "points": points}


def results() -> dict:
    """Every list filled; the rows of one cell are null, as where nothing could be measured."""
    cases = [(m, q) for m, qualities in MODELS.items() for q in qualities]
    attacked = [
        attacked_row(m, q, objective, threat, eps, defence)
        for (m, q), objective, threat, eps, defence in itertools.product(
            cases, STRENGTH, ("adaptive", "transfer", "random noise"), EPS, DEFENCES
        )
    ]
    attacked[-1] |= {"loss_ratio": None, "bpp_ratio": {"mean": None, "low": None, "high": None}, "vi": None}
    conditions = ("clean", "rate, adaptive, eps 4", "joint, adaptive, eps 4")
    others = [name for name in DEFENCES if name != "none"]
    return {
        "version": 1, "date": "2026-11-25", "command": "twc evaluate pictures/ -o out --eps 2,4,8",
        "machine": "AMD EPYC, 2 processors", "twc": "0.1.0", "torch": "2.13.0+cpu", "seconds": 1234.5,
        "settings": {"eps": [2, 4, 8], "steps": 30, "eot": 20, "draws": 3, "crop": 256, "seed": 0},
        "models": [{"model": m, "digest": "ab12cd34ef56", "qualities": q} for m, q in MODELS.items()],
        "sanity": [
            {"name": "gradients are not zero", "holds": True, "detail": "smallest norm 1.2e-3"},
            {"name": "more steps do more damage", "holds": True, "detail": "1.31, 1.44, 1.48"},
        ],
        "defences": [{"name": name, "summary": summary} for name, summary in DEFENCES.items()],
        "curves": [curve(m, d, c) for m, d, c in itertools.product(MODELS, DEFENCES, conditions)],
        "bd_rate": [{"model": m, "defence": d, "condition": c, "percent": -0.1 if c == "clean" else -8.4}
                    for m, d, c in itertools.product(MODELS, others, conditions)],
        "clean": [clean_row(m, q, d) for (m, q), d in itertools.product(cases, DEFENCES)],
        "attacked": attacked,
        "removed": [
            {"model": m, "quality": q, "objective": o, "threat": t, "eps": e, "defence": d, "share": share(t, d)}
            for (m, q), o, t, e, d in itertools.product(cases, STRENGTH, ("adaptive", "transfer"), EPS, others)
        ],
        "examples": [],
    }  # fmt: skip


def share(threat: str, defence: str) -> float:
    return 1 - LEFT[defence] * (0.6 if threat == "transfer" else 1)


def example(folder: Path, number: int, picture: np.ndarray) -> dict:
    """The pictures of an example: noise as the attack, blurs as the reconstructions."""
    random = np.random.default_rng(number)
    noisy = np.clip(picture + random.integers(-8, 9, picture.shape), 0, 255).astype(np.uint8)
    files = {"original": picture, "attacked": noisy, "none": np.roll(noisy, 2, 1) // 2 + noisy // 2}
    files["two-way"] = noisy // 4 * 4
    (folder / "examples").mkdir(exist_ok=True)
    for name, pixels in files.items():
        Image.fromarray(pixels).save(folder / f"examples/{number}-{name}.png")
    shown = [
        {"defence": name, "reconstruction": f"examples/{number}-{name}.png", "bpp": bpp, "psnr": psnr, "loss": 2.2}
        for name, bpp, psnr in (("none", 1.9, 31.0), ("two-way", 1.5, 31.1))
    ]
    title = f"picture {number}, rate attack, adaptive, 4/255, default -q 6"
    original, attacked = (f"examples/{number}-{name}.png" for name in ("original", "attacked"))
    return {"title": title, "original": original, "attacked": attacked, "shown": shown}


def write(folder: Path, **changes) -> Path:
    """Put results.json and the examples' pictures into the folder; `changes` replace keys of the JSON object."""
    pictures = [skimage.data.astronaut()[:256, 100:356], skimage.data.chelsea()[:256, 100:420]]
    made = results() | {"examples": [example(folder, n, picture) for n, picture in enumerate(pictures)]} | changes
    (folder / "results.json").write_text(json.dumps(made))
    return folder
