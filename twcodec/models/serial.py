"""The entropy part of families with a serial context: model file -> the exact path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from twcodec.errors import UnsupportedError
from twcodec.exact.hyperprior import REACH
from twcodec.exact.wavefront import TAPS, WavefrontHyperprior
from twcodec.models.integer_layers import IntegerLayers, quantised
from twcodec.models.mean_scale import shared_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch
    from numpy.typing import NDArray

    from twcodec.exact.hyperprior import Network
    from twcodec.models.file import ModelFile

    Layer = tuple[NDArray[np.float64], NDArray[np.float64]]
MOST_LAYERS = 8


def from_file(
    file: ModelFile,
    h_s: Sequence[Network],
    features: int,
    m: int,
    n: int,
    device: torch.device,
    reach: int = REACH,
) -> WavefrontHyperprior:
    """The exact entropy path behind h_s, which gives `features` channels and reaches `reach` positions of z.

    m, n: channels of y and z. The widths of context and entropy parameters come from the file. UnsupportedError: it
    does not fit.
    """
    layers = IntegerLayers(file, device)
    seen = layers.width("context")
    context = layers.rows("context", (seen, len(TAPS), m), leaky=False)
    names = [f"entropy_parameters.{i}" for i in range(_count(file))]
    widths = [features + seen, *(layers.width(name) for name in names)]
    if widths[-1] != 2 * m:
        raise UnsupportedError(f"the model file's entropy parameters have {widths[-1]} outputs, not {2 * m}")
    parameters = [
        layers.rows(name, (widths[i + 1], widths[i]), leaky=i + 1 < len(names)) for i, name in enumerate(names)
    ]
    return WavefrontHyperprior(h_s, context, parameters, *shared_parts(file, n, device), reach=reach)


def to_tensors(context: Layer, parameters: Iterable[Layer]) -> dict[str, NDArray[Any]]:
    """The tensors of a model file from weights and biases in floating point.

    context: (C, M, 5, 5), of which only `TAPS` are used. parameters: the 1x1 layers in order, (O, I, 1, 1).
    """
    weight, bias = context
    seen = np.stack([weight[:, :, 2 + dy, 2 + dx] for dy, dx in TAPS], axis=1)  # (C, 12, M)
    out = quantised("context", seen, bias)
    for i, (weight, bias) in enumerate(parameters):
        out.update(quantised(f"entropy_parameters.{i}", weight[:, :, 0, 0], bias))
    return out


def _count(file: ModelFile) -> int:
    count = file.count("entropy_parameters.{}.shift")
    if not 1 <= count <= MOST_LAYERS:
        raise UnsupportedError(f"the model file has {count} layers of entropy parameters; 1 to {MOST_LAYERS} are known")
    return count
