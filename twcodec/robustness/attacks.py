"""Attacks: small changes of a picture that raise a loss. Names and parameters as torchattacks and AutoAttack have them.

An attacker can only hand over 8-bit pictures. So every point of a search is first rounded to one that is inside the
budget, and the loss and its gradient are taken there: what is compared is what would be sent. Inside a search, changes
are counted in 8-bit levels.
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

SQUARE_SHARE = 0.8
"""p_init of Square Attack: share of the picture that the first squares cover. AutoAttack's value."""

FTDA_DECAY = 0.33
"""What FTDA's step is multiplied by after each third of the steps; Chen and Ma's value."""

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


@dataclass(frozen=True)
class Attack:
    """search: tries points and leaves the best in the search. l2: eps bounds the root mean square change."""

    name: str
    summary: str
    search: Callable[[Search], None]
    l2: bool = False
    control: bool = False
    """Nothing is sought: what was drawn is given back, even where it lowers the loss."""

    def run(self, loss: Loss, x: Tensor, budget: Budget) -> Tensor:
        """The best 8-bit pictures tried, inside the budget; not compared with x itself. Shapes as in `attacked`."""
        search = Search(loss, x, budget, self.l2)
        if search.eps > 0:
            self.search(search)
        return search.best


def attacked(name: str, loss: Loss, x: Tensor, budget: Budget) -> Tensor:
    """x changed within the budget so that each picture's loss is as high as the attack could raise it, never lower.

    x: (B, 3, H, W), multiples of 1/255 in 0 .. 1; so is the result. Randomness comes from the budget's seed and the
    picture's place in the batch. UsageError: unknown name, x is no such batch, or a loss without a gradient.
    """
    if name not in ATTACKS:
        raise UsageError(f"no attack is called {name}; there are {', '.join(ATTACKS)}")
    x, attack = x.detach(), ATTACKS[name]
    if x.ndim != 4 or x.shape[1] != 3 or not torch.allclose(x * 255, _levels(x).clamp(0, 255), rtol=0, atol=1e-3):
        raise UsageError("an attack takes pictures of 8 bits: (B, 3, H, W), multiples of 1/255 in 0 .. 1")
    found = attack.run(loss, x, budget)
    if attack.control:
        return found
    with torch.no_grad():
        better = _rank(loss(found)) > _rank(loss(x))
    return torch.where(_each(better), found, x)


class Search:
    """One run of an attack on a batch: the budget's ball around the clean pictures, and the best points tried there.

    Points are changes of the clean pictures in levels, (B, 3, H, W) float32, inside the ball or not: `picture` makes
    8-bit pictures of them that are.
    """

    def __init__(self, loss: Loss, x: Tensor, budget: Budget, l2: bool) -> None:
        self._loss, self._l2, self.budget = loss, l2, budget
        self.eps = budget.eps if l2 else float(math.floor(budget.eps))  # 8-bit pictures reach no further
        self._clean = _levels(x)
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
        return (self.eps * torch.rand((), generator=draw) * direction / _rms(direction[None])[0]).to(self._clean)

    def in_range(self, point: Tensor) -> Tensor:
        """The nearest point whose pictures have values in 0 .. 255, in the ball or not."""
        return torch.minimum(torch.maximum(point, -self._clean), 255 - self._clean)

    def inside(self, point: Tensor) -> Tensor:
        """The same with the change cut, or for L2 scaled, to the ball."""
        if not self._l2:
            return self.in_range(point.clamp(-self.eps, self.eps))
        point = self.in_range(point)
        return point * (self.eps / _rms(point).clamp(min=self.eps))

    def picture(self, point: Tensor) -> Tensor:
        """(B, 3, H, W) in 0 .. 1: the 8-bit pictures inside the ball that the points stand for."""
        point = self.inside(point)
        if self._l2:
            point = self._shrunk(point)
        return (self._clean + point.round()) / 255

    def _shrunk(self, point: Tensor) -> Tensor:
        """Towards the clean picture until what is rounded is in the ball; bisected, as rounding is monotone."""
        low, high = torch.zeros_like(_rms(point)), torch.ones_like(_rms(point))
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
            gradient = torch.where(_each(stuck), self._gradient(point), gradient)
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
        rank = _rank(loss)
        better = rank > self._best_loss
        self.best = torch.where(_each(better), picture, self.best)
        self._best_loss = torch.where(better, rank, self._best_loss)
        return rank


def _climb(search: Search, point: Tensor, move: Callable[[Tensor], Tensor]) -> None:
    """Steps along `move` of the gradient, back into the ball each time."""
    for _ in range(search.budget.steps):
        point, gradient = search.gradient(point)
        point = search.inside(point + move(gradient))
    search.value(point)


def _fgsm(search: Search) -> None:
    """Goodfellow et al. 2015: one step, of eps where alpha is None."""
    point, gradient = search.gradient(search.nowhere)
    search.value(point + search.budget.step(search.budget.eps) * gradient.sign())


def _ifgsm(search: Search) -> None:
    """BIM (Kurakin et al. 2017): signed steps from the clean picture."""
    _climb(search, search.nowhere, lambda g: search.budget.step() * g.sign())


def _mifgsm(search: Search) -> None:
    """Dong et al. 2018: `ifgsm` along gradients of mean size 1 that add up, the sum times `decay` each step."""
    momentum = search.nowhere

    def move(gradient: Tensor) -> Tensor:
        nonlocal momentum
        size = _each(gradient.abs().flatten(1).mean(1)).clamp(min=torch.finfo(gradient.dtype).tiny)
        momentum = search.budget.decay * momentum + gradient / size
        return search.budget.step() * momentum.sign()

    _climb(search, search.nowhere, move)


