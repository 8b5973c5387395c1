"""The family `residual-dct`: a learned 16x16 block transform, residual blocks at 1/16 resolution, a hyperprior.

Initialised with an orthonormal DCT and trained end to end (design section 5). One set of weights serves every quality:
a gain for each channel and quality row before quantisation, another before synthesis; between rows their logarithms
interpolate.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from twcodec.errors import UnsupportedError
from twcodec.exact.layers import Geometry
from twcodec.exact.tiles import tiled
from twcodec.models import mean_scale

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.exact.hyperprior import MeanScaleHyperprior
    from twcodec.models.file import ModelFile

NAME = "residual-dct"
BLOCK = 16
DEPTH = 4
_TILE = 64
"""Latents a side of the tiles on which large pictures are computed: 1024 x 1024 pixels."""

H_S = (
    Geometry(5, 2, 2, transposed=True, output_padding=1),
    Geometry(5, 2, 2, transposed=True, output_padding=1),
    Geometry(3, 1, 1),
)


class ResidualDCT:
    """The float transforms. All of them take and return one picture, without a batch axis."""

    stride = BLOCK

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        """UnsupportedError: the file does not hold this family."""
        rows = file.tensor("gain.log", (None, None), "float32")
        self._n = file.tensor("medians", (None,), "int32").shape[0]
        self._m = rows.shape[1]
        if min(self._n, self._m) < 1 or len(rows) < 2:
            raise UnsupportedError("the model file has no channels, or fewer than two quality rows")
        self._w = {name: torch.from_numpy(value).to(device) for name, value in self._load(file).items()}
        self._log_gain, self._log_inverse = self._w["gain.log"], self._w["gain.log_inverse"]
        self.entropy: MeanScaleHyperprior = mean_scale.from_file(
            file, H_S, (self._n, self._n, self._n * 3 // 2, 2 * self._m), device
        )

    def _load(self, file: ModelFile) -> dict[str, NDArray[np.float32]]:
        found = {name: file.tensor(name, shape, dtype) for name, (shape, dtype) in _layout(self._n, self._m).items()}
        if len(found["gain.log"]) != len(found["gain.log_inverse"]):
            raise UnsupportedError("the model file's gains do not match")
        return {name: value.astype(np.float32) for name, value in found.items()}

    @property
    def rows(self) -> int:
        """Quality rows: quality runs from 1 to this."""
        return len(self._log_gain)

    def g_a(self, x: Tensor, quality: float) -> Tensor:
        """x: (3, H, W) in 0 .. 1, H and W multiples of 16. Returns y: (M, H / 16, W / 16), scaled for `quality`."""
        y = tiled(self._analysis_bank, x, BLOCK * _TILE, 0, down=BLOCK)
        for i in range(DEPTH):
            y = tiled(partial(self._block, f"g_a.blocks.{i}"), y, _TILE, 2)
        return y * self._gain(self._log_gain, quality)

    def h_a(self, y: Tensor) -> Tensor:
        """y: (M, h, w) to z: (N, ceil(h / 4), ceil(w / 4))."""
        z = functional.leaky_relu(self._conv(y[None], "h_a.0", padding=1), 0.01)
        z = functional.leaky_relu(self._conv(z, "h_a.1", stride=2, padding=2), 0.01)
        return self._conv(z, "h_a.2", stride=2, padding=2)[0]

    def g_s(self, y_hat: Tensor, quality: float) -> Tensor:
        """y_hat: (M, h, w) to x_hat: (3, 16 h, 16 w), not clipped."""
        h = y_hat * self._gain(self._log_inverse, quality)
        for i in range(DEPTH):
            h = tiled(partial(self._block, f"g_s.blocks.{i}"), h, _TILE, 2)
        return tiled(self._synthesis_bank, h, _TILE, 1, up=BLOCK)

    def _analysis_bank(self, x: Tensor) -> Tensor:
        """(3, 16 h, 16 w) to (M, h, w)."""
        return self._conv(x[None] - 0.5, "g_a.bank", stride=BLOCK)[0]

    def _synthesis_bank(self, h: Tensor) -> Tensor:
        """(M, h, w) to (3, 16 h, 16 w), with the residual filter, which reaches 6 pixels."""
        rows, columns = h.shape[1:]
        blocks = self._w["g_s.bank.weight"].view(len(h), -1).t() @ h.reshape(len(h), -1)  # (3 16 16, h w)
        x = blocks.view(3, BLOCK, BLOCK, rows, columns).permute(0, 3, 1, 4, 2).reshape(3, BLOCK * rows, BLOCK * columns)
        x = (x + (self._w["g_s.bank.bias"] + 0.5)[:, None, None])[None]
        f = functional.leaky_relu_(self._conv(functional.pixel_unshuffle(x, 2), "g_s.filter.0", padding=1), 0.1)
        f = functional.leaky_relu_(self._conv(f, "g_s.filter.1", padding=1), 0.1)
        return (x + functional.pixel_shuffle(self._conv(f, "g_s.filter.2", padding=1), 2))[0]

    def _conv(self, x: Tensor, name: str, **how: int) -> Tensor:
        return functional.conv2d(x, self._w[f"{name}.weight"], self._w[f"{name}.bias"], **how)

    def _block(self, name: str, x: Tensor) -> Tensor:
        h = self._conv(x[None], f"{name}.depthwise", padding=2, groups=x.shape[0])
        h = functional.leaky_relu_(self._conv(h, f"{name}.expand"), 0.1)
        return x + self._conv(h, f"{name}.project")[0]

    def _gain(self, log_rows: Tensor, quality: float) -> Tensor:
        """(M, 1, 1): the gain at `quality`, 1 .. rows, between rows by interpolating the logarithms."""
        low = min(int(quality), self.rows - 1)
        log = torch.lerp(log_rows[low - 1], log_rows[low], quality - low)
        return log.exp()[:, None, None]


def _layout(n: int, m: int) -> dict[str, tuple[tuple[int | None, ...], str]]:
    """Shape and dtype of every float tensor in a model file: fp16, but for the two banks and the gains."""
    layout: dict[str, tuple[tuple[int | None, ...], str]] = {
        "gain.log": ((None, m), "float32"),
        "gain.log_inverse": ((None, m), "float32"),
    }

    def conv(name: str, kernel: tuple[int, ...], outputs: int, dtype: str = "float16") -> None:
        layout[f"{name}.weight"] = (kernel, dtype)
        layout[f"{name}.bias"] = ((outputs,), "float32")

    conv("g_a.bank", (m, 3, BLOCK, BLOCK), m, "float32")
    conv("g_s.bank", (m, 3, BLOCK, BLOCK), 3, "float32")
    for side in ("g_a", "g_s"):
        for i in range(DEPTH):
            conv(f"{side}.blocks.{i}.depthwise", (m, 1, 5, 5), m)
            conv(f"{side}.blocks.{i}.expand", (2 * m, m, 1, 1), 2 * m)
            conv(f"{side}.blocks.{i}.project", (m, 2 * m, 1, 1), m)
    for i, (outputs, inputs) in enumerate(((32, 12), (32, 32), (12, 32))):
        conv(f"g_s.filter.{i}", (outputs, inputs, 3, 3), outputs)
    for i, (inputs, kernel) in enumerate(((m, 3), (n, 5), (n, 5))):
        conv(f"h_a.{i}", (n, inputs, kernel, kernel), n)
    return layout


_RENAMED = (
    ("analysis.", "g_a.bank."),
    ("synthesis.", "g_s.bank."),
    ("a_blocks.", "g_a.blocks."),
    ("s_blocks.", "g_s.blocks."),
    (".dw.", ".depthwise."),
    (".up.", ".expand."),
    (".down.", ".project."),
    ("filter.0.", "g_s.filter.0."),
    ("filter.2.", "g_s.filter.1."),
    ("filter.4.", "g_s.filter.2."),
    ("h_a.2.", "h_a.1."),
    ("h_a.4.", "h_a.2."),
)


def convert(state: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    """The tensors of a model file from a training checkpoint's state, under the names that training uses."""
    n, m = state["h_a.0.weight"].shape[:2]
    named = {"gain.log": state["log_gain"], "gain.log_inverse": state["log_inv"]}
    for name, value in state.items():
        for old, new in _RENAMED:
            name = name.replace(old, new) if old.startswith(".") or name.startswith(old) else name
        named[name] = value
    floats = {name: named[name].numpy().astype(dtype) for name, (_, dtype) in _layout(n, m).items()}
    return {**floats, **mean_scale.to_tensors(_h_s_modules(state, n, m), _bottleneck(state, n))}


def _h_s_modules(state: dict[str, Tensor], n: int, m: int) -> list[torch.nn.Module]:
    modules: list[torch.nn.Module] = [
        torch.nn.ConvTranspose2d(n, n, 5, 2, 2, 1),
        torch.nn.ConvTranspose2d(n, n * 3 // 2, 5, 2, 2, 1),
        torch.nn.Conv2d(n * 3 // 2, 2 * m, 3, 1, 1),
    ]
    for i, module in enumerate(modules):
        module.load_state_dict({part: state[f"h_s.{2 * i}.{part}"] for part in ("weight", "bias")})
    return modules


def _bottleneck(state: dict[str, Tensor], n: int) -> Any:
    from twcodec.models import _compressai

    bottleneck = _compressai.load("compressai.entropy_models").EntropyBottleneck(n)
    prefix = "entropy_bottleneck."
    own = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    bottleneck.load_state_dict(own, strict=False)
    missing = {name for name, _ in bottleneck.named_parameters()} - set(own)
    if missing:
        raise UnsupportedError(f"the checkpoint lacks {', '.join(sorted(missing))} of the entropy bottleneck")
    return bottleneck
