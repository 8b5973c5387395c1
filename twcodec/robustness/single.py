"""One picture attacked, for the command line."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from twcodec.codec.codec import Codec
from twcodec.codec.runtime import running
from twcodec.codec.settings import Settings
from twcodec.errors import UsageError
from twcodec.imaging.picture import Picture
from twcodec.models.differentiable_rate import Quantizer
from twcodec.robustness.attacks import attacked
from twcodec.robustness.defences import Pixels, encoded, squared_error
from twcodec.robustness.search import Budget
from twcodec.robustness.threats import Attacker, Choice, Threat, refinement


@dataclass(frozen=True)
class Attempt:
    """An attack by its options: see `Budget` and `Attacker`."""

    attack: str
    objective: str
    threat: Threat
    eps: float
    steps: int = 50
    alpha: float | None = None
    restarts: int = 1
    eot: int = 20
    quantizer: Quantizer = "ste"
    choice: Choice = "sum"
    seed: int = 0


def attack_picture(codec: Codec, picture: Picture, settings: Settings, how: Attempt) -> tuple[bytes, dict[str, Any]]:
    """A PNG of the adversarial picture, and what real files of both pictures cost and show.

    settings: of the codec that is attacked; its seed is that of the draw which the oracle knows and the report uses.
    UsageError: what cannot be attacked.
    """
    if picture.samples.dtype != np.uint8:
        raise UsageError("pictures of 16 bits cannot be attacked")
    model = codec.model
    quality = model.check_quality(settings.quality)
    colour = (*picture.samples.shape[:2], 3)
    pixels: Pixels = np.ascontiguousarray(np.broadcast_to(picture.samples, colour)).astype(np.uint8)
    if picture.depth == 1:
        pixels *= 255
    alpha = max(1.0, how.eps / 4) if how.alpha is None and how.attack in _STEPPING else how.alpha
    budget = Budget(how.eps, how.steps, alpha, how.restarts, how.seed)
    x = torch.from_numpy(pixels.copy()).to(model.device).permute(2, 0, 1)[None].float() / 255
    guess = settings.seed if how.threat == "oracle" and settings.seed is not None else how.seed + 1
    with running(model.device, None):
        lambda_ = model.lambda_(quality)
        known = how.objective, how.threat, settings, how.quantizer, how.choice, how.eot, guess
        attacker = Attacker(model.differentiable, quality, lambda_, *known, refinement(model, quality, settings))
        found = attacked(how.attack, attacker.loss(x), x, budget)
    adversarial: Pixels = (found[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    figures: dict[str, Any] = {"attack": vars(how) | {"alpha": alpha}, "model": model.name, "quality": quality}
    undefended = replace(settings, transform="never", effort=0)
    for name, given in (("clean", pixels), ("attacked", adversarial)):
        figures[name] = {
            "undefended": _figures(codec, given, pixels, replace(undefended, quality=quality)),
            "defended": _figures(codec, given, pixels, replace(settings, quality=quality)),
        }
    file = io.BytesIO()
    Image.fromarray(adversarial).save(file, "PNG")
    return file.getvalue(), figures


_STEPPING = ("ifgsm", "mifgsm", "pgd", "pgd-l2")
"""Attacks for which a step of a quarter of eps is much stronger than the usual 2.5 eps / steps."""


def _figures(codec: Codec, given: Pixels, source: Pixels, settings: Settings) -> dict[str, float]:
    outcome = encoded(codec, given, settings)
    error, bpp = squared_error(outcome.pixels, given), 8 * outcome.size / given[..., 0].size
    loss = bpp + codec.model.lambda_(codec.model.check_quality(settings.quality)) * error
    return {
        "bytes": outcome.size,
        "bpp": bpp,
        "psnr": _psnr(error),
        "psnr_source": _psnr(squared_error(outcome.pixels, source)),
        "loss": loss,
    }


def _psnr(error: float) -> float:
    """dB, of square 8-bit levels; 99 for none."""
    return 10 * math.log10(255**2 / error) if error else 99.0
