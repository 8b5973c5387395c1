"""The entropy part of families with context in two steps: model file -> the exact path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from twcodec.exact.two_step import Parameters, TwoStepHyperprior
from twcodec.models.integer_layers import UP, IntegerLayers
from twcodec.models.mean_scale import shared_parts

if TYPE_CHECKING:
    import torch

    from twcodec.models.file import ModelFile

_CONTEXT = 3


def from_file(file: ModelFile, n: int, m: int, device: torch.device) -> TwoStepHyperprior:
    """The exact entropy path of a model file. n, m: channels of z and y. UnsupportedError: the file does not fit."""
    layers = IntegerLayers(file, device)
    features, first, second = (layers.width(name) for name in ("h_s.1", "first.0", "second.0"))
    even, odd = (np.concatenate([np.arange(start, m, 2), np.arange(m + start, 2 * m, 2)]) for start in (0, 1))

    def network(name: str, hidden: int, inputs: int) -> Parameters:
        last, shape = f"{name}.1", (2 * m, hidden, 1, 1)
        return Parameters(
            layers.rows(f"{name}.0", (hidden, inputs, 1, 1), True),
            layers.rows(last, shape, False, even),
            layers.rows(last, shape, False, odd) if len(odd) else None,
        )

    return TwoStepHyperprior(
        [layers.convolution("h_s.0", n, n, UP, True), layers.convolution("h_s.1", features, n, UP, True)],
        network("first", first, features),
        layers.depthwise("context", 2 * m, _CONTEXT),
        network("second", second, features + 2 * m),
        *shared_parts(file, n, device),
    )
