"""Checkpoints -> model files. Decoding never comes here.

`python -m twcodec.models.convert CHECKPOINT OUT` converts a checkpoint of the first training script;
`twc models import` those of CompressAI, by `convert_checkpoint`.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from twcodec.errors import UnsupportedError, UsageError
from twcodec.exact.arithmetic import ONE
from twcodec.exact.variable_rate import GAIN_BITS, GAIN_LIMIT, Z_STEP_LIMIT
from twcodec.models import architectures, mean_scale, official, residual_dct, serial
from twcodec.models import file as model_file
from twcodec.models.architectures import Architecture
from twcodec.models.checkpoint import Bottleneck, Checkpoint, read_checkpoint
from twcodec.models.integer_layers import quantised

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

ARCHITECTURES = tuple(architectures.ARCHITECTURES)

LAMBDAS = official.LAMBDAS["mse"]
"""By quality; of models that were trained for MS-SSIM too, since they trade rate for MSE alike."""

_MOST_HIDDEN = 1 << 10
"""Of the small networks for gains, which CompressAI's have 12 of: as many numbers for each row and scale level."""

_REPARAMETRISED = 2.0**-36
_BETA_MIN = 1e-6

Tensors = dict[str, "NDArray[Any]"]


def convert_checkpoint(
    path: str | Path,
    architecture: str,
    *,
    quality: int | None = None,
    metric: str = "mse",
    lmbda: float | None = None,
) -> bytes:
    """The model file of a CompressAI checkpoint. The same weights always give the same bytes.

    quality: 1 to 8, CompressAI's number, which becomes the model's own quality; None: 1, with the lambda of 4. lmbda:
    the trade-off it was trained with, if it is not that of its quality. Variable-rate models have all eight.
    Errors: UsageError, UnreadableError, UnsupportedError, LimitError.
    """
    if architecture not in architectures.ARCHITECTURES:
        raise UsageError(f"unknown architecture {architecture!r}; there are: {', '.join(ARCHITECTURES)}")
    if metric not in official.METRICS or (quality is not None and not 1 <= quality <= official.HIGHEST):
        raise UsageError(f"quality is 1 to {official.HIGHEST}, metric one of {', '.join(official.METRICS)}")
    if lmbda is not None and not 0 < lmbda < model_file.MOST_LAMBDA:
        raise UsageError(f"the lambda {lmbda:g} is out of range")
    built = architectures.ARCHITECTURES[architecture]
    if built.variable and (quality is not None or lmbda is not None):
        raise UsageError(f"{architecture} has all qualities in one model")
    checkpoint = Checkpoint(read_checkpoint(path), architecture)
    tensors = _tensors(checkpoint, built)
    checkpoint.check_all_taken()
    chosen = LAMBDAS if built.variable else [lmbda or LAMBDAS[(quality or 4) - 1]]
    metadata = {
        "family": architecture,
        "lambda": [float(v) for v in chosen],
        "provenance": {"origin": "a CompressAI checkpoint", "metric": metric},
    }
    return model_file.build(tensors, metadata if built.variable else {**metadata, "quality": quality or 1})


def _tensors(checkpoint: Checkpoint, built: Architecture) -> Tensors:
    n = len(checkpoint.take(built.n_from, (None, None, None, None)))
    m = len(checkpoint.take(built.m_from, (None, None, None, None)))
    with torch.device("meta"):
        g_a, g_s = built.transforms(n, m)
        h_a = built.h_a(n, m) if built.h_a else None
    out = {**_floats(checkpoint, "g_a", g_a), **_floats(checkpoint, "g_s", g_s)}
    if h_a is None or built.h_s is None:
        return {**out, **_bottleneck(Bottleneck(checkpoint, m))}
    out.update(_floats(checkpoint, "h_a", h_a))
    described = built.h_s(n, m)
    for i, layer in enumerate(described):
        name, k = f"h_s.{2 * i}" + (".0" if layer.shuffled else ""), layer.geometry.kernel
        transposed = layer.geometry.transposed
        shape = (layer.inputs, layer.outputs, k, k) if transposed else (layer.outputs, layer.inputs, k, k)
        weight, bias = _weights(checkpoint, name, shape, layer.outputs)
        out.update(quantised(f"h_s.{i}", weight.swapaxes(0, 1) if transposed else weight, bias))
    if built.context:
        out.update(_context(checkpoint, m))
    out.update(_variable(checkpoint) if built.variable else {})
    steps = [int(s) for s in out.get("z_steps", [ONE])]
    y = mean_scale.tensors_of("y", mean_scale.gaussian_tables())
    return {**out, **_bottleneck(Bottleneck(checkpoint, n), steps), **y, "thresholds": mean_scale.thresholds()}


