"""The family that training makes. Training knows it by this module only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from twcodec.errors import UnsupportedError
from twcodec.models import catalogue, lapped_dct, residual_dct
from twcodec.models import file as model_file
from twcodec.models.lapped_dct_convert import convert, load, widen
from twcodec.models.lapped_dct_network import Config, Network
from twcodec.models.model import Model

__all__ = ["FAMILY", "NOTHING", "Config", "Network", "Start", "build", "start_from"]

FAMILY = lapped_dct.NAME
NOTHING = "nothing"
"""The name of the start from untrained DCT banks."""


@dataclass(frozen=True)
class Start:
    """What a run starts from. fill: gives a network of these sizes its weights. origin: for the provenance."""

    config: Config
    fill: Callable[[Network], None]
    origin: str


def start_from(name: str) -> Start:
    """A model's name, a model file's path, a checkpoint of the older family, or `NOTHING`.

    UnsupportedError: it cannot be trained on.
    """
    if name == NOTHING:
        return Start(Config(), lambda _network: None, "untrained DCT banks")
    found, data = catalogue.read(name)
    older = _older_checkpoint(data)
    if older is not None:
        return Start(Config(), lambda network: widen(network, older), f"{found} ({model_file.digest_of(data).hex()})")
    try:
        parsed = model_file.parse(data)
    except UnsupportedError as error:
        raise UnsupportedError(f"the model {name}: {error}") from None
    family = parsed.metadata.get("family")
    if family != FAMILY:
        raise UnsupportedError(f"the model {name} is of family {family!r}; training goes on from {FAMILY!r} only")
    try:
        config = Config.from_json(parsed.metadata["network"])
    except (KeyError, TypeError, AttributeError):
        raise UnsupportedError(f"the model {name} does not say how its network is built") from None
    Model(data, found, torch.device("cpu"))  # it is a sound model
    return Start(config, lambda network: load(network, parsed), f"{found} ({parsed.digest.hex()})")


def _older_checkpoint(data: bytes) -> dict[str, torch.Tensor] | None:
    """The state in a safetensors checkpoint of the first training script, if that is what it is."""
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        if header["__metadata__"].get("family") != residual_dct.NAME:
            return None
        return {name: value.float() for name, value in load_tensors(data).items()}
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def build(network: Network, provenance: dict[str, Any]) -> bytes:
    """The model file of a trained network, with tables from the density that training assumed."""
    config = network.config
    metadata = {
        "family": FAMILY,
        "lambda": list(config.lambdas),
        "rate_weight": config.rate_weight,
        "network": config.to_json(),
        "provenance": provenance,
    }
    return model_file.build(convert(network), metadata)
