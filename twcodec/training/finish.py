"""From a trained network to a model file: the entropy part settled on real symbols, tables fitted, figures noted."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from twcodec.models.trainable import Network, build
from twcodec.training import fit_tables
from twcodec.training.crops import Loader, Photograph
from twcodec.training.evaluation import middle
from twcodec.training.objective import ROW_POWER
from twcodec.training.run import Run
from twcodec.training.soap import SOAP

QUANTILE_STEPS = 2000
FITTED_SIDE = 1024
"""Pixels a side of the middles of pictures that tables are fitted to: bounds memory and time."""


@dataclass(frozen=True)
class Finishing:
    """entropy_steps: with the transforms frozen and real symbols in place of noise. pictures: for fitting tables."""

    entropy_steps: int = 400
    entropy_lr: float = 1e-4
    pictures: int = 180


def finish(
    run: Run, photographs: Sequence[Photograph], how: Finishing, provenance: dict[str, Any], say: Callable[[str], None]
) -> bytes:
    """The model file of a run's averaged network."""
    network = run.averaged()
    say("settling the quantiles")
    settle_quantiles(network)
    if how.entropy_steps:
        say(f"settling the entropy part on real symbols, {how.entropy_steps} steps")
        settle_entropy(network, run, photographs, how)
    data = build(network, provenance)
    chosen = photographs[:: max(1, len(photographs) // how.pictures)][: how.pictures]
    say(f"fitting tables to {len(chosen)} pictures")
    return _fitted(data, chosen, run.device)


def settle_entropy(network: Network, run: Run, photographs: Sequence[Photograph], how: Finishing) -> None:
    """Train h_s, the parameter networks and the densities on rounded symbols of y and z, the transforms as they are.

    The main phase rates noisy latents, because their gradient is the better one for the transforms; what is coded are
    symbols, and their scales are smaller.
    """
    s = run.settings
    learnt = network.entropy_parameters()
    optimiser = SOAP(learnt, how.entropy_lr)
    loader = Loader(photographs, s.seed + 1, s.batch, s.patch, len(s.network.lambdas))
    lambdas = torch.tensor(s.network.lambdas, device=run.device)
    with contextlib.closing(loader):
        for step in range(how.entropy_steps):
            for group in optimiser.param_groups:
                group["lr"] = how.entropy_lr * 0.5 * (1 + math.cos(math.pi * step / how.entropy_steps))
            batch = loader(step)
            x, rows = batch.x.to(run.device), batch.rows.to(run.device)
            coded = network.code(*network.latents(x, rows, s.amp), s.amp, noise=False)
            weight = (lambdas[rows] / lambdas[len(lambdas) // 2]) ** ROW_POWER
            loss = (weight * (coded.y_bits + coded.z_bits)).mean() / (s.patch * s.patch)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learnt, s.clip)
            optimiser.step()


def settle_quantiles(network: Network, steps: int = QUANTILE_STEPS) -> None:
    """Move the bottleneck's quantiles to where its density says: their medians are what z is rounded around."""
    bottleneck = network.bottleneck
    optimiser = torch.optim.Adam([bottleneck.quantiles], lr=0.1)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 0.1 * (1 - step / steps) + 1e-4
        optimiser.zero_grad()
        bottleneck.loss().backward()
        optimiser.step()


def _fitted(data: bytes, photographs: Sequence[Photograph], device: torch.device) -> bytes:
    """Tables for the symbols that are coded with them; twice, because what is rounded to what depends on the tables."""
    for _ in range(2):
        data = fit_tables.fit(data, (middle(p, FITTED_SIDE) for p in photographs), device)
    return data
