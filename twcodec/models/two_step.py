"""The entropy part of families with context in two steps: model file -> the exact path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twcodec.exact.two_step import TwoStepHyperprior
from twcodec.models.integer_layers import POINT, UP, IntegerLayers
from twcodec.models.mean_scale import shared_parts

if TYPE_CHECKING:
    import torch

    from twcodec.models.file import ModelFile

_CONTEXT = 3


def from_file(file: ModelFile, n: int, m: int, device: torch.device) -> TwoStepHyperprior:
    """The exact entropy path of a model file. n, m: channels of z and y. UnsupportedError: the file does not fit."""
    layers = IntegerLayers(file, device)
    features, first, second = (layers.width(name) for name in ("h_s.1", "first.0", "second.0"))
    layer = layers.convolution
    return TwoStepHyperprior(
        [layer("h_s.0", n, n, UP, True), layer("h_s.1", features, n, UP, True)],
        [layer("first.0", first, features, POINT, True), layer("first.1", 2 * m, first, POINT, False)],
        layers.depthwise("context", 2 * m, _CONTEXT),
        [layer("second.0", second, features + 2 * m, POINT, True), layer("second.1", 2 * m, second, POINT, False)],
        *shared_parts(file, n, device),
    )
