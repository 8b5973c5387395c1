"""The branches to try: the picture as it is, and draws of random invertible transforms."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from twcodec.codec.settings import MAX_SEED, Settings
from twcodec.transforms import IDENTITY, Draw, by_name, default_set

_ATTEMPTS = 256
"""Draws before a set counts as used up: with 7 members, one is missed once in 10^17 times."""


@dataclass(frozen=True)
class Candidate:
    """One branch before it is run. transform and seed are what the file will hold; both 0 for the picture as it is."""

    draw: Draw
    transform: int = 0
    seed: int = 0
    name: str = "identity"


PLAIN = Candidate(IDENTITY)


def candidates(settings: Settings, height: int, width: int) -> list[Candidate]:
    """Branches for a picture of height x width pixels, the plain one first, no transform twice.

    There are fewer than `settings.ways` when the transforms have too few members.
    """
    plain = [] if settings.transform == "always" else [PLAIN]
    if settings.transform == "never":
        return plain
    wanted = max(settings.ways - 1, 1 - len(plain))
    return plain + list(itertools.islice(_distinct(settings, height, width), wanted))


def _distinct(settings: Settings, height: int, width: int) -> Iterator[Candidate]:
    """Candidates with draws that differ, until the transforms seem to have no more."""
    transforms = [by_name(name) for name in settings.transforms] or list(default_set(height, width))
    seen: set[Draw] = set()
    repeats = 0
    for seed in _seeds(settings.seed):
        transform = transforms[seed % len(transforms)]
        draw = transform.from_seed(seed, height, width)
        repeats = repeats + 1 if draw in seen else 0
        if repeats > _ATTEMPTS:
            return
        if not repeats:
            seen.add(draw)
            yield Candidate(draw, transform.id, seed, transform.name)


def _seeds(start: int | None) -> Iterator[int]:
    if start is None:
        while True:
            yield secrets.randbits(32)
    for seed in itertools.count(start):
        yield seed & MAX_SEED
