"""What each part of the model gains: short training runs on equal footing, then BD-rate against the first of them.

    python benchmarks/ablate.py [--minutes 4] [--threads 2] [VARIANT...]       one after the other; alone on the machine

The first is "as shipped"; with other minutes the file begins anew. Every variant starts from the weights in
../shared/weights/default.safetensors, trains for as long on the same photographs, and is evaluated on the held-out
ones: real symbols, rates under the assumed density. Writes benchmarks/results/ablations.json; variants that are in
there already are kept. Short runs favour what learns fast: they say what to try, not how it ends.
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
    result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if result.get("minutes") != arguments.minutes:
        result = {"minutes": arguments.minutes, "threads": arguments.threads, "runs": {}}
    result["what"] = " ".join(__doc__.split("\n\n")[2].split())
    base = "as shipped"
    for name in [base, *(n for n in arguments.variants if n != base)]:
        if name in result["runs"]:
            continue
        curve, steps = run(VARIANTS[name], arguments.minutes)
        anchor = result["runs"].get(base, {}).get("curve", curve)
        found = {"steps": steps, "curve": curve, "date": time.strftime("%Y-%m-%d")}
        result["runs"][name] = {**found, "bd_rate_percent": bd_rate(anchor, curve)}
        print(name, result["runs"][name]["bd_rate_percent"], flush=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
