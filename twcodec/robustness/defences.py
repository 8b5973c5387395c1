"""Defences to compare: each takes a picture, and gives what its reader would see and what it cost in real bytes."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twcodec.codec.codec import Codec
from twcodec.codec.settings import Settings
from twcodec.imaging.picture import Picture
from twcodec.transforms import BY_NAME

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Outcome:
    """Of one encoding. pixels: (H, W, 3), decoded. size: bytes of the file. seconds: of encoding and of decoding."""

    pixels: Pixels
    size: int
    seconds: tuple[float, float]
    transformed: bool = False
    guarded: bool = False


@dataclass(frozen=True)
class Defence:
    """run: (codec, pixels, quality, seed of the draw) -> outcome. settings: what an attacker can know of it.

    draws: whether chance plays a part, so that it must be tried several times.
    """

    name: str
    summary: str
    run: Callable[[Codec, Pixels, float, int], Outcome]
    settings: Settings
    draws: bool = False


def _codec(name: str, summary: str, draws: bool = True, **how: object) -> Defence:
    """A defence that is a setting of the codec."""
    settings = Settings(**how)  # type: ignore[arg-type]

    def run(codec: Codec, pixels: Pixels, quality: float, seed: int) -> Outcome:
        return encoded(codec, pixels, replace(settings, quality=quality, seed=seed))

    return Defence(name, summary, run, settings, draws)


def encoded(codec: Codec, pixels: Pixels, settings: Settings) -> Outcome:
    """Through the codec and back."""
    start = time.perf_counter()
    data, report = codec.encode_picture(Picture(pixels, "RGB"), settings)
    middle = time.perf_counter()
    found = codec.decode_picture(data).samples
    seconds = middle - start, time.perf_counter() - middle
    won = report.chosen.transform
    return Outcome(np.asarray(found, np.uint8), len(data), seconds, won in BY_NAME, won == "guard")


def _best_of_8(codec: Codec, pixels: Pixels, quality: float, _seed: int) -> Outcome:
    """Chen and Ma's: the flip or turn with the lowest distortion, whatever it costs."""
    tried = [encoded(codec, pixels, Settings(quality, transform="never"))]
    seeds: dict[object, int] = {}
    for seed in range(256):
        seeds.setdefault(BY_NAME["flip-turn"].from_seed(seed, *pixels.shape[:2]), seed)
    for seed in seeds.values():
        settings = Settings(quality, transform="always", transforms=("flip-turn",), seed=seed)
        tried.append(encoded(codec, pixels, settings))
    best = min(tried, key=lambda outcome: squared_error(outcome.pixels, pixels))
    return replace(best, seconds=(sum(o.seconds[0] + o.seconds[1] for o in tried), best.seconds[1]))


def _bit_depth(codec: Codec, pixels: Pixels, quality: float, _seed: int) -> Outcome:
    """Six bits: what is below four levels is gone before the codec sees it (Xu et al. 2018)."""
    coarse = (pixels // 4 * 4 + 2).astype(np.uint8)
    return encoded(codec, coarse, Settings(quality, transform="never"))


def _resized(codec: Codec, pixels: Pixels, quality: float, _seed: int) -> Outcome:
    """Down to 7/8 of a side before encoding, up again after decoding."""
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((max(1, width * 7 // 8), max(1, height * 7 // 8)), Image.Resampling.LANCZOS)
    found = encoded(codec, np.asarray(small), Settings(quality, transform="never"))
    large = Image.fromarray(found.pixels).resize((width, height), Image.Resampling.BICUBIC)
    return replace(found, pixels=np.asarray(large))


def _conventional(kind: str) -> Callable[[Codec, Pixels, float, int], Outcome]:
    """Pillow's JPEG or AVIF at the quality that the same lambda asks for."""

    def run(codec: Codec, pixels: Pixels, quality: float, _seed: int) -> Outcome:
        weight, found = codec.model.lambda_(codec.model.check_quality(quality)), []
        for step in range(10, 100, 8):
            start, file = time.perf_counter(), io.BytesIO()
            Image.fromarray(pixels).save(file, kind, quality=step)
            middle = time.perf_counter()
            back = np.asarray(Image.open(file).convert("RGB"))
            outcome = Outcome(back, len(file.getvalue()), (middle - start, time.perf_counter() - middle))
            loss = 8 * outcome.size / pixels[..., 0].size + weight * squared_error(back, pixels)
            found.append((loss, step, outcome))
        return min(found, key=lambda entry: entry[:2])[2]

    return run


def squared_error(a: Pixels, b: Pixels) -> float:
    """Mean squared error in square 8-bit levels."""
    return float(np.square(a.astype(np.float64) - b).mean())


_ALL = (
    _codec("none", "the picture as it is", draws=False, transform="never"),
    _codec("always", "one random flip or turn, always", transform="always"),
    _codec("two-way", "the picture as it is, or one random flip or turn: the lower loss", ways=2),
    _codec("4-way", "the picture as it is and 3 draws", ways=4),
    _codec("8-way", "the picture as it is and all 7 flips and turns", draws=False, ways=8),
    _codec(
        "two-way shift",
        "two-way, drawing a flip or turn and a shift of up to 15 pixels",
        transforms=("flip-turn-shift",),
    ),
    _codec(
        "16-way shift",
        "the picture as it is and 15 draws of flip, turn and shift",
        ways=16,
        transforms=("flip-turn-shift",),
    ),
    _codec(
        "effort 5", "the picture as it is, its latents refined in 10 steps", draws=False, transform="never", effort=5
    ),
    _codec("two-way + effort 5", "two-way, latents of both branches refined in 10 steps", effort=5),
    _codec("guard", "two-way, and AVIF where twice as good", guard="avif"),
    Defence("best of 8", "the flip or turn with the lowest distortion (Chen and Ma)", _best_of_8, Settings(ways=8)),
    Defence("bit depth", "six bits a sample before encoding", _bit_depth, Settings(transform="never")),
    Defence("resize", "7/8 of a side while encoded", _resized, Settings(transform="never")),
    Defence("JPEG", "for scale: Pillow's JPEG at the same lambda", _conventional("JPEG"), Settings(transform="never")),
    Defence("AVIF", "for scale: Pillow's AVIF at the same lambda", _conventional("AVIF"), Settings(transform="never")),
)
DEFENCES = {defence.name: defence for defence in _ALL}
"""By name, in the order in which they are shown."""
