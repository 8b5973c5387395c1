"""A trained serial context for a `lapped-dct` model -> a model file of the family `lapped-dct-serial`.

Run as `python -m twcodec.models.serial_convert STATE.pt OUT.safetensors`; `benchmarks/train_context.py` trains one. The
float transforms and z's tables stay in the model that it was trained for: the new file names that one as its base.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from twcodec.models import catalogue, serial
from twcodec.models import file as model_file
from twcodec.models.integer_layers import quantised
from twcodec.models.lapped_dct import SERIAL_NAME
from twcodec.models.lapped_dct_convert import density_tables, thresholds
from twcodec.models.mean_scale import tensors_of
from twcodec.models.scale_mixture import ScaleMixture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def convert(state: dict[str, Any]) -> bytes:
    """The model file. state: h_s, context, entropy_parameters and density, and under "config" the base's name.

    Its y tables follow the assumed density; `training.fit_tables` has better ones.
    """
    config = state["config"]
    base = model_file.parse(catalogue.read(config["model"])[1])
    density = ScaleMixture()
    density.load_state_dict({part: state[f"density.{part}"] for part in ("weight", "width")})
    tensors: dict[str, NDArray[Any]] = {**tensors_of("y", density_tables(density)), "thresholds": thresholds()}
    for name in ("h_s.0", "h_s.1"):
        weight, bias = _layer(state, name)
        tensors.update(quantised(name, weight.swapaxes(0, 1), bias))
    count = sum(name.startswith("entropy_parameters") for name in state) // 2
    parameters = [_layer(state, f"entropy_parameters.{i}") for i in range(count)]
    tensors.update(serial.to_tensors(_layer(state, "context"), parameters))
    metadata = {
        "family": SERIAL_NAME,
        "base": base.digest.hex(),
        "lambda": base.metadata["lambda"],
        "rate_weight": config["rate_weight"],
        "provenance": {"base": config["model"], "steps": config["step"]},
    }
    return model_file.build(tensors, metadata)


def _layer(state: dict[str, Any], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return state[f"{name}.weight"].double().numpy(), state[f"{name}.bias"].double().numpy()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m twcodec.models.serial_convert STATE.pt OUT.safetensors")
    made = convert(torch.load(sys.argv[1], weights_only=True))
    Path(sys.argv[2]).write_bytes(made)
    print(model_file.digest_of(made).hex(), len(made), "bytes")
