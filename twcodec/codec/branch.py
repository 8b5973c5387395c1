"""The branches: transform, analyse, quantise, score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from twcodec.codec import distortion, refine
from twcodec.codec.allocator import give_back_freed_memory
from twcodec.codec.candidates import PLAIN
from twcodec.codec.grid import Input, reconstruct
from twcodec.codec.lanes import Lanes
from twcodec.codec.memory import LARGE
from twcodec.models.footprint import TILE

if TYPE_CHECKING:
    from torch import Tensor

    from twcodec.codec.candidates import Candidate
    from twcodec.codec.settings import Settings
    from twcodec.exact.symbols import Symbols
    from twcodec.models.model import Model


@dataclass(frozen=True)
class Branch:
    """A branch that has been run. bits: of the coded symbols, estimated from the integer tables; a float64 scalar.

    error: mean squared error of values in 0 .. 1. penalty: the distortion in the loss, lambda applied. latents: y and
    z, where the symbols are an estimate and those that are coded are still to be found. scoring: the type in which
    error and penalty were computed.
    """

    candidate: Candidate
    symbols: Symbols
    bits: Tensor
    error: Tensor
    penalty: Tensor
    latents: tuple[Tensor, Tensor] | None = None
    scoring: torch.dtype = torch.float32

    def tensors(self) -> tuple[Tensor, ...]:
        """Everything on the device that outlives the branch's stream."""
        s = self.symbols
        return s.y, s.z, s.levels, s.y_hat, self.bits, self.error, self.penalty, *(self.latents or ())


@dataclass(frozen=True)
class Job:
    """A picture to be encoded. samples: (C, H, W) integers in 0 .. levels. quality: on the model's scale.

    analysis, scoring: the types in which the networks compute latents, which may be anything, and distortions. tile:
    latents a side of the tiles on which they run.
    """

    model: Model
    samples: Tensor
    levels: int
    settings: Settings
    quality: float
    analysis: torch.dtype = torch.float32
    scoring: torch.dtype = torch.float32
    tile: int = TILE

    @property
    def large(self) -> bool:
        """Whether what is not needed any more should make room."""
        return self.samples[0].numel() > LARGE


def run(job: Job, tried: list[Candidate]) -> list[Branch]:
    """Run the branches of the paper's section 3, each in a stream of its own."""
    several = job.model.family.entropy.side_by_side and len(tried) > 1 and not job.large
    if several and job.settings.score == "exact":
        return _side_by_side(job, tried)
    find = _estimated if several else _quantised
    lanes, branches = Lanes(job.model.device, len(tried)), []
    for i, candidate in enumerate(tried):
        _make_room(job)
        with lanes[i]:
            branches.append(find(job, candidate))
    lanes.join([b.tensors() for b in branches], job.model.device)
    return branches


def _side_by_side(job: Job, tried: list[Candidate]) -> list[Branch]:
    """As `run`, where y has a serial context: the branches are quantised together, in one walk."""
    device, entropy = job.model.device, job.model.family.entropy
    lanes, latents = Lanes(device, len(tried)), []
    for i, candidate in enumerate(tried):
        with lanes[i]:
            latents.append(_analyse(job, candidate))
    lanes.join(latents, device)
    together = entropy.quantise_all(latents, job.quality)
    latents.clear()
    lanes, branches = Lanes(device, len(tried)), []
    for i, candidate in enumerate(tried):
        with lanes[i]:
            branches.append(_scored(job, candidate, together[i]))
    lanes.join([b.tensors() for b in branches], device)
    return branches


def _quantised(job: Job, candidate: Candidate) -> Branch:
    y, z = _analyse(job, candidate)
    _make_room(job)
    quantise = job.model.family.entropy.quantise
    plain = _scored(job, candidate, quantise(y, z, job.quality))
    if not job.settings.effort:
        return plain
    y = refine.refined(job, candidate.draw, y, z)
    return _lower(job, plain, _scored(job, candidate, quantise(y, z, job.quality)))


def _lower(job: Job, plain: Branch, refined: Branch) -> Branch:
    """The branch whose file has the lower loss; a tie is the plain one's. What refining promises is approximate."""

    def loss(branch: Branch) -> float:
        payload = job.model.family.entropy.encode(branch.symbols)
        return 8 * len(payload) / job.samples[0].numel() + float(branch.penalty.item())

    return min(plain, refined, key=loss)


def _estimated(job: Job, candidate: Candidate) -> Branch:
    """The branch with symbols that rank it, and the latents whose symbols are still to be found."""
    latents = _analyse(job, candidate)
    return _scored(job, candidate, job.model.family.entropy.estimate(*latents, job.quality), latents)


