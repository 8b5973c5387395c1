"""`lapped-dct`: a trained network -> the tensors of a model file, and back, to train on from what ships."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from twcodec.errors import UnsupportedError
from twcodec.exact.arithmetic import ONE
from twcodec.exact.tables import Tables, table_from_probabilities
from twcodec.models.block_transform import layout
from twcodec.models.integer_layers import quantised
from twcodec.models.lapped_dct_network import Config, Network
from twcodec.models.mean_scale import factorised_tables, tensors_of
from twcodec.models.residual_dct import RENAMED
from twcodec.models.scale_mixture import LOG_SCALE_MAX, LOG_SCALE_MIN, ScaleMixture

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.models.file import ModelFile

LEVELS = 256
_TRANSPOSED = ("h_s.0", "h_s.1")
_INTEGER = (*_TRANSPOSED, "first.0", "first.1", "context", "second.0", "second.1")
_TRAINING = "training."
_CONTINUED = ("bottleneck.", "density.")
"""What only training needs; kept in the model file, so that it can go on."""

_REACH = 4096


def convert(network: Network) -> dict[str, NDArray[Any]]:
    """The tensors of a model file. Its y tables follow the assumed density; `training.fit_tables` has better ones."""
    config, state = network.config, {k: v.detach().cpu().float() for k, v in network.state_dict().items()}
    wanted = layout(config.n, config.m, 16 + 2 * config.lap, config.hidden, config.filter, _depth(config))
    out: dict[str, NDArray[Any]] = {}
    for name, (_, dtype) in wanted.items():
        out[name] = state[name].contiguous().numpy().astype(dtype)
    for name in _INTEGER:
        weight, bias = (state[f"{name}.{part}"].double().numpy() for part in ("weight", "bias"))
        weight = weight.swapaxes(0, 1) if name in _TRANSPOSED else weight  # output channel first
        out.update(quantised(name, weight, bias))
    z_tables, medians = factorised_tables(copy.deepcopy(network.bottleneck).cpu())
    out.update({**tensors_of("y", density_tables(network.density)), **tensors_of("z", z_tables)})
    continued = {_TRAINING + k: v.contiguous().numpy() for k, v in state.items() if _is_continued(k)}
    return {**out, **continued, "thresholds": thresholds(), "medians": medians}


def state_of(file: ModelFile) -> dict[str, Tensor]:
    """The inverse of `convert`, but for what rounding lost: a state for `Network`."""
    state = {}
    for name, value in file.tensors.items():
        if name.startswith(_TRAINING):
            state[name[len(_TRAINING) :]] = torch.from_numpy(value.copy())
        elif name.split(".")[0] in ("g_a", "g_s", "h_a", "gain"):
            state[name] = torch.from_numpy(value.astype(np.float32))
    for name in _INTEGER:
        weight, bias, shift = (file.tensors[f"{name}.{part}"] for part in ("weight", "bias", "shift"))
        scale = np.exp2(-shift.astype(np.float64))
        kernel = weight * scale.reshape(-1, 1, 1, 1)
        kernel = kernel.swapaxes(0, 1) if name in _TRANSPOSED else kernel
        state[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel)).float()
        state[f"{name}.bias"] = torch.from_numpy(bias * scale / ONE).float()
    return state


@torch.no_grad()
def load(network: Network, file: ModelFile) -> None:
    """Go on from a model file of this family. UnsupportedError: it has other sizes, or nothing to go on from."""
    try:
        missing = network.load_state_dict(state_of(file), strict=False).missing_keys
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise UnsupportedError(f"the model cannot be trained on: {str(error).splitlines()[-1].strip()}") from None
    learnt = {name for name, _ in network.named_parameters()} & set(missing)
    if learnt:
        raise UnsupportedError(f"the model cannot be trained on: it lacks {', '.join(sorted(learnt))}")


@torch.no_grad()
def widen(network: Network, checkpoint: dict[str, Tensor]) -> None:
    """Start from a training checkpoint of the family `residual-dct`, which has fewer channels and no context.

    The old channels keep their places among the DCT pictures; new ones pass the blocks unchanged until they learn.
    """
    own, config = network.state_dict(), network.config
    luma, chroma = _OLD_CHANNELS
    if config.luma < luma or config.chroma < chroma:
        raise UnsupportedError(f"a network with fewer than {luma} and {chroma} channels cannot hold the older ones")
    old = torch.cat([torch.arange(luma)] + [config.luma + i * config.chroma + torch.arange(chroma) for i in (0, 1)])
    new = torch.ones(config.m, dtype=torch.bool)
    new[old] = False
    for name, value in checkpoint.items():
        target = own.get(_renamed(name))
        if target is None or name.startswith("h_s."):
            continue
        value = functional.pad(value, [config.lap] * 4) if name in ("analysis.weight", "synthesis.weight") else value
        if target.shape != value.shape and value.dim() > 1 and ".bank." not in _renamed(name) and "log_" not in name:
            target.zero_()
        if value.dim() != target.dim():
            raise UnsupportedError(f"the checkpoint's {name} has {value.dim()} axes, {target.dim()} were expected")
        places = [_places(m, n, old) for n, m in zip(value.shape, target.shape, strict=True)]
        target[torch.meshgrid(*places, indexing="ij")] = value
    for block in network.blocks():
        block.depthwise.weight[new] = 0
        block.depthwise.weight[new, :, 2, 2] = 1
        _bias(block.depthwise)[new] = 0


def _bias(layer: torch.nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


_OLD_CHANNELS = (176, 40)


def _places(size: int, count: int, old: Tensor) -> Tensor:
    """Where the old indices of an axis lie: channels of y spread out, everything else in front."""
    if count == size:
        return torch.arange(count)
    if count == len(old):
        return old
    raise UnsupportedError(f"an axis of {count} in the checkpoint has {size} in the network")


def _renamed(name: str) -> str:
    for old, new in (*RENAMED, ("entropy_bottleneck.", "bottleneck."), ("log_gain", "gain.log")):
        name = name.replace(old, new) if old.startswith(".") or name.startswith(old) else name
    return "gain.log_inverse" if name == "log_inv" else name


def _depth(config: Config) -> dict[str, int]:
    return {"g_a": config.depth, "g_s": config.depth}


def _is_continued(name: str) -> bool:
    return name.startswith(_CONTINUED) and not name.rpartition(".")[2].startswith(("_", "target"))


def thresholds() -> NDArray[np.int32]:
    """(LEVELS - 1,): midpoints between the log scales of neighbouring tables, in activations' units."""
    levels = _log_scales()
    return np.asarray(np.floor((levels[1:] + levels[:-1]) / 2 * ONE + 0.5), np.int32)


def density_tables(density: ScaleMixture) -> Tables:
    """One table a level: the assumed density over unit intervals around the integers."""
    symbols = torch.arange(0, _REACH + 1, dtype=torch.float64)
    double = copy.deepcopy(density).cpu().double()
    tables = []
    for log_scale in _log_scales():
        reach = min(_REACH, math.ceil(30 * math.exp(log_scale)) + 2)
        with torch.inference_mode():
            half = double(symbols[: reach + 1], torch.full((reach + 1,), log_scale, dtype=torch.float64)).numpy()
        tables.append(table_from_probabilities(-reach, np.concatenate([half[:0:-1], half])))
    return Tables.pack(tables)


def _log_scales() -> NDArray[np.float64]:
    return np.linspace(LOG_SCALE_MIN, LOG_SCALE_MAX, LEVELS)
