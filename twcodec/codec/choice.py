"""Which branch is sent: the lowest loss of the file that would be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twcodec.codec.branch import Branch
    from twcodec.models.model import Model

ESTIMATE_ERROR = 0.001
"""The tables' estimate and the coded length differ by less than this share, and `ESTIMATE_BITS`; a test holds it."""

ESTIMATE_BITS = 64


@dataclass(frozen=True)
class Scored:
    """A branch with its loss. payload: its coded symbols, where it was a contender. loss: bits a pixel + penalty."""

    branch: Branch
    estimated_bits: float
    penalty: float
    loss: float
    payload: bytes | None = None


def score(branches: list[Branch], model: Model, overhead_bytes: int, pixels: int) -> list[Scored]:
    """Losses of all branches: estimated, and exact for those that could win.

    overhead_bytes: of the file, beside the coded symbols. pixels: of the picture as it was given, in every branch.
    Branches whose estimates differ by less than the estimate's own error are coded, so that a two-way file is never
    worse than the one-way file, not even by a byte. Branches whose symbols are still to be found are not coded.
    """
    estimates = [(float(b.bits.item()), float(b.penalty.item())) for b in branches]
    margins = [ESTIMATE_ERROR * bits + ESTIMATE_BITS for bits, _ in estimates]
    losses = [(bits + 8 * overhead_bytes) / pixels + penalty for bits, penalty in estimates]
    ceiling = min(loss + margin / pixels for loss, margin in zip(losses, margins, strict=True))
    scored = []
    for branch, (bits, penalty), margin, loss in zip(branches, estimates, margins, losses, strict=True):
        payload = None
        if branch.latents is None and loss - margin / pixels <= ceiling:
            payload = model.family.entropy.encode(branch.symbols)
            loss = 8 * (len(payload) + overhead_bytes) / pixels + penalty
        scored.append(Scored(branch, bits, penalty, loss, payload))
    return scored


def best(scored: list[Scored]) -> int:
    """The index of the winner; ties go to the first, which is the picture as it is."""
    contenders = [i for i, s in enumerate(scored) if s.payload is not None] or range(len(scored))
    return min(contenders, key=lambda i: (scored[i].loss, i))
