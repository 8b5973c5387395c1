"""Attacks: small changes of a picture that raise a loss. Names and parameters as torchattacks and AutoAttack have them.

An attacker can only hand over 8-bit pictures; `search` sees to that at every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from twcodec.errors import UsageError
from twcodec.robustness.search import Budget, Loss, Search, each, levels, rank_of, rms

SQUARE_SHARE = 0.8
"""p_init of Square Attack: share of the picture that the first squares cover. AutoAttack's value."""

FTDA_DECAY = 0.33
"""What FTDA's step is multiplied by after each third of the steps; Chen and Ma's value."""


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
    if x.ndim != 4 or x.shape[1] != 3 or not torch.allclose(x * 255, levels(x).clamp(0, 255), rtol=0, atol=1e-3):
        raise UsageError("an attack takes pictures of 8 bits: (B, 3, H, W), multiples of 1/255 in 0 .. 1")
    found = attack.run(loss, x, budget)
    if attack.control:
        return found
    with torch.no_grad():
        better = rank_of(loss(found)) > rank_of(loss(x))
    return torch.where(each(better), found, x)


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
        size = each(gradient.abs().flatten(1).mean(1)).clamp(min=torch.finfo(gradient.dtype).tiny)
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
            down = _unit(torch.where(rms(point) > search.eps, point, -gradient))
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
            point, value = torch.where(each(new > value), tried, point), torch.maximum(new, value)


def _square_share(progress: float) -> float:
    """Share of the picture that a square covers: halved at AutoAttack's shares of the queries."""
    halvings = sum(progress > at for at in (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8))
    return SQUARE_SHARE * 0.5**halvings


def _unit(gradient: Tensor) -> Tensor:
    """At root mean square 1; 0 stays 0."""
    return gradient / rms(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)


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