def quantised(job: Job, estimated: Branch) -> Branch:
    """The branch with the symbols that are coded, where it was ranked by an estimate of them."""
    assert estimated.latents is not None
    symbols = job.model.family.entropy.quantise(*estimated.latents, job.quality)
    return _scored(job, estimated.candidate, symbols)


class Probe:
    """The picture as it is, analysed once, and what it comes to at any quality."""

    def __init__(self, job: Job) -> None:
        """job: its quality is where y is first computed; other qualities only scale it."""
        self._job = job
        self._y = _y(job, PLAIN)
        self._symbols: tuple[float, Symbols] | None = None
        self._branch: tuple[float, Branch] | None = None

    def bits(self, quality: float) -> float:
        """Of the coded symbols, estimated."""
        return float(self._job.model.family.entropy.bits(self._symbols_at(quality)).item())

    def error(self, quality: float) -> float:
        """Mean squared error of values in 0 .. 1, in the type in which branches are scored."""
        return float(self._scored_at(quality).error.item())

    def branch(self, quality: float) -> Branch | None:
        """The branch, as `run` would have it but for the last bits of y; None where symbols were estimated."""
        ranked_only = self._job.model.family.entropy.side_by_side
        return None if ranked_only or self._job.settings.effort else self._scored_at(quality)

    def _scored_at(self, quality: float) -> Branch:
        if self._branch is None or self._branch[0] != quality:
            self._branch = None
            symbols = self._symbols_at(quality)
            self._symbols = None
            self._branch = quality, _scored(replace(self._job, quality=quality), PLAIN, symbols)
        return self._branch[1]

    def _symbols_at(self, quality: float) -> Symbols:
        if self._symbols is None or self._symbols[0] != quality:
            job, self._symbols, self._branch = self._job, None, None
            y = job.model.family.at_quality(self._y, job.quality, quality)
            z = job.model.family.h_a(y, job.analysis, job.tile)
            _make_room(job)
            self._symbols = quality, job.model.family.entropy.estimate(y, z, quality)
        return self._symbols[1]


def _analyse(job: Job, candidate: Candidate) -> tuple[Tensor, Tensor]:
    """Latents y and z. Any y is codable, so they may be computed in less than float32."""
    y = _y(job, candidate)
    return y, job.model.family.h_a(y, job.analysis, job.tile)


def _y(job: Job, candidate: Candidate) -> Tensor:
    family = job.model.family
    x = Input(job.samples, job.levels, candidate.draw, family.stride)
    return family.g_a(x, job.quality, job.analysis, job.tile)


def _scored(job: Job, candidate: Candidate, symbols: Symbols, latents: tuple[Tensor, Tensor] | None = None) -> Branch:
    """The branch with its rate and distortion.

    The distortion is measured after inversion, against the untransformed input, on values rounded as the decoder
    rounds them, so what is compared is what will be read: exactly so in float32, within `choice.doubt` in bfloat16.
    """
    bits = job.model.family.entropy.bits(symbols)
    _make_room(job)
    shape = (job.samples.shape[0], job.samples.shape[1], job.samples.shape[2])
    how = job.quality, candidate.draw, shape, job.levels, job.scoring, job.tile
    x_hat = reconstruct(job.model, symbols.y_hat, *how)
    error, penalty = compared(job, x_hat)
    if job.large:
        symbols = replace(symbols, y_hat=symbols.y_hat.new_empty(0))
    return Branch(candidate, symbols, bits, error, penalty, latents, job.scoring)


def _make_room(job: Job) -> None:
    """Between the stages of a large picture: what malloc kept of the last is of no use to the next, and adds up."""
    if job.large:
        give_back_freed_memory()


def measured(job: Job, branch: Branch) -> Branch:
    """The branch with its distortion in float32, as the decoder has it, unless what that takes has made room."""
    if branch.scoring == torch.float32 or job.large:
        return branch
    return _scored(replace(job, scoring=torch.float32), branch.candidate, branch.symbols, branch.latents)


def compared(job: Job, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """A reconstruction's mean squared error, and the distortion in the loss, lambda applied. x_hat: as job.samples."""
    error = distortion.mse(job.samples, x_hat, job.levels)
    weight = job.model.lambda_(job.quality) * 255**2
    if job.settings.metric == "mse":
        return error, weight * error
    return error, weight * distortion.MS_SSIM_LAMBDA * distortion.ms_ssim_loss(job.samples, x_hat, job.levels)
