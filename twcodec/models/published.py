"""The published models that CompressAI made common: float transforms, and their entropy part on integers.

Ballé et al. 2018 (`bmshj2018-*`), Minnen et al. 2018 (`mbt2018*`), Cheng et al. 2020 (`cheng2020-*`), and the variable
rate of Kamisli et al. 2024 (`*-vbr`). A model file has CompressAI's names for the weights of g_a, g_s and h_a; the
layers of h_s and of the entropy parameters are integers, numbered in order. `convert.convert_checkpoint` makes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from twcodec.errors import UnsupportedError
from twcodec.exact.arithmetic import relu
from twcodec.exact.factorised import Factorised
from twcodec.exact.hyperprior import Hyperprior, MeanScaleHyperprior, Network, ScaleHyperprior
from twcodec.exact.tiles import tiled
from twcodec.exact.variable_rate import VariableRateHyperprior
from twcodec.models import serial
from twcodec.models.architectures import ARCHITECTURES, Architecture, HyperLayer
from twcodec.models.integer_layers import IntegerLayers
from twcodec.models.mean_scale import shared_parts, tables_from

if TYPE_CHECKING:
    from torch import Tensor, nn

    from twcodec.models.file import ModelFile

_TILE = 64
"""Latents a side of the tiles on which large pictures are computed: 1024 x 1024 pixels."""

MOST_CHANNELS = 4096
"""N and M of the published models are at most 320."""


class Published:
    """g_a, h_a and g_s. All of them take and return one picture, without a batch axis."""

    stride = 16

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        """UnsupportedError: the file does not hold the architecture that it claims."""
        architecture = ARCHITECTURES[file.metadata["family"]]
        n, m = (_size(file, name) for name in (architecture.n_from, architecture.m_from))
        self._architecture = architecture
        with torch.device("meta"):  # no memory is taken before the shapes are checked
            g_a, g_s = architecture.transforms(n, m)
            h_a = architecture.h_a(n, m) if architecture.h_a else None
        self._g_a, self._g_s = _filled(g_a, "g_a", file, device), _filled(g_s, "g_s", file, device)
        self._h_a = _filled(h_a, "h_a", file, device) if h_a else None
        self.entropy = _entropy(file, architecture, n, m, device)
        self.rows = len(file.tensor("gains", (None,), "int32")) if architecture.variable else 1

    def g_a(self, x: Tensor, _quality: float) -> Tensor:
        """x: (3, H, W) in 0 .. 1, H and W multiples of 16. Returns y: (M, H / 16, W / 16)."""
        halo = self.stride * self._architecture.halo[0]
        return tiled(_without_batch(self._g_a), x, self.stride * _TILE, halo, down=self.stride)

    def h_a(self, y: Tensor) -> Tensor:
        """y: (M, h, w) to z: (N, ceil(h / 4), ceil(w / 4)); with a factorised prior y itself is what is coded."""
        if self._h_a is None:
            return y
        return _without_batch(self._h_a)(y.abs() if self._architecture.magnitude else y)

    def g_s(self, y_hat: Tensor, _quality: float) -> Tensor:
        """y_hat: (M, h, w) to x_hat: (3, 16 h, 16 w), not clipped."""
        return tiled(_without_batch(self._g_s), y_hat, _TILE, self._architecture.halo[1], up=self.stride)


def _without_batch(module: nn.Module) -> Network:
    def run(x: Tensor) -> Tensor:
        return module(x[None].contiguous(memory_format=torch.channels_last))[0]  # type: ignore[no-any-return]

    return run


def _size(file: ModelFile, name: str) -> int:
    found = file.tensors.get(name)
    if found is None or found.ndim != 4 or not 2 <= found.shape[0] <= MOST_CHANNELS:
        raise UnsupportedError(f"the model file has no {name} of 2 to {MOST_CHANNELS} channels; it is damaged")
    return int(found.shape[0])


def _filled(module: nn.Module, prefix: str, file: ModelFile, device: torch.device) -> nn.Module:
    """A module with the file's weights, those of convolutions channels last. UnsupportedError: they do not fit."""
    state = {}
    for name, wanted in module.state_dict().items():
        value = file.tensor(f"{prefix}.{name}", tuple(wanted.shape), "float32")
        if not np.isfinite(value).all():
            raise UnsupportedError(f"the model file's {prefix}.{name} holds what is no number; it is damaged")
        state[name] = torch.tensor(value, device=device)
    module.load_state_dict(state, assign=True)
    return module.to(memory_format=torch.channels_last).requires_grad_(False).eval()  # type: ignore[call-overload, no-any-return]


def _entropy(file: ModelFile, architecture: Architecture, n: int, m: int, device: torch.device) -> Hyperprior:
    if architecture.h_s is None:
        return Factorised(tables_from(file, "z", m), file.tensor("medians", (m,), "int32"), device)
    layers = architecture.h_s(n, m)
    h_s = _h_s(layers, IntegerLayers(file, device))
    if architecture.context:
        return serial.from_file(file, h_s, layers[-1].outputs, m, n, device, architecture.reach)
    if architecture.variable:
        return _variable(file, architecture, h_s, n, device)
    kind = MeanScaleHyperprior if architecture.means else ScaleHyperprior
    return kind(h_s, *shared_parts(file, n, device), reach=architecture.reach)


def _h_s(described: list[HyperLayer], layers: IntegerLayers) -> list[Network]:
    networks: list[Network] = []
    for i, layer in enumerate(described):
        shape = layer.outputs, layer.inputs, layer.geometry
        networks.append(layers.convolution(f"h_s.{i}", *shape, leaky=layer.then == "leaky"))
        networks += [relu] if layer.then == "relu" else []
        networks += [_shuffle] if layer.shuffled else []
    return networks


def _shuffle(a: Tensor) -> Tensor:
    """(4 C, h, w) to (C, 2 h, 2 w): channel 4 c + 2 i + j becomes the pixels of channel c at (2 r + i, 2 q + j)."""
    return torch.nn.functional.pixel_shuffle(a, 2)


def _variable(
    file: ModelFile, architecture: Architecture, h_s: list[Network], n: int, device: torch.device
) -> VariableRateHyperprior:
    gains = file.tensor("gains", (None,), "int32")
    levels = len(file.tensor("thresholds", (None,), "int32")) + 1
    offsets = file.tensor("offsets", (len(gains), levels), "float32")
    steps = file.tensor("z_steps", (len(gains),), "int32") if "z_steps" in file.tensors else None
    shared = shared_parts(file, n, device, z_rows=1 if steps is None else len(gains))
    return VariableRateHyperprior(gains, offsets, steps, architecture.means, h_s, *shared, reach=architecture.reach)