def _floats(checkpoint: Checkpoint, prefix: str, module: nn.Module) -> Tensors:
    """The weights of a float transform, GDN's as what they stand for."""
    out = {}
    for name, wanted in module.state_dict().items():
        value = checkpoint.take(f"{prefix}.{name}", tuple(wanted.shape)).numpy()
        if name.endswith((".beta", ".gamma")):
            least = _BETA_MIN if name.endswith(".beta") else 0.0
            bound = np.float32((least + _REPARAMETRISED) ** 0.5)
            value = np.maximum(value, bound) ** 2 - np.float32(_REPARAMETRISED)
        out[f"{prefix}.{name}"] = np.ascontiguousarray(value, np.float32)
    return out


def _weights(
    checkpoint: Checkpoint, name: str, shape: tuple[int, ...], outputs: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weight, bias = checkpoint.take(f"{name}.weight", shape), checkpoint.take(f"{name}.bias", (outputs,))
    return weight.double().numpy(), bias.double().numpy()


def _context(checkpoint: Checkpoint, m: int) -> Tensors:
    """Masked context of 2 M channels, and entropy parameters of M 4, 10/3, 8/3, 2."""
    widths = [m * 12 // 3, m * 10 // 3, m * 8 // 3, m * 6 // 3]
    return serial.to_tensors(
        _weights(checkpoint, "context_prediction", (2 * m, m, 5, 5), 2 * m),
        (
            _weights(checkpoint, f"entropy_parameters.{2 * i}", (outputs, inputs, 1, 1), outputs)
            for i, (inputs, outputs) in enumerate(itertools.pairwise(widths))
        ),
    )


def _bottleneck(bottleneck: Bottleneck, steps: Sequence[int] = (ONE,)) -> Tensors:
    tables, medians = mean_scale.factorised_tables(bottleneck, steps=steps)
    return {**mean_scale.tensors_of("z", tables), "medians": medians}


def _variable(checkpoint: Checkpoint) -> Tensors:
    """Gains, reconstruction offsets for each row and scale level, and z's steps where they vary."""
    gain = checkpoint.take("Gain", (len(LAMBDAS),)).double().abs()
    out: Tensors = {"gains": _integers(gain, 1 << GAIN_BITS, GAIN_LIMIT)}
    levels = torch.from_numpy(mean_scale.scale_levels())
    pairs = torch.stack([levels.expand(len(gain), -1), gain[:, None].expand(-1, len(levels))], -1)  # (rows, levels, 2)
    offsets = _perceptron(checkpoint, "QuantABCD", pairs)[..., 0]
    out["offsets"] = offsets.clamp(-1, 1).float().numpy()
    if "gayn2zqstep.0.weight" in checkpoint:
        step = torch.nn.functional.softplus(_perceptron(checkpoint, "gayn2zqstep", 1 / gain[:, None]))[:, 0]
        out["z_steps"] = _integers(step.clamp(min=0.5), ONE, Z_STEP_LIMIT)
    return out


def _integers(values: Tensor, unit: int, limit: int) -> NDArray[np.int32]:
    return np.asarray(np.floor(values.numpy() * unit + 0.5).clip(1, limit - 1), np.int32)


def _perceptron(checkpoint: Checkpoint, name: str, x: Tensor) -> Tensor:
    """Three linear layers with ReLU between them."""
    for i in (0, 2, 4):
        outputs = None if i < 4 else 1
        weight, bias = checkpoint.take(f"{name}.{i}.weight", (outputs, x.shape[-1])), f"{name}.{i}.bias"
        if len(weight) > _MOST_HIDDEN:
            raise UnsupportedError(f"the checkpoint's {name} has over {_MOST_HIDDEN} hidden units")
        x = x @ weight.double().T + checkpoint.take(bias, (len(weight),)).double()
        x = x.relu() if i < 4 else x
    return x


def convert_safetensors(source: Path, provenance: dict[str, Any]) -> bytes:
    """The model file of an exported training checkpoint (safetensors, family and lambdas in its metadata)."""
    from safetensors import safe_open

    with safe_open(source, framework="pt") as checkpoint:
        meta = checkpoint.metadata()
        state = {name: checkpoint.get_tensor(name).float() for name in checkpoint.keys()}  # noqa: SIM118
    if meta.get("family") != residual_dct.NAME:
        raise UnsupportedError(f"{source}: family {meta.get('family')!r}, {residual_dct.NAME!r} was expected")
    metadata = {
        "family": residual_dct.NAME,
        "lambda": [float(v) for v in meta["lambda"].split(",")],
        "provenance": {**provenance, "steps": int(meta["steps"])},
    }
    return model_file.build(residual_dct.convert(state), metadata)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m twcodec.models.convert CHECKPOINT.safetensors OUT.safetensors")
    source = Path(sys.argv[1])
    origin = {"checkpoint": source.name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest()}
    made = convert_safetensors(source, origin)
    Path(sys.argv[2]).write_bytes(made)
    print(model_file.digest_of(made).hex(), len(made), "bytes")
