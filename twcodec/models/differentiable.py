"""A model with gradients: the same weights as its model file's, in floating point, for batches of pictures.

Attackers differentiate through it, and an encoder that refines its latents does. It computes what the codec computes,
but for the rounding of integers in the entropy networks: bits are those of the codec's own tables, rounding is the
codec's own, and pixels are the same within float32. What is coded is always made by the codec.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional

from twcodec.models.differentiable_rate import Quantizer, Rated, rate_of
from twcodec.models.differentiable_transforms import transforms_of

if TYPE_CHECKING:
    from torch import Tensor

    from twcodec.models.model import Model


@dataclass(frozen=True)
class Coded:
    """What the codec would make of pictures. x_hat: (B, 3, H, W), not clipped. bits: (B,), of y and z."""

    x_hat: Tensor
    bits: Tensor


class Differentiable:
    """A model's analysis, rate and synthesis, for (B, 3, H, W) in 0 .. 1, any size, with gradients to all inputs."""

    stride = 16

    def __init__(self, model: Model) -> None:
        """UnsupportedError: the model has gains for each quality of a kind that has no such form yet."""
        self._entropy = rate_of(model.file, model.device)
        self._transforms = transforms_of(model)

    def code(
        self,
        x: Tensor,
        quality: float,
        quantizer: Quantizer = "ste",
        refine: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Coded:
        """The whole way of pictures, padded as the codec pads them.

        refine: y and z to a better y, through which the gradient passes straight: its moves are whole symbols.
        """
        height, width = x.shape[-2:]
        padded = functional.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        y, z = self.analyse(padded, quality)
        if refine:
            y = y + (refine(y.detach(), z.detach()) - y).detach()
        rated = self.rate(y, z, quantizer)
        return Coded(self.synthesise(rated.y_hat, quality)[..., :height, :width], rated.bits)

    def analyse(self, x: Tensor, quality: float) -> tuple[Tensor, Tensor]:
        """x: (B, 3, H, W), sides multiples of the stride. Returns y: (B, M, h, w) and z: (B, N, h', w')."""
        y = self._transforms.g_a(x, quality)
        return y, self._transforms.h_a(y)

    def rate(self, y: Tensor, z: Tensor, quantizer: Quantizer = "ste") -> Rated:
        """Symbols, what they cost and what they stand for."""
        return self._entropy(y, z, quantizer)

    def cost(self, symbols: Tensor, index: Tensor) -> Tensor:
        """Bits of each symbol of y under the table of the index."""
        return self._entropy.cost(symbols, index)

    def slope(self, symbols: Tensor, index: Tensor) -> Tensor:
        """The part of a gradient of `rate` that is each symbol's own cost: bits by which that grows with the symbol."""
        return self._entropy.slope(symbols, index)

    def synthesise(self, y_hat: Tensor, quality: float) -> Tensor:
        """x_hat: (B, 3, 16 h, 16 w)."""
        return self._transforms.g_s(y_hat, quality)
