"""Make a run's model the embedded default: `python -m twcodec.training.adopt RUN NAME ABOUT`.

The model file is copied to models/weights, and then its entry, digest included, goes to the top of the catalogue.
Older models stay, so that the files made with them decode.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from twcodec.errors import UsageError
from twcodec.models import file as model_file
from twcodec.training.files import ENTRY, MODEL, write_json, write_whole

WEIGHTS = Path(__file__).parents[1] / "models" / "weights"


def adopt(run: Path, name: str, about: str, weights: Path = WEIGHTS) -> None:
    """Copy a run's model into `weights` as `name` and make it the default. UsageError: the name is taken."""
    catalogue = json.loads((weights / "catalogue.json").read_text())
    if name == "default" or any(model["name"] == name for model in catalogue["models"]):
        raise UsageError(f"the catalogue has a model {name!r} already; files may have been made with it")
    entry, data = json.loads((run / ENTRY).read_text()), (run / MODEL).read_bytes()
    if model_file.digest_of(data).hex() != entry["digest"]:
        raise UsageError(f"{run / MODEL} is not the model that {run / ENTRY} describes")
    write_whole(weights / f"{name}.safetensors", data)
    new = {**entry, "name": name, "file": f"{name}.safetensors", "about": about}
    catalogue = {"default": name, "models": [new, *catalogue["models"]]}
    write_json(weights / "catalogue.json", catalogue)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit("usage: python -m twcodec.training.adopt RUN NAME ABOUT")
    adopt(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
