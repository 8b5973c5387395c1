"""Encoding to a size or a PSNR instead of a quality.

The picture as it is is analysed once; other qualities only scale its latents. So to see how many bits one comes to
takes a fraction of an encoding; to see its PSNR, about half of one in two ways. When that search has found the quality,
the picture is encoded there in earnest, both ways; where the file is not close enough, since another branch won, or
latents were refined, the quality is moved and that done again.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from twcodec.codec import branch
from twcodec.codec import encode as encoding
from twcodec.codec.distortion import psnr
from twcodec.codec.settings import MAX_SEED
from twcodec.errors import LimitError, UsageError
from twcodec.exact.variable_rate import QUALITY_STEPS

if TYPE_CHECKING:
    from twcodec.codec.report import Report
    from twcodec.codec.settings import Settings
    from twcodec.container import Container
    from twcodec.imaging.picture import Picture
    from twcodec.models.model import Model

_LOOKS, _ENCODINGS = 8, 4
"""How often the search looks, and how often the picture is encoded, at most; photographs take 3 and 1. Where a limit is
not kept by then, `_Walk.down` encodes up to six times more."""

_START = 4.0


@dataclass(frozen=True)
class _Aim:
    """One kind of target, on a scale on which it grows about evenly with quality.

    middle: what to aim at. low, high: what is close enough. slope: growth from one quality to the next, as a guess.
    limit: whether more than `high` is worse than any less.
    """

    middle: float
    low: float
    high: float
    slope: float
    limit: bool = False

    def hit(self, value: float) -> bool:
        """Whether a value is close enough."""
        return self.low <= value <= self.high


def _share(target: float, below: float, above: float, limit: bool) -> _Aim:
    """Bytes, as their logarithm. below, above: shares of the target by which a file may miss it."""
    low, high = math.log(target) + math.log1p(-below), math.log(target) + math.log1p(above)
    return _Aim((low + high) / 2, low, high, slope=0.34, limit=limit)


def _aim(kind: str, value: float, pixels: int) -> _Aim:
    """A size is a limit: files are at most 1 % below it, and never above."""
    if kind == "psnr":
        return _Aim(value, value - 0.04, value + 0.04, slope=1.7)
    if kind == "size":
        return _share(value, 0.008, 0.0, limit=True)
    return _share(value * pixels / 8, 0.007, 0.007, limit=False)


@torch.inference_mode()
def encode(model: Model, picture: Picture, settings: Settings, max_memory: int | None = None) -> tuple[bytes, Report]:
    """As `encode.encode`, with a quality at which the file is what `settings.target` asks for.

    Within 1 % or 0.05 dB where the model has such a quality. Where its best falls short of what was allowed, that is
    made, and the report warns. LimitError: even the lowest quality takes more, or the best shows less, than was asked
    for; as `encode.encode`. UsageError: the model has one quality.
    """
    assert settings.target is not None
    kind, value = settings.target
    if model.qualities[0] == model.qualities[1]:
        raise UsageError(f"the model {model.name} has one quality, so no target can be aimed at; give none")
    job = encoding.prepared(model, picture, replace(settings, measure=settings.measure or kind == "psnr"), max_memory)
    aim = _aim(kind, value, picture.height * picture.width)
    job = replace(job, settings=_pinned(job.settings))
    walk = _Walk(aim, *model.qualities)
    start = min(max(_START, model.qualities[0]), model.qualities[1])
    probe, frame = branch.Probe(replace(job, quality=start)), encoding.frame_of(job, picture)
    walk.go(start, _looking(probe, kind, frame), _LOOKS)
    kept = [] if settings.transform == "always" else [probe.branch(walk.best)]
    del probe
    made: dict[float, tuple[bytes, Report]] = {}

    def in_earnest(quality: float) -> float:
        plain = kept.pop() if kept else None  # the first encoding is where the search ended
        made[quality] = encoding.run(replace(job, quality=quality), picture, plain=plain, frame=frame)
        data, report = made[quality]
        return report.psnr if kind == "psnr" else math.log(len(data))

    start, slope = walk.best, walk.slope
    walk = _Walk(replace(aim, slope=slope), *model.qualities)
    walk.go(start, in_earnest, _ENCODINGS)
    if aim.limit:
        walk.down(in_earnest)
    data, report = made[walk.best]
    return data, _judged(kind, value, walk, data, report)


def _pinned(settings: Settings) -> Settings:
    """With the same draws for every encoding of the search, secret ones where none were asked for."""
    return settings if settings.seed is not None else replace(settings, seed=secrets.randbelow(MAX_SEED + 1))


def _looking(probe: branch.Probe, kind: str, frame: Container) -> Callable[[float], float]:
    """What the picture as it is comes to at a quality, about."""
    if kind == "psnr":
        return lambda quality: psnr(probe.error(quality))
    overhead = len(frame.to_bytes())
    return lambda quality: math.log(probe.bits(quality) / 8 + overhead)


class _Walk:
    """A search for the quality at which something that grows with it is as wanted: by secants, kept in brackets."""

    def __init__(self, aim: _Aim, lowest: float, highest: float) -> None:
        self._aim, self._ends = aim, (lowest, highest)
        self.seen: dict[float, float] = {}

    def go(self, start: float, look: Callable[[float], float], most: int) -> None:
        """Look at one quality after the other until one is right or there is nothing left to try."""
        quality: float | None = start
        while quality is not None and len(self.seen) < most:
            self.seen[quality] = look(quality)
            quality = None if self._aim.hit(self.seen[quality]) else self._next(quality)

    def down(self, look: Callable[[float], float]) -> None:
        """Look lower and lower until something is not above the limit, or there is nothing lower."""
        step = 0.1
        while self.beyond and min(self.seen) > self._ends[0]:
            lower = max(self._ends[0], round(min(self.seen) - step, 3))
            self.seen[lower], step = look(lower), 2 * step

    @property
    def short(self) -> bool:
        """Whether the best is less than what was wanted."""
        return self.seen[self.best] < self._aim.low

    @property
    def beyond(self) -> bool:
        """Whether the best is more than what was wanted."""
        return self.seen[self.best] > self._aim.high

    @property
    def at_an_end(self) -> bool:
        """Whether there is no quality further on, and nothing on the other side of what was wanted was seen."""
        values = self.seen.values()
        if self.beyond:
            return self._ends[0] in self.seen and all(value > self._aim.high for value in values)
        return self._ends[1] in self.seen and all(value < self._aim.low for value in values)

    @property
    def best(self) -> float:
        """Of the qualities that were looked at: the closest; one above a limit only where there is no other."""
        return min(self.seen, key=lambda q: (self._aim.limit and self.seen[q] > self._aim.high, self._distance(q)))

    def _distance(self, quality: float) -> float:
        return abs(self.seen[quality] - self._aim.middle)

    @property
    def slope(self) -> float:
        """Growth from one quality to the next, by the two that are closest."""
        near = sorted(self.seen, key=self._distance)[:2]
        if len(near) < 2:
            return self._aim.slope
        found = (self.seen[near[0]] - self.seen[near[1]]) / (near[0] - near[1])
        return min(max(found, self._aim.slope / 4), self._aim.slope * 4) if math.isfinite(found) else self._aim.slope

    def _next(self, last: float) -> float | None:
        """None: every quality that is left has been looked at."""
        low = max((q for q, v in self.seen.items() if v < self._aim.middle), default=None)
        high = min((q for q, v in self.seen.items() if v >= self._aim.middle), default=None)
        step = (self._aim.middle - self.seen[last]) / self.slope
        wanted = last + (-math.inf if math.isnan(step) else step)
        wanted = min(max(wanted, self._ends[0] if low is None else low), self._ends[1] if high is None else high)
        wanted = round(wanted * QUALITY_STEPS) / QUALITY_STEPS
        if wanted in self.seen and low is not None and high is not None:
            wanted = round((low + high) / 2 * QUALITY_STEPS) / QUALITY_STEPS
        return None if wanted in self.seen else wanted


def _judged(kind: str, value: float, walk: _Walk, data: bytes, report: Report) -> Report:
    """The report, with a warning where the file is not what was asked for. LimitError: it breaks a promise."""
    if not walk.beyond and (not walk.short or (kind == "size" and walk.at_an_end)):
        return report
    what = f"{report.psnr:.2f} dB" if kind == "psnr" else f"{len(data)} bytes ({report.bpp:.4f} bpp)"
    asked = f"{value:g} " + {"psnr": "dB", "size": "bytes", "bpp": "bpp"}[kind]
    if walk.at_an_end and (walk.short if kind == "psnr" else walk.beyond):
        raise LimitError(f"the target of {asked} is out of reach; the closest that the model comes is {what}")
    return replace(report, warnings=(*report.warnings, f"the target is {asked}, the file has {what}"))