def _pgd(search: Search) -> None:
    """Madry et al. 2018: signed steps from random points."""
    for _ in range(search.budget.restarts):
        _climb(search, search.anywhere(), lambda g: search.budget.step() * g.sign())


def _pgd_l2(search: Search) -> None:
    """Madry et al. 2018 in L2: steps of root mean square alpha along the gradient, from random points."""
    for _ in range(search.budget.restarts):
        _climb(search, search.anywhere(), lambda g: search.budget.step() * _unit(g))


def _ftda(search: Search) -> None:
    """Chen and Ma, TCSVT 2023 (arXiv 2112.08691; code: tongxyh/ImageCompression_Adversarial, attack_rd.py).

    Theirs: Adam on the change; a step shrinks its mean square where that exceeds the budget, and raises the loss where
    it does not; the step is multiplied by 0.33 after each third. Their loss is the distortion, their budget a mean
    square of 1e-4 (eps 2.55 here), 1001 steps, Adam's rate 0.01: alpha = eps, our default too, as shorter steps turn
    too slowly.
    Ours: any loss, so both gradients are brought to size 1 before Adam, whose moments they share; pictures are judged
    scaled into the budget, which theirs may end outside of; the best of all steps, not the last; a random start in the
    ball, as a codec that rounds has no gradient at theirs (changes of 1e-5); changes stay in 0 .. 255 by clipping.
    """
    steps, rate = search.budget.steps, search.budget.step(search.eps)
    for _ in range(search.budget.restarts):
        point, mean, square = search.anywhere(), search.nowhere, search.nowhere
        for t in range(steps):
            point, gradient = search.gradient(point)
            down = _unit(torch.where(_rms(point) > search.eps, point, -gradient))
            mean, square = 0.9 * mean + 0.1 * down, 0.999 * square + 0.001 * down.square()
            adam = mean / (1 - 0.9 ** (t + 1)) / ((square / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8)
            point = search.in_range(point - rate * FTDA_DECAY ** (3 * t // steps) * adam)
        search.value(point)


def _noise(search: Search) -> None:
    """Each value is moved by -eps or +eps: what a change of this size does without any search."""
    search.best = search.picture(search.eps * _signs(search.uniform(*search.nowhere.shape[1:])))


def _square(search: Search) -> None:
    """Square Attack (Andriushchenko et al. 2020) in L-infinity, as in AutoAttack: p_init 0.8, queries only.

    Starts at vertical stripes, then tries squares that are -eps or +eps in each colour, and keeps those that raise the
    loss. Ours: every picture has its own squares, and they end where the picture's shorter side does.
    """
    _, colours, height, width = search.nowhere.shape
    for _ in range(search.budget.restarts):
        point = search.inside(search.eps * _signs(search.uniform(colours, 1, width)).expand_as(search.nowhere))
        value = search.value(point)
        for query in range(1, search.budget.steps):
            share = _square_share(query / search.budget.steps)
            side = min(max(1, round(math.sqrt(share * height * width))), height, width)
            places = (search.uniform(2) * torch.tensor([height - side + 1, width - side + 1]).to(point)).long()
            colour = search.eps * _signs(search.uniform(colours, 1, 1))
            tried = point.clone()
            for i, (top, left) in enumerate(places.tolist()):
                tried[i, :, top : top + side, left : left + side] = colour[i]
            tried = search.inside(tried)
            new = search.value(tried)
            point, value = torch.where(_each(new > value), tried, point), torch.maximum(new, value)


def _square_share(progress: float) -> float:
    """Share of the picture that a square covers: halved at AutoAttack's shares of the queries."""
    halvings = sum(progress > at for at in (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8))
    return SQUARE_SHARE * 0.5**halvings


def _levels(x: Tensor) -> Tensor:
    """The nearest whole 8-bit levels, float32."""
    return (x.detach() * 255).round()


def _rank(loss: Tensor) -> Tensor:
    """Float64, with NaN below everything."""
    loss = loss.detach().double()
    return loss.where(~loss.isnan(), -math.inf)


def _each(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def _mean_square(change: Tensor) -> Tensor:
    """(B, 1, 1, 1), float64."""
    return _each(change.square().flatten(1).mean(1, dtype=torch.float64))


def _rms(change: Tensor) -> Tensor:
    """(B, 1, 1, 1): each picture's root mean square, in the change's type."""
    return _mean_square(change).sqrt().to(change)


def _unit(gradient: Tensor) -> Tensor:
    """At root mean square 1; 0 stays 0."""
    return gradient / _rms(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)


def _signs(uniform: Tensor) -> Tensor:
    """-1 or 1."""
    return torch.where(uniform < 0.5, -1.0, 1.0)


ATTACKS = {
    attack.name: attack
    for attack in (
        Attack("fgsm", "one step along the gradient's sign", _fgsm),
        Attack("ifgsm", "signed steps from the clean picture (BIM)", _ifgsm),
        Attack("mifgsm", "signed steps with momentum", _mifgsm),
        Attack("pgd", "signed steps from random points, the best of all", _pgd),
        Attack("pgd-l2", "steps along the gradient in a ball of root mean square change", _pgd_l2, l2=True),
        Attack("ftda", "Adam that shrinks the change or raises the loss, root mean square", _ftda, l2=True),
        Attack("square", "random squares, queries only", _square),
        Attack("noise", "random signs of size eps: the control", _noise, control=True),
    )
}
"""By name. A new attack is one function and one line here."""
