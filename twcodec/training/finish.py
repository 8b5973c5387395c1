"""From a trained network to a model file: the quantiles settled, the tables fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from twcodec.models.trainable import Network, build
from twcodec.training import fit_tables
from twcodec.training.crops import Photograph
from twcodec.training.evaluation import middle
from twcodec.training.run import Run

QUANTILE_STEPS = 2000
FITTED_PICTURES, FITTED_SIDE = 180, 1024
"""How many pictures tables are fitted to, and pixels a side of their middles: bounds memory and time."""


def finish(
    run: Run, photographs: Sequence[Photograph], provenance: dict[str, Any], say: Callable[[str], None]
) -> bytes:
    """The model file of a run's averaged network.

    Tables are fitted twice, because what is rounded to what depends on them.
    """
    network = run.averaged()
    say("settling the quantiles")
    settle_quantiles(network)
    data = build(network, provenance)
    chosen = photographs[:: max(1, len(photographs) // FITTED_PICTURES)][:FITTED_PICTURES]
    say(f"fitting tables, pictures: {len(chosen)}")
    for _ in range(2):
        data = fit_tables.fit(data, (middle(photo, FITTED_SIDE) for photo in chosen), run.device)
    return data


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
