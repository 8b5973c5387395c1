"""What an encoding did, for `--json` and for the evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twcodec.codec.distortion import psnr

if TYPE_CHECKING:
    from twcodec.codec.choice import Guarded, Scored

GUARD = "guard"
"""Stands where a branch has the name of its transform."""


@dataclass(frozen=True)
class BranchReport:
    """One branch. estimated_bytes: of the coded symbols, from the tables. payload_bytes: as coded, if it was.

    transform: `GUARD` for the AVIF stream, whose bytes are not estimated; `parameters` has its quality then.
    """

    transform: str
    seed: int
    parameters: dict[str, int | bool]
    estimated_bytes: float
    payload_bytes: int | None
    psnr: float
    loss: float
    chosen: bool


@dataclass(frozen=True)
class Report:
    """One encoding. bpp: of the whole file, over the pixels of the picture as given. psnr: dB, infinite if exact.

    precision: in which psnr and loss of the branch that was chosen were computed; the decoder's is "fp32". In "bf16"
    the mean squared error may be some 0.5 % off.
    """

    width: int
    height: int
    mode: str
    model: str
    quality: float
    metric: str
    bytes: int
    bpp: float
    psnr: float
    loss: float
    precision: str
    branches: tuple[BranchReport, ...]
    warnings: tuple[str, ...] = ()

    @property
    def chosen(self) -> BranchReport:
        """The branch in the file."""
        return next(branch for branch in self.branches if branch.chosen)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries; an infinite PSNR becomes None."""
        out = dict(vars(self))
        out["branches"] = [{**vars(b), "psnr": _finite(b.psnr)} for b in self.branches]
        return {
            **out,
            "psnr": _finite(self.psnr),
            "warnings": list(self.warnings),
            "chosen": self.branches.index(self.chosen),
        }


def branch_report(scored: Scored, chosen: bool) -> BranchReport:
    """The report of one branch."""
    candidate = scored.branch.candidate
    return BranchReport(
        transform=candidate.name,
        seed=candidate.seed,
        parameters=candidate.draw.describe(),
        estimated_bytes=scored.estimated_bits / 8,
        payload_bytes=None if scored.payload is None else len(scored.payload),
        psnr=psnr(float(scored.branch.error.item())),
        loss=scored.loss,
        chosen=chosen,
    )


def guard_report(guarded: Guarded, chosen: bool) -> BranchReport:
    """The report of the guard, as of one more branch."""
    made = guarded.guard
    return BranchReport(
        transform=GUARD,
        seed=0,
        parameters={"quality": made.quality},
        estimated_bytes=float(len(made.payload)),
        payload_bytes=len(made.payload),
        psnr=psnr(guarded.error),
        loss=guarded.loss,
        chosen=chosen,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
