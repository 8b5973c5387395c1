"""The entropy part of families with a serial context: model file -> the exact path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twcodec.errors import UnsupportedError
from twcodec.exact.hyperprior import REACH
from twcodec.exact.wavefront import TAPS, WavefrontHyperprior
from twcodec.models.integer_layers import IntegerLayers
from twcodec.models.mean_scale import shared_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from twcodec.exact.hyperprior import Network
    from twcodec.models.file import ModelFile

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


def _count(file: ModelFile) -> int:
    count = file.count("entropy_parameters.{}.shift")
    if not 1 <= count <= MOST_LAYERS:
        raise UnsupportedError(f"the model file has {count} layers of entropy parameters; 1 to {MOST_LAYERS} are known")
    return count
