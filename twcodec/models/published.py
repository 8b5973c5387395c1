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
from twcodec.exact.tiles import as_it_is, tiled
from twcodec.exact.variable_rate import VariableRateHyperprior
from twcodec.models import serial
from twcodec.models.architectures import ARCHITECTURES, Architecture, HyperLayer
from twcodec.models.footprint import TILE, Footprint
from twcodec.models.integer_layers import IntegerLayers
from twcodec.models.mean_scale import shared_parts, tables_from
from twcodec.models.networks import in_type

if TYPE_CHECKING:
    from torch import Tensor, nn

    from twcodec.exact.tiles import Windows
    from twcodec.models.file import ModelFile

_H_A_REACH = 8
"""Latents, in a multiple of 4: h_a reaches 1 + 2 + 4, that of Cheng et al. 2020 1 + 1 + 1 + 2 + 2."""

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
        networks = {"g_a": g_a, "g_s": g_s, **({"h_a": h_a} if h_a else {})}
        self._networks = {torch.float32: {name: _filled(net, name, file, device) for name, net in networks.items()}}
        self.entropy = _entropy(file, architecture, n, m, device)
        self.rows = len(file.tensor("gains", (None,), "int32")) if architecture.variable else 1
        self.reach = architecture.halo[1]
        held = architecture.h_s(n, m)[-1].outputs if architecture.h_s and architecture.context else 0
        context, hyper = architecture.context, architecture.h_a is not None
        self.footprint = Footprint(m, n, held, context, hyper, False, architecture.halo[1], architecture.working(n))

    def g_a(self, x: Windows, _quality: float, dtype: torch.dtype = torch.float32, tile: int = TILE) -> Tensor:
        """x: (3, H, W) in 0 .. 1, H and W multiples of 16. Returns y: (M, H / 16, W / 16).

        dtype: in which the layers compute. tile: latents a side of the tiles, a multiple of 4.
        """
        halo = self.stride * self._architecture.halo[0]
        return tiled(self._network("g_a", dtype), x, self.stride * tile, halo, down=self.stride)

    def at_quality(self, y: Tensor, _before: float, _after: float) -> Tensor:
        """What g_a gives at another quality: the same, for gains are part of the entropy path."""
        return y

    def h_a(self, y: Tensor, dtype: torch.dtype = torch.float32, tile: int = TILE) -> Tensor:
        """y: (M, h, w) to z: (N, ceil(h / 4), ceil(w / 4)); with a factorised prior y itself is what is coded."""
        if self._architecture.h_a is None:
            return y
        h_a = self._network("h_a", dtype)
        magnitude = self._architecture.magnitude
        return tiled(lambda part: h_a(part.abs() if magnitude else part), y, tile, _H_A_REACH, down=4)

    def g_s(
        self,
        y_hat: Tensor,
        _quality: float,
        dtype: torch.dtype = torch.float32,
        finish: Network = as_it_is,
        tile: int = TILE,
    ) -> Tensor:
        """y_hat: (M, h, w) to x_hat: (3, 16 h, 16 w), not clipped. dtype: in which all layers but the last compute.

        finish: what is done with x_hat, tile by tile, before it is put together. tile: as in g_a.
        """
        g_s = self._network("g_s", dtype)
        return tiled(lambda part: finish(g_s(part)), y_hat, tile, self._architecture.halo[1], up=self.stride)

    def _network(self, name: str, dtype: torch.dtype) -> Network:
        """A network without its batch axis, from float32 to float32; its weights are kept in every type asked for."""
        if dtype not in self._networks:  # threads that ask at once make the same
            self._networks[dtype] = {k: in_type(net, dtype) for k, net in self._networks[torch.float32].items()}
        module = self._networks[dtype][name]

        def run(x: Tensor) -> Tensor:
            return module(x[None].contiguous(memory_format=torch.channels_last))[0].float()  # type: ignore[no-any-return]

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
    """(h, w, 4 C) to (2 h, 2 w, C): channel 4 c + 2 i + j becomes the pixels of channel c at (2 r + i, 2 q + j)."""
    height, width = a.shape[:2]
    return a.view(height, width, -1, 2, 2).permute(0, 3, 1, 4, 2).reshape(2 * height, 2 * width, -1)


def _variable(
    file: ModelFile, architecture: Architecture, h_s: list[Network], n: int, device: torch.device
) -> VariableRateHyperprior:
    gains = file.tensor("gains", (None,), "int32")
    levels = len(file.tensor("thresholds", (None,), "int32")) + 1
    offsets = file.tensor("offsets", (len(gains), levels), "float32")
    steps = file.tensor("z_steps", (len(gains),), "int32") if "z_steps" in file.tensors else None
    shared = shared_parts(file, n, device, z_rows=1 if steps is None else len(gains))
    return VariableRateHyperprior(gains, offsets, steps, architecture.means, h_s, *shared, reach=architecture.reach)
