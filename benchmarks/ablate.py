"""What each part of the model gains: short training runs on equal footing, then BD-rate against the first of them.

    python benchmarks/ablate.py [--minutes 4] [--threads 2] [VARIANT...]       one after the other; alone on the machine

Every variant starts from ../shared/weights/default.safetensors (where it has as many channels), trains for as long on
the same crops with the same seeds, and is evaluated on the held-out pictures: real symbols, rates under the assumed
density. Writes benchmarks/results/ablations.json; variants that are in there already are kept. Short runs favour what
learns fast: they say what to try, not how it ends.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from kodak import HERE, SHARED
from rd import Curve, bd_rate

from twcodec.models.trainable import start_from
from twcodec.training.crops import load
from twcodec.training.evaluation import evaluate
from twcodec.training.run import Every, RunSettings, open_run, train

BASE = RunSettings(steps=10**9, batch=4, patch=256)
NETWORK = BASE.network
VARIANTS = {
    "as shipped": BASE,
    "blocks do not overlap": replace(BASE, network=replace(NETWORK, lap=0)),
    "176 luma channels, as before": replace(BASE, network=replace(NETWORK, luma=176)),
    "plain rounding": replace(BASE, network=replace(NETWORK, rate_weight=0.0)),
    "lean rounding, weight 1": replace(BASE, network=replace(NETWORK, rate_weight=1.0)),
    "crops of 128 pixels, 16 a step": replace(BASE, patch=128, batch=16),
    "learning rate 0.0012": replace(BASE, lr=1.2e-3),
    "learning rate 0.00015": replace(BASE, lr=1.5e-4),
}
RESULTS = HERE / "results" / "ablations.json"


def run(settings: RunSettings, minutes: float) -> tuple[Curve, int]:
    start = start_from(str(SHARED / "weights" / "default.safetensors"))
    photographs = load([SHARED / "data" / "train"], settings.patch)
    with TemporaryDirectory() as folder:
        made = open_run(
            Path(folder), replace(settings, minutes=minutes), torch.device("cpu"), lambda new: start.fill(new.network)
        )
        quiet = Every(lambda line: print(line, flush=True), lambda _run: None, save_seconds=1e9, evaluate_seconds=1e9)
        train(made, Path(folder), photographs, lambda: False, quiet)
        points = evaluate(made.averaged(), photographs.held_out, made.device)
    return {"bpp": [p.bpp for p in points], "psnr": [p.psnr for p in points]}, made.step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}}
    result["what"] = " ".join(__doc__.split("\n\n")[2].split())
    for name in arguments.variants:
        if result["runs"].get(name, {}).get("minutes") == arguments.minutes:
            continue
        curve, steps = run(VARIANTS[name], arguments.minutes)
        base = result["runs"].get("as shipped", {}).get("curve", curve)
        found = {"minutes": arguments.minutes, "threads": arguments.threads, "steps": steps, "curve": curve}
        result["runs"][name] = {**found, "bd_rate_percent": bd_rate(base, curve), "date": time.strftime("%Y-%m-%d")}
        print(name, result["runs"][name]["bd_rate_percent"], flush=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
