"""The family `residual-dct`: a learned 16x16 block transform, residual blocks at 1/16 resolution, a hyperprior.

Initialised with an orthonormal DCT and trained end to end (design section 5). One set of weights serves every quality:
a gain for each channel and quality row before quantisation, another before synthesis; between rows their logarithms
interpolate. The first embedded models are of this family; `lapped_dct` is its successor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from twcodec.errors import UnsupportedError
from twcodec.models import mean_scale
from twcodec.models.block_transform import BLOCK, BlockTransform, Layout, layout
from twcodec.models.integer_layers import SAME, UP

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.models.file import ModelFile

NAME = "residual-dct"
_DEPTH = {"g_a": 4, "g_s": 4}
_FILTER = 32

H_S = (UP, UP, SAME)


class ResidualDCT(BlockTransform):
    """Blocks that do not overlap, four residual blocks on each side, a mean-scale hyperprior without context."""

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        """UnsupportedError: the file does not hold this family."""
        super().__init__(file, device)
        channels = (self.n, self.n, self.n * 3 // 2, 2 * self.m)
        self.entropy = mean_scale.from_file(file, H_S, channels, device)

    def _depth(self, file: ModelFile) -> dict[str, int]:
        return _DEPTH

    def _layout(self, file: ModelFile) -> Layout:
        return _layout(self.n, self.m)


def _layout(n: int, m: int) -> Layout:
    return layout(n, m, BLOCK, 2 * m, _FILTER, _DEPTH)


RENAMED = (
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
        for old, new in RENAMED:
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
