"""What every attack does at each step: 8-bit pictures inside a budget, their losses and gradients, the best so far.

Points of a search are changes of the clean pictures, counted in 8-bit levels. Each is first rounded to a picture that
is inside the budget, and the loss and its gradient are taken there: what is compared is what would be sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from twcodec.errors import UsageError

Loss = Callable[[Tensor], Tensor]
"""x: (B, 3, H, W) in 0 .. 1 to (B,): each picture's own loss, which an attack raises."""

_BISECTIONS = 10


@dataclass(frozen=True)
class Budget:
    """What an attacker may do. Errors: UsageError for values that are negative or not finite.

    eps: largest change of a value, in 8-bit levels; for the L2 attacks, the largest root mean square change of a
    picture. steps: gradients, or queries of `square`, a restart. alpha: step in 8-bit levels; None is 2.5 eps / steps
    (fgsm, ftda: eps). restarts: of the attacks that start at random. decay: of the momentum of `mifgsm`.
    """

    eps: float
    steps: int = 50
    alpha: float | None = None
    restarts: int = 1
    seed: int = 0
    decay: float = 1.0

    def __post_init__(self) -> None:
        for name, least in {"eps": 0, "steps": 1, "alpha": 0, "restarts": 1, "seed": 0, "decay": 0}.items():
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise UsageError(f"{name} of an attack is {value}; it must be finite and at least {least}")

    def step(self, default: float | None = None) -> float:
        """Levels that one step moves: alpha, or where that is None the default, or 2.5 eps / steps."""
        default = 2.5 * self.eps / self.steps if default is None else default
        return default if self.alpha is None else self.alpha


class Search:
    """One run of an attack on a batch: the budget's ball around the clean pictures, and the best points tried there.

    Points are changes of the clean pictures in levels, (B, 3, H, W) float32, inside the ball or not: `picture` makes
    8-bit pictures of them that are.
    """

    def __init__(self, loss: Loss, x: Tensor, budget: Budget, l2: bool) -> None:
        self._loss, self._l2, self.budget = loss, l2, budget
        self.eps = budget.eps if l2 else float(math.floor(budget.eps))  # 8-bit pictures reach no further
        self._clean = levels(x)
        self.best, self._best_loss = x.clone(), x.new_full((len(x),), -math.inf, dtype=torch.float64)
        # torch's generator on the CPU takes 32 bits of a seed; the factor keeps the pictures' apart
        self._draws = [torch.Generator().manual_seed(budget.seed * 1_000_003 + i) for i in range(len(x))]
        self._started = False

    @property
    def nowhere(self) -> Tensor:
        """The clean pictures as points."""
        return torch.zeros_like(self._clean)

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in 0 .. 1, each picture's from its own generator."""
        return torch.stack([torch.rand(shape, generator=g) for g in self._draws]).to(self._clean.device)

    def anywhere(self) -> Tensor:
        """Random points of the ball, where pgd and pgd-l2 start in torchattacks."""
        return torch.stack([self._anywhere(i) for i in range(len(self._draws))])

    def _anywhere(self, i: int) -> Tensor:
        shape, draw = self._clean[i].shape, self._draws[i]
        if not self._l2:
            return (self.eps * (2 * torch.rand(shape, generator=draw) - 1)).to(self._clean)
        direction = torch.randn(shape, generator=draw)
        return (self.eps * torch.rand((), generator=draw) * direction / rms(direction[None])[0]).to(self._clean)

    def in_range(self, point: Tensor) -> Tensor:
        """The nearest point whose pictures have values in 0 .. 255, in the ball or not."""
        return torch.minimum(torch.maximum(point, -self._clean), 255 - self._clean)

    def inside(self, point: Tensor) -> Tensor:
        """The same with the change cut, or for L2 scaled, to the ball."""
        if not self._l2:
            return self.in_range(point.clamp(-self.eps, self.eps))
        point = self.in_range(point)
        return point * (self.eps / rms(point).clamp(min=self.eps))

    def picture(self, point: Tensor) -> Tensor:
        """(B, 3, H, W) in 0 .. 1: the 8-bit pictures inside the ball that the points stand for."""
        point = self.inside(point)
        if self._l2:
            point = self._shrunk(point)
        return (self._clean + point.round()) / 255

    def _shrunk(self, point: Tensor) -> Tensor:
        """Towards the clean picture until what is rounded is in the ball; bisected, as rounding is monotone."""
        low, high = torch.zeros_like(rms(point)), torch.ones_like(rms(point))
        for i in range(_BISECTIONS):
            share = high if i == 0 else (low + high) / 2
            fits = _mean_square((point * share).round()) <= self.eps**2
            low, high = torch.where(fits, share, low), torch.where(fits, high, share)
            if i == 0 and fits.all():
                break
        return point * low

    def value(self, point: Tensor) -> Tensor:
        """(B,) float64: the loss of the points' pictures, NaN as the lowest. Queries only, no gradients."""
        with torch.no_grad():
            return self._tried(at := self.picture(point), self._loss(at))

    def gradient(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """The points and the loss's gradient at their pictures, (B, 3, H, W) each; what is not finite is 0.

        Pictures without a gradient go on from a random point: a distortion has none at the clean picture. UsageError:
        none has one there either, at the search's first step. Such an attack attacks nothing.
        """
        gradient = self._gradient(point)
        stuck = ~gradient.flatten(1).any(1)
        if stuck.any():
            point = torch.stack([self._anywhere(i) if stuck[i] else p for i, p in enumerate(point)])
            gradient = torch.where(each(stuck), self._gradient(point), gradient)
            if not self._started and not gradient.any():
                raise UsageError("the loss has no gradient: it is 0 everywhere; does something round, or detach?")
        self._started = True
        return point, gradient

    def _gradient(self, point: Tensor) -> Tensor:
        with torch.enable_grad():
            at = self.picture(point).requires_grad_()
            loss = self._loss(at)
            if not loss.requires_grad:
                raise UsageError("the loss has no gradient: it does not depend on the picture")
            (gradient,) = torch.autograd.grad(loss.sum(), at, allow_unused=True)
        self._tried(at.detach(), loss.detach())
        return torch.zeros_like(at) if gradient is None else gradient.nan_to_num(0, 0, 0)

    def _tried(self, picture: Tensor, loss: Tensor) -> Tensor:
        if loss.shape != (len(picture),):
            raise UsageError(f"a loss gives one number a picture, ({len(picture)},), not {tuple(loss.shape)}")
        rank = rank_of(loss)
        better = rank > self._best_loss
        self.best = torch.where(each(better), picture, self.best)
        self._best_loss = torch.where(better, rank, self._best_loss)
        return rank


def levels(x: Tensor) -> Tensor:
    """The nearest whole 8-bit levels, float32."""
    return (x.detach() * 255).round()


def rank_of(loss: Tensor) -> Tensor:
    """Float64, with NaN below everything."""
    loss = loss.detach().double()
    return loss.where(~loss.isnan(), -math.inf)


def each(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def _mean_square(change: Tensor) -> Tensor:
    """(B, 1, 1, 1), float64."""
    return each(change.square().flatten(1).mean(1, dtype=torch.float64))


def rms(change: Tensor) -> Tensor:
    """(B, 1, 1, 1): each picture's root mean square, in the change's type."""
    return _mean_square(change).sqrt().to(change)
