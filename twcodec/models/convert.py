"""Checkpoints -> model files. Run as `python -m twcodec.models.convert CHECKPOINT OUT`; decoding never comes here."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from twcodec.models import file as model_file
from twcodec.models import residual_dct


def convert_safetensors(source: Path, provenance: dict[str, Any]) -> bytes:
    """The model file of an exported training checkpoint (safetensors, family and lambdas in its metadata)."""
    from safetensors import safe_open

    with safe_open(source, framework="pt") as checkpoint:
        meta = checkpoint.metadata()
        state = {name: checkpoint.get_tensor(name).float() for name in checkpoint.keys()}  # noqa: SIM118
    if meta.get("family") != residual_dct.NAME:
        raise SystemExit(f"{source}: family {meta.get('family')!r}, {residual_dct.NAME!r} was expected")
    metadata = {
        "family": residual_dct.NAME,
        "lambda": [float(v) for v in meta["lambda"].split(",")],
        "provenance": {**provenance, "steps": int(meta["steps"])},
    }
    return model_file.build(residual_dct.convert(state), metadata)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m twcodec.models.convert CHECKPOINT.safetensors OUT.safetensors")
    checkpoint = Path(sys.argv[1])
    origin = {"checkpoint": checkpoint.name, "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
    made = convert_safetensors(checkpoint, origin)
    Path(sys.argv[2]).write_bytes(made)
    print(model_file.digest_of(made).hex(), len(made), "bytes")
