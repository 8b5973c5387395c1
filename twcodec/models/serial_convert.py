"""A trained serial context for a `lapped-dct` model -> a model file of the family `lapped-dct-serial`.

Run as `python -m twcodec.models.serial_convert STATE.pt OUT.safetensors`; `benchmarks/train_context.py` trains one. The
float transforms and z's tables stay in the model that it was trained for: the new file names that one as its base.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from twcodec.exact.wavefront import TAPS
from twcodec.models import catalogue
from twcodec.models import file as model_file
from twcodec.models.integer_layers import quantised
from twcodec.models.lapped_dct import SERIAL_NAME
from twcodec.models.lapped_dct_convert import density_tables, thresholds
from twcodec.models.mean_scale import tensors_of
from twcodec.models.scale_mixture import ScaleMixture

if TYPE_CHECKING:
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
        tensors.update(quantised(name, _of(state, name).swapaxes(0, 1), _of(state, name, "bias")))
    context = np.stack([_of(state, "context")[:, :, 2 + dy, 2 + dx] for dy, dx in TAPS], axis=1)  # (C, 12, M)
    tensors.update(quantised("context", context, _of(state, "context", "bias")))
    for i in range(sum(name.startswith("entropy_parameters") for name in state) // 2):
        name = f"entropy_parameters.{i}"
        tensors.update(quantised(name, _of(state, name)[:, :, 0, 0], _of(state, name, "bias")))
    metadata = {
        "family": SERIAL_NAME,
        "base": base.digest.hex(),
        "lambda": base.metadata["lambda"],
        "rate_weight": config["rate_weight"],
        "provenance": {"base": config["model"], "steps": config["step"]},
    }
    return model_file.build(tensors, metadata)


def _of(state: dict[str, Any], name: str, part: str = "weight") -> NDArray[np.float64]:
    found: NDArray[np.float64] = state[f"{name}.{part}"].double().numpy()
    return found


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m twcodec.models.serial_convert STATE.pt OUT.safetensors")
    made = convert(torch.load(sys.argv[1], weights_only=True))
    Path(sys.argv[2]).write_bytes(made)
    print(model_file.digest_of(made).hex(), len(made), "bytes")
