"""Threat models: what an attacker knows of the defence, as the loss that the attack raises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from twcodec.codec import refine
from twcodec.codec.branch import Job
from twcodec.codec.candidates import PLAIN, Candidate, candidates
from twcodec.codec.settings import Settings
from twcodec.errors import UsageError
from twcodec.models.differentiable import Coded, Differentiable
from twcodec.models.differentiable_rate import Quantizer
from twcodec.robustness.objectives import objective
from twcodec.robustness.search import Loss
from twcodec.transforms import Draw

if TYPE_CHECKING:
    from twcodec.models.model import Model

Threat = Literal["none", "transfer", "white", "adaptive", "oracle", "black"]
Choice = Literal["min", "sum", "identity"]
"""How the encoder's choice is differentiated: through the branch that wins; through all of them, since the minimum
hides the gradient of those that lose; or as if there were only the picture as it is."""

Refine = Callable[[Tensor, Draw, Tensor, Tensor], Tensor]
"""Pictures x, how they were transformed, and the latents y and z of that, to refined y: (B, M, h, w)."""

THREATS = {
    "none": "no attacker: noise of the same size, as the control",
    "transfer": "knows the model, not that there is a defence",
    "white": "knows the method, and attacks one draw that is its own guess",
    "adaptive": "knows the method and the set of transforms, and averages over draws (all of them where it is finite)",
    "oracle": "knows the very seed that will be drawn: more than any attacker can",
    "black": "sees only what comes out: no gradients",
}


@dataclass(frozen=True)
class Attacker:
    """What is attacked, and how well it is known.

    lambda_: the model's at this quality. settings: the defence's: ways, transforms. eot: draws that an adaptive
    attacker averages over at most. seed: of its own guesses; for the oracle, that of the encoder. refine: what the
    defence does to latents, where the attacker knows of it: see `refinement`.
    """

    network: Differentiable
    quality: float
    lambda_: float
    objective: str
    threat: Threat
    settings: Settings
    quantizer: Quantizer = "ste"
    choice: Choice = "sum"
    eot: int = 20
    seed: int = 0
    refine: Refine | None = None

    def __post_init__(self) -> None:
        for name, value, kind in (
            ("threat", self.threat, Threat),
            ("choice", self.choice, Choice),
            ("quantizer", self.quantizer, Quantizer),
        ):
            if value not in get_args(kind):
                raise UsageError(f"{name} {value!r} is unknown; there are: {', '.join(get_args(kind))}")
        if self.eot < 1:
            raise UsageError(f"an expectation over {self.eot} draws; at least 1 is needed")

    def loss(self, source: Tensor) -> Loss:
        """What is raised, for these clean pictures: (B, 3, H, W) to (B,)."""
        height, width = source.shape[-2:]
        tried = self._tried(height, width)
        with torch.no_grad():
            clean = self._code(source, PLAIN)
        value = objective(self.objective, source, clean, self.lambda_)
        choose = _CHOICES["identity" if len(tried) == 1 else self.choice]

        def raised(x: Tensor) -> Tensor:
            coded = [self._code(x, candidate) for candidate in tried]
            return choose([value(x, c) for c in coded], [self._rd(x, c) for c in coded])

        return raised

    def _tried(self, height: int, width: int) -> list[Candidate]:
        """The branches that the attacker reckons with, the picture as it is first."""
        if self.threat in ("none", "transfer", "black") or self.settings.transform == "never":
            return [PLAIN]
        ways = {"adaptive": self.eot + 1, "white": 2}.get(self.threat, self.settings.ways)
        draws = Settings(ways=ways, transforms=self.settings.transforms, seed=self.seed)
        found = candidates(draws, height, width)
        return found[1:] if self.settings.transform == "always" else found

    def _code(self, x: Tensor, candidate: Candidate) -> Coded:
        draw, refining = candidate.draw, None
        if self.refine and self.threat not in ("none", "transfer", "black"):
            refining = partial(self.refine, x.detach(), draw)
        coded = self.network.code(draw.apply(x), self.quality, self.quantizer, refining)
        return Coded(draw.undo(coded.x_hat), coded.bits)

    def _rd(self, x: Tensor, coded: Coded) -> Tensor:
        """What the encoder compares: (B,)."""
        error = (coded.x_hat.detach().clamp(0, 1) - x.detach()).square().flatten(1).mean(1)
        return coded.bits.detach() / (x.shape[-2] * x.shape[-1]) + self.lambda_ * 255**2 * error


def refinement(model: Model, quality: float, settings: Settings) -> Refine | None:
    """The refining of latents that a defence does, for an attacker who does it at every step; None: it does none."""
    if not settings.effort:
        return None

    def refined(x: Tensor, draw: Draw, y: Tensor, z: Tensor) -> Tensor:
        samples = (x * 255).round().clamp(0, 255).to(torch.uint8)
        jobs = (Job(model, picture, 255, settings, quality) for picture in samples)
        return torch.stack([refine.refined(job, draw, *latents) for job, *latents in zip(jobs, y, z, strict=True)])

    return refined


def _through_the_winner(values: Sequence[Tensor], losses: Sequence[Tensor]) -> Tensor:
    """Each draw's game against the plain branch, averaged."""
    games = [
        torch.where(loss < losses[0], value, values[0]) for value, loss in zip(values[1:], losses[1:], strict=True)
    ]
    return torch.stack(games).mean(0)


def _through_all(values: Sequence[Tensor], _losses: Sequence[Tensor]) -> Tensor:
    """The plain branch counts as much as the average draw."""
    return (values[0] + torch.stack(list(values[1:])).mean(0)) / 2


def _through_the_first(values: Sequence[Tensor], _losses: Sequence[Tensor]) -> Tensor:
    return values[0]


_CHOICES: dict[str, Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]] = {
    "min": _through_the_winner,
    "sum": _through_all,
    "identity": _through_the_first,
}
