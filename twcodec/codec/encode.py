"""The encoder, as the paper's section 3 has it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from twcodec.codec import branch, choice, grid, guard, memory, refine
from twcodec.codec.candidates import candidates
from twcodec.codec.precision import for_encoding
from twcodec.codec.report import Report, branch_report, guard_report
from twcodec.container import Container, Header
from twcodec.container.header import AVIF
from twcodec.errors import CorruptError, VerificationError
from twcodec.exact.symbols import symbols_crc
from twcodec.imaging import alpha, metadata

if TYPE_CHECKING:
    from twcodec.codec.choice import Guarded, Scored
    from twcodec.codec.settings import Settings
    from twcodec.imaging.picture import Picture
    from twcodec.models.model import Model


def encode(model: Model, picture: Picture, settings: Settings, max_memory: int | None = None) -> tuple[bytes, Report]:
    """Compress a picture. Returns the file and what was tried for it. max_memory: see `memory.plan`.

    UsageError: a quality out of the model's range, or effort with a model that `refine` cannot do. LimitError: more
    memory is needed than is allowed. VerificationError: the coded symbols do not decode. MissingError: a guard is asked
    for, and Pillow has no AVIF.
    """
    obstacle = guard_obstacle(picture, settings, max_memory)
    return run(prepared(model, picture, settings, max_memory), picture, obstacle)


def guard_obstacle(picture: Picture, settings: Settings, max_memory: int | None) -> str | None:
    """Why no guard is made, though it was asked for. MissingError: see `encode`."""
    return guard.obstacle(picture, max_memory) if settings.guard == "avif" else None


def prepared(model: Model, picture: Picture, settings: Settings, max_memory: int | None) -> branch.Job:
    """What there is to do. Errors as `encode`, but for VerificationError."""
    levels, quality = (1 << picture.depth) - 1, model.check_quality(settings.quality)
    if settings.effort:
        refine.check(model)
    analysis = for_encoding(settings.precision, model.device)
    scoring = _scoring(picture, settings, analysis)
    tile = memory.for_encoding(model, _size(picture), settings, scoring, max_memory)
    samples = grid.to_samples(picture.samples, model.device)
    return branch.Job(model, samples, levels, settings, quality, analysis, scoring, tile)


@torch.inference_mode()
def run(
    job: branch.Job,
    picture: Picture,
    obstacle: str | None = None,
    plain: branch.Branch | None = None,
    frame: Container | None = None,
) -> tuple[bytes, Report]:
    """Do it: run the branches, choose one, code it. VerificationError: see `encode`.

    obstacle: see `guard_obstacle`. plain: the branch of the picture as it is, where it was run before. frame: as by
    `frame_of`, at any quality, where it was made before: alpha takes a while to pack.
    """
    settings = job.settings
    tried = candidates(settings, picture.height, picture.width)
    branches = [plain] if plain and tried[0] == plain.candidate else []
    branches += branch.run(job, tried[len(branches) :])
    frame = frame or frame_of(job, picture)
    frame = replace(frame, header=replace(frame.header, quality=job.quality, ways=len(tried)))
    overhead = len(frame.to_bytes())
    scored = choice.score(branches, job, overhead)
    winner = choice.best(scored)
    if scored[winner].payload is None:
        scored[winner] = choice.score([branch.quantised(job, branches[winner])], job, overhead)[0]
    winner = choice.confirmed(scored, winner, job, overhead)
    if settings.measure:
        scored[winner] = choice.measured(scored[winner], job)
    guarded = choice.guarded(picture, job, overhead) if settings.guard == "avif" and not obstacle else None
    if guarded and choice.fails(scored[winner], guarded):
        data = _guard_file(frame, guarded).to_bytes()
        return data, _report(job, picture, scored, len(scored), len(data), guarded)
    if settings.verify:
        _verify(job.model, scored[winner])
    data = _filled(frame, scored[winner]).to_bytes()
    return data, _report(job, picture, scored, winner, len(data), guarded, obstacle)


def _scoring(picture: Picture, settings: Settings, analysis: torch.dtype) -> torch.dtype:
    """The type in which distortions are computed.

    MS-SSIM wants float32, and so do refined latents, which must not be worse than others by what bfloat16 gets wrong,
    and a choice that cannot be confirmed later, y_hat having made room.
    """
    several = settings.transform == "auto" and settings.ways > 1
    large = picture.height * picture.width > memory.LARGE
    return torch.float32 if settings.metric != "mse" or settings.effort or (several and large) else analysis


def _size(picture: Picture) -> memory.Size:
    height, width, channels = picture.samples.shape
    return memory.Size(height, width, channels, 4 if picture.depth == 16 else 1)


def frame_of(job: branch.Job, picture: Picture) -> Container:
    """The file without its symbols: what every branch's file has in common."""
    header = Header(
        width=picture.width,
        height=picture.height,
        mode=picture.mode,
        digest=job.model.digest,
        quality=job.quality,
        symbols_crc=0,
    )
    plane = None if picture.alpha is None else alpha.pack_alpha(picture.alpha)
    return Container(header, b"", plane, tuple(metadata.to_chunks(picture.metadata)))


def _filled(frame: Container, winner: Scored) -> Container:
    """The file with the winner's symbols, and its transform in the header."""
    candidate = winner.branch.candidate
    header = replace(
        frame.header,
        symbols_crc=symbols_crc(winner.branch.symbols),
        transformed=candidate.transform != 0,
        transform=candidate.transform,
        seed=candidate.seed,
    )
    return replace(frame, header=header, data=winner.payload or b"")


def _guard_file(frame: Container, winner: Guarded) -> Container:
    """The file with the guard's stream. It names no model: none is needed."""
    kept, made = frame.header, winner.guard
    digest, crc = bytes(len(kept.digest)), made.crc
    header = replace(kept, kind=AVIF, digest=digest, quality=0.0, symbols_crc=crc)
    return replace(frame, header=header, data=made.payload)


def _verify(model: Model, winner: Scored) -> None:
    try:
        same = model.family.entropy.verify(winner.payload or b"", winner.branch.symbols)
    except CorruptError:
        same = False
    if not same:
        raise VerificationError(
            "the coded symbols do not decode to what was encoded; nothing was written, please report this"
        )


def _report(
    job: branch.Job,
    picture: Picture,
    scored: list[Scored],
    winner: int,
    size: int,
    guarded: Guarded | None,
    obstacle: str | None = None,
) -> Report:
    """winner: among the branches, of which the guard is the last, where there is one."""
    branches = tuple(branch_report(s, i == winner) for i, s in enumerate(scored))
    if guarded:
        branches += (guard_report(guarded, winner == len(scored)),)
    learned = winner < len(scored) and scored[winner].branch.scoring != torch.float32
    return Report(
        width=picture.width,
        height=picture.height,
        mode=picture.mode,
        model=job.model.name,
        quality=job.quality,
        metric=job.settings.metric,
        bytes=size,
        bpp=8 * size / (picture.width * picture.height),
        psnr=branches[winner].psnr,
        loss=branches[winner].loss,
        precision="bf16" if learned else "fp32",
        branches=branches,
        warnings=picture.warnings + ((obstacle,) if obstacle else ()),
    )
