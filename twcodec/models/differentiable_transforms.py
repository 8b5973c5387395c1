"""The float transforms of `differentiable`: of the block families, and of CompressAI's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from twcodec.models import _compressai
from twcodec.models.architectures import ARCHITECTURES
from twcodec.models.block_transform import BLOCK, BlockTransform

if TYPE_CHECKING:
    from torch import Tensor

    from twcodec.models.file import ModelFile
    from twcodec.models.model import Model


class _Blocks:
    """The transforms of the block families, from their own prepared weights."""

    def __init__(self, family: BlockTransform) -> None:
        self._family = family
        self._w = {name: w.clone() if w.is_inference() else w for name, w in family.weights.items()}

    def g_a(self, x: Tensor, quality: float) -> Tensor:
        lap = self._family.lap
        y = self._conv(functional.pad(x * 255 - 128, [lap] * 4, mode="replicate"), "g_a.bank", stride=BLOCK)
        return self._through("g_a", y) * self._family.gain(quality)

    def h_a(self, y: Tensor) -> Tensor:
        z = functional.leaky_relu(self._conv(y, "h_a.0", padding=1), 0.01)
        z = functional.leaky_relu(self._conv(z, "h_a.1", stride=2, padding=2), 0.01)
        return self._conv(z, "h_a.2", stride=2, padding=2)

    def g_s(self, y_hat: Tensor, quality: float) -> Tensor:
        blocks = self._conv(self._through("g_s", y_hat * self._family.inverse_gain(quality)), "g_s.bank")
        b, _, h, w = blocks.shape
        kernel, side = (BLOCK + 2 * self._family.lap) // 2, BLOCK // 2
        # (B, kernel, kernel, 12, h, w), row and column of pairs of pixels; `fold` adds up those that lap over
        columns = blocks.view(b, kernel * kernel, 12, h * w).transpose(1, 2).reshape(b, -1, h * w)
        pad = (kernel - side) // 2
        x = functional.fold(columns, (side * h, side * w), kernel, padding=pad, stride=side)  # less 0.5
        f = functional.pad(x, [1] * 4, value=-0.5)
        f = functional.leaky_relu(self._conv(f, "g_s.filter.0"), 0.1)
        f = functional.leaky_relu(self._conv(f, "g_s.filter.1", padding=1), 0.1)
        x = x + self._conv(f, "g_s.filter.2", padding=1) + 0.5
        return x.view(b, 2, 2, 3, side * h, side * w).permute(0, 3, 4, 1, 5, 2).reshape(b, 3, BLOCK * h, BLOCK * w)

    def _through(self, side: str, x: Tensor) -> Tensor:
        for i in range(self._family.depth[side]):
            name = f"{side}.blocks.{i}"
            h = self._conv(x, f"{name}.depthwise", padding=2, groups=x.shape[1])
            x = x + self._conv(functional.leaky_relu(self._conv(h, f"{name}.expand"), 0.1), f"{name}.project")
        return x

    def _conv(self, x: Tensor, name: str, **how: int) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(x, self._w[f"{name}.weight"], self._w[f"{name}.bias"], **how)


class _Published:
    """CompressAI's own modules, which can be differentiated; ours are made for speed."""

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        architecture = ARCHITECTURES[file.metadata["family"]]
        n, m = (len(file.tensors[name]) for name in (architecture.n_from, architecture.m_from))
        kind = _compressai.load("compressai.zoo.image").model_architectures[file.metadata["family"]]
        net = kind(n) if architecture.n_from == architecture.m_from else kind(n, m)
        self._g_a, self._g_s = _filled(net.g_a, "g_a", file, device), _filled(net.g_s, "g_s", file, device)
        self._h_a = _filled(net.h_a, "h_a", file, device) if architecture.h_a else None
        self._magnitude = architecture.magnitude

    def g_a(self, x: Tensor, _quality: float) -> Tensor:
        y: Tensor = self._g_a(x.contiguous(memory_format=torch.channels_last))
        return y

    def h_a(self, y: Tensor) -> Tensor:
        if self._h_a is None:
            return y
        z: Tensor = self._h_a(y.abs() if self._magnitude else y)
        return z

    def g_s(self, y_hat: Tensor, _quality: float) -> Tensor:
        x: Tensor = self._g_s(y_hat.contiguous(memory_format=torch.channels_last))
        return x


def transforms_of(model: Model) -> _Blocks | _Published:
    """Analysis and synthesis of a model, for batches."""
    if isinstance(model.family, BlockTransform):
        return _Blocks(model.family)
    return _Published(model.file, model.device)


def _filled(module: nn.Module, prefix: str, file: ModelFile, device: torch.device) -> nn.Module:
    """A module of CompressAI with the file's weights; its GDN wants beta and gamma as training reparametrises them."""
    state = {}
    for name in module.state_dict():
        stored = file.tensors.get(f"{prefix}.{name}")
        if stored is None:
            continue  # bounds of the reparametrisation
        value = stored.astype(np.float64)
        if name.endswith((".beta", ".gamma")):
            value = np.sqrt(value + _PEDESTAL)
        state[name] = torch.from_numpy(value).float()
    module.load_state_dict(state, strict=False)
    return module.to(device, memory_format=torch.channels_last).requires_grad_(False).eval()  # type: ignore[call-overload, no-any-return]


_PEDESTAL = 2**-36
"""What CompressAI's reparametrisation adds before it takes the root."""
