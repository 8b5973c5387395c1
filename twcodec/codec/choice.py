"""Which branch is sent: the lowest loss of the file that would be written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from twcodec.codec import grid, guard
from twcodec.codec.branch import compared
from twcodec.codec.branch import measured as measured_branch

if TYPE_CHECKING:
    from twcodec.codec.branch import Branch, Job
    from twcodec.codec.guard import Guard
    from twcodec.imaging.picture import Picture

ESTIMATE_ERROR = 0.0002
"""The tables' estimate and the coded length differ by less than this share, and `ESTIMATE_BITS`; a test holds it."""

ESTIMATE_BITS = 64


DOUBT, LEAST_DOUBT = 0.002, 0.02
"""Share of the mean squared error, and square levels of 8 bits beside it, by which the errors of two branches of one
picture, scored in bfloat16, may differ from what they differ by in float32; benchmarks/precision.py measures it."""


@dataclass(frozen=True)
class Scored:
    """A branch with its loss: bits a pixel + penalty. payload: its coded symbols, where it was a contender.

    doubt: what its loss must be below that of the picture as it is, to be sure.
    """

    branch: Branch
    estimated_bits: float
    penalty: float
    loss: float
    doubt: float
    payload: bytes | None = None

    @property
    def rank(self) -> float:
        """What is compared."""
        return self.loss + self.doubt


def score(branches: list[Branch], job: Job, overhead_bytes: int) -> list[Scored]:
    """Losses of all branches: estimated, and exact for those that could win.

    overhead_bytes: of the file, beside the coded symbols. Pixels are those of the picture as it was given, in every
    branch. Branches whose estimates differ by less than the estimate's own error are coded, so that a two-way file is
    never worse than the one-way file, not even by a byte. Branches whose symbols are still to be found are not coded.
    """
    pixels = job.samples[0].numel()
    estimates = [_estimated(branch, job, overhead_bytes) for branch in branches]
    margins = [(ESTIMATE_ERROR * s.estimated_bits + ESTIMATE_BITS) / pixels for s in estimates]
    ceiling = min(s.rank + margin for s, margin in zip(estimates, margins, strict=True))
    scored = []
    for s, margin in zip(estimates, margins, strict=True):
        contends = s.branch.latents is None and s.rank - margin <= ceiling
        scored.append(_coded(s, job, overhead_bytes) if contends else s)
    return scored


def _coded(scored: Scored, job: Job, overhead_bytes: int) -> Scored:
    """With the branch's symbols coded, and the loss of that very file."""
    payload = job.model.family.entropy.encode(scored.branch.symbols)
    loss = 8 * (len(payload) + overhead_bytes) / job.samples[0].numel() + scored.penalty
    return replace(scored, payload=payload, loss=loss)


def _estimated(branch: Branch, job: Job, overhead_bytes: int) -> Scored:
    bits, penalty = float(branch.bits.item()), float(branch.penalty.item())
    loss = (bits + 8 * overhead_bytes) / job.samples[0].numel() + penalty
    return Scored(branch, bits, penalty, loss, doubt(branch, job))


def doubt(branch: Branch, job: Job) -> float:
    """What bfloat16 may get wrong in a branch's loss beside that of the picture as it is; 0 where it was not used."""
    if job.scoring == torch.float32 or branch.candidate.transform == 0:
        return 0.0
    return job.model.lambda_(job.quality) * (DOUBT * 255**2 * float(branch.error.item()) + LEAST_DOUBT)


def measured(scored: Scored, job: Job) -> Scored:
    """With the branch's distortion as the decoder has it."""
    branch = measured_branch(job, scored.branch)
    penalty = float(branch.penalty.item())
    return replace(scored, branch=branch, penalty=penalty, loss=scored.loss - scored.penalty + penalty)


def best(scored: list[Scored]) -> int:
    """The index of the winner; ties go to the first, which is the picture as it is."""
    contenders = [i for i, s in enumerate(scored) if s.payload is not None] or range(len(scored))
    return min(contenders, key=lambda i: (scored[i].rank, i))


def confirmed(scored: list[Scored], winner: int, job: Job, overhead_bytes: int) -> int:
    """The winner when what bfloat16 says is not trusted: a file is never worse than that of the picture as it is.

    A winner other than that one is compared with it once more, both in float32; their entries in `scored` are replaced.
    A quick score promises nothing of the kind: the symbols of the other branches are not known then.
    """
    plain = scored[0].branch
    if job.scoring == torch.float32 or winner == 0 or plain.candidate.transform != 0 or plain.latents is not None:
        return winner
    for i in (0, winner):
        again = measured(scored[i], job)
        scored[i] = again if again.payload is not None else _coded(again, job, overhead_bytes)
    return min((0, winner), key=lambda i: scored[i].loss)


@dataclass(frozen=True)
class Guarded:
    """The guard with its loss, which is that of a branch: the whole file's. error: as a branch's."""

    guard: Guard
    error: float
    loss: float


def guarded(picture: Picture, job: Job, overhead_bytes: int) -> Guarded:
    """The best guard that is found for a picture."""

    def scored_guard(made: Guard) -> Guarded:
        error, penalty = compared(job, grid.to_samples(made.samples, job.samples.device))
        bits = 8 * (len(made.payload) + overhead_bytes)
        return Guarded(made, float(error.item()), bits / job.samples[0].numel() + float(penalty.item()))

    return scored_guard(guard.find(picture, lambda made: scored_guard(made).loss))


def fails(winner: Scored, conventional: Guarded) -> bool:
    """Whether even the best learned branch does so much worse than the guard that the guard is sent."""
    return winner.loss > guard.THRESHOLD * conventional.loss
