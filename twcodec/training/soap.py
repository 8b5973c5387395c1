"""SOAP: Adam run in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv 2409.11321, algorithm 3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_SIDES = ("left", "right")
"""The modes that are rotated: output channels, input channels."""

_LEARN_EVERY = 4


@dataclass(frozen=True)
class SoapSettings:
    """betas: of Adam's two moments. basis_beta: of the preconditioner, a step. every: steps between updates of a basis.

    min_dim, max_dim: modes with fewer or more channels stay unrotated.
    """

    betas: tuple[float, float] = (0.95, 0.95)
    basis_beta: float = 0.95
    eps: float = 1e-8
    every: int = 20
    min_dim: int = 16
    max_dim: int = 400


class SOAP(torch.optim.Optimizer):
    """Dense convolutions are rotated on their channel modes, in bfloat16; every other parameter gets plain Adam.

    Moments are kept in the rotated basis, as (outputs, taps, inputs), so a step takes two rotations instead of three.
    The first step of a parameter only measures its basis. All state is fp32 and in `state_dict`.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, settings: SoapSettings | None = None) -> None:
        super().__init__(list(params), {"lr": lr})
        self._settings = settings or SoapSettings()
        self._bases: dict[Tensor, list[Tensor | None]] = {}  # bfloat16 copies of the state's, made when missing

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's; the copies of the old bases are forgotten."""
        super().load_state_dict(state_dict)
        self._bases.clear()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, _to_matrices(p.grad.float()), group["lr"])

    def _update(self, p: Tensor, gradient: Tensor, lr: float) -> None:
        state, (beta1, beta2) = self.state[p], self._settings.betas
        if not state:
            self._start(p, gradient)
            return
        state["step"] += 1
        t = int(state["step"])
        left, right = self._basis(p)
        rotated = _rotate(gradient, left, right)
        state["m"].lerp_(rotated, 1 - beta1)
        state["v"].mul_(beta2).addcmul_(rotated, rotated, value=1 - beta2)
        direction = state["m"] / state["v"].sqrt().add_(self._settings.eps)
        update = _rotate(direction, _transposed(left), _transposed(right))
        scale = lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
        p.add_(_from_matrices(update, p), alpha=-scale)
        if t % _LEARN_EVERY == 0:
            self._learn(state, gradient)
        if t % self._settings.every == 0:
            self._turn(p, state)

    def _start(self, p: Tensor, gradient: Tensor) -> None:
        state = self.state[p]
        state["step"] = torch.zeros(())
        state["m"], state["v"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        for side in _SIDES if _is_dense(p) else ():
            gram = _gram(gradient, side)
            if self._settings.min_dim <= len(gram) <= self._settings.max_dim:
                ridge = 1e-20 * torch.eye(len(gram), device=gram.device)
                state[f"gram_{side}"] = gram
                state[f"basis_{side}"] = torch.linalg.eigh(gram + ridge)[1].flip(1).contiguous()

    def _basis(self, p: Tensor) -> list[Tensor | None]:
        if p not in self._bases:
            found = [self.state[p].get(f"basis_{side}") for side in _SIDES]
            self._bases[p] = [None if basis is None else basis.bfloat16() for basis in found]
        return self._bases[p]

    def _learn(self, state: dict[str, Any], gradient: Tensor) -> None:
        """Follow the gradients' second moments, every few steps at as many times the pace."""
        for side in _SIDES:
            if f"gram_{side}" in state:
                state[f"gram_{side}"].lerp_(_gram(gradient, side), _LEARN_EVERY * (1 - self._settings.basis_beta))

    def _turn(self, p: Tensor, state: dict[str, Any]) -> None:
        """One power iteration towards the eigenbasis; the first moment moves along."""
        for side in _SIDES:
            if f"gram_{side}" not in state:
                continue
            old = state[f"basis_{side}"]
            new = torch.linalg.qr(state[f"gram_{side}"] @ old)[0]
            change = old.T @ new
            m = state["m"]
            state["m"] = (change.T @ m.reshape(len(m), -1)).view_as(m) if side == "left" else m @ change
            state[f"basis_{side}"] = new
        self._bases.pop(p, None)


def _is_dense(p: Tensor) -> bool:
    """Whether p is a convolution's kernel that mixes channels."""
    return p.dim() == 4 and p.shape[1] > 1


def _to_matrices(t: Tensor) -> Tensor:
    """A kernel (O, I, h, w) to (O, h w, I), which is how channels_last stores it; anything else as it is."""
    return t.permute(0, 2, 3, 1).reshape(len(t), -1, t.shape[1]) if t.dim() == 4 else t


def _from_matrices(t: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_to_matrices`."""
    if like.dim() != 4:
        return t
    outputs, inputs, height, width = like.shape
    return t.view(outputs, height, width, inputs).permute(0, 3, 1, 2)


def _gram(gradient: Tensor, side: str) -> Tensor:
    """Second moments of (O, taps, I) over everything but one channel mode: (O, O) or (I, I)."""
    if side == "left":
        rows = gradient.reshape(len(gradient), -1)
        return rows @ rows.T
    columns = gradient.reshape(-1, gradient.shape[-1])
    return columns.T @ columns


def _rotate(t: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    """(O, taps, I) to left^T t right for each tap, in bfloat16: gradients tolerate its rounding. None: no rotation."""
    if left is None and right is None:
        return t
    out = t.bfloat16()
    if left is not None:
        out = (left.T @ out.reshape(len(t), -1)).view_as(t)
    if right is not None:
        out = (out.reshape(-1, t.shape[-1]) @ right).view_as(t)
    return out.float()


def _transposed(basis: Tensor | None) -> Tensor | None:
    return None if basis is None else basis.T
