"""What an encoder can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from twcodec.errors import UsageError
from twcodec.transforms import by_name

TransformMode = Literal["never", "auto", "always"]
Metric = Literal["mse", "ms-ssim"]
Precision = Literal["auto", "fp32", "bf16"]
Score = Literal["exact", "fast"]
Guard = Literal["none", "avif"]

MAX_WAYS = 64
MAX_THREADS = 1024
"""More would only be refused, or worse, by the libraries."""

MAX_SEED = (1 << 32) - 1
MAX_EFFORT = 9
TARGETS = ("bpp", "size", "psnr")
_MOST_TARGET = 1 << 60


@dataclass(frozen=True)
class Settings:
    """Options of one encoding.

    ways: branches to try, the untransformed one included. transform: "auto" lets the lowest loss win, "never" tries
    only the picture as it is, "always" only transformed ones. transforms: names to draw from; () for the default set.
    seed: a fixed start for the draws, for tests; None takes them from the system's secure generator. quality: None is
    the model's own choice. score: "fast" ranks the branches of a model with a serial context by one masked convolution
    over all of the latent instead of by what would be coded. measure: where branches were scored in bf16, measure the
    winner's distortion in fp32, as the decoder has it, for the report; not for pictures of over 2^24 pixels.
    guard: "avif" also tries an AVIF stream, which is sent if every branch's loss is more than `guard.THRESHOLD` times
    its own; no learned file changes by that. effort: 0 to 9, how long latents are refined for this very picture, see
    `refine`; 0 is not at all. Only with metric "mse". target_bpp, target_size, target_psnr: at most one, in place of a
    quality: bits a pixel, bytes, or dB of the whole file, see `target`; not with a guard.
    """

    quality: float | None = None
    ways: int = 2
    transform: TransformMode = "auto"
    transforms: tuple[str, ...] = ()
    seed: int | None = None
    metric: Metric = "mse"
    precision: Precision = "auto"
    verify: bool = True
    score: Score = "exact"
    measure: bool = False
    guard: Guard = "none"
    effort: int = 0
    target_bpp: float | None = None
    target_size: int | None = None
    target_psnr: float | None = None

    @property
    def target(self) -> tuple[str, float] | None:
        """What is aimed at, one of `TARGETS`, and its value; None: a quality."""
        given = [(kind, getattr(self, f"target_{kind}")) for kind in TARGETS]
        return next((pair for pair in given if pair[1] is not None), None)

    def __post_init__(self) -> None:
        """UsageError: a value that cannot be meant. The quality is checked against the model later."""
        for name, value, kind in (
            ("transform", self.transform, TransformMode),
            ("metric", self.metric, Metric),
            ("precision", self.precision, Precision),
            ("score", self.score, Score),
            ("guard", self.guard, Guard),
        ):
            if value not in get_args(kind):
                raise UsageError(f"{name} {value!r} is unknown; there are: {', '.join(get_args(kind))}")
        if not all(isinstance(n, int) for n in (self.ways, self.seed or 0)) or not isinstance(
            self.quality or 0.0, (int, float)
        ):
            raise UsageError("quality must be a number, ways and seed whole numbers")
        if type(self.effort) is not int or not 0 <= self.effort <= MAX_EFFORT:
            raise UsageError(f"effort {self.effort!r} is out of range; 0 to {MAX_EFFORT} is possible")
        if self.effort and self.metric != "mse":
            raise UsageError("latents are refined for --metric mse only; leave --effort or --metric out")
        if not 1 <= self.ways <= MAX_WAYS:
            raise UsageError(f"{self.ways} ways; 1 to {MAX_WAYS} are possible")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"the seed {self.seed} is out of range; 0 to {MAX_SEED} is possible")
        for name in self.transforms:
            by_name(name)
        self._check_targets()

    def _check_targets(self) -> None:
        given = {kind: getattr(self, f"target_{kind}") for kind in TARGETS}
        given = {kind: value for kind, value in given.items() if value is not None}
        if len(given) + (self.quality is not None) > 1:
            raise UsageError("give one of quality, target bpp, target size and target PSNR")
        if given and self.guard != "none":
            raise UsageError("a guard keeps to a loss, so no target can be aimed at with it; leave one of them out")
        for kind, value in given.items():
            if type(value) not in (int, float) or not 0 < value < _MOST_TARGET:
                raise UsageError(f"the target {kind} {value!r} is no number above 0, or too large a one")
