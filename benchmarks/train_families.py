"""Small instances of CompressAI's models, trained for minutes on the shared pictures: checkpoints to convert and test.

    python benchmarks/train_families.py FOLDER                        every family, N=64, M=96
    python benchmarks/train_families.py FOLDER NAME... --steps 1000   these families
    python benchmarks/train_families.py FOLDER --n 16 --m 24 --lr 5e-3 --lambda 0.0483 --half FOLDER16

Writes FOLDER/NAME.pth.tar as CompressAI's own example does, after net.update(force=True). --half: copies with float16
parameters and without the Gaussian tables (800 kB that net.update() makes again). Each file is opened again, and what
it says of held-out crops, through compress() and decompress(), is printed and kept in FOLDER/families.json.

The loss is lambda * 255^2 * MSE + bpp. The variable-rate models take the first half of the steps as stage 1, which has
no gain, for the highest of their lambdas; the second half as stage 2, a random s each step, with the lambda of s.
TWC_SHARED names the shared folder (default: ../shared).
OMP_NUM_THREADS=1 is several times faster where other work runs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from kodak import SHARED
from torch import Tensor

from twcodec.models import _compressai
from twcodec.training import crops
from twcodec.training.soap import SOAP


class Family(NamedTuple):
    """Where CompressAI keeps a model. channels: what sets its size. options: of its constructor."""

    module: str
    name: str
    channels: str = "NM"
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def variable(self) -> bool:
        return self.module == "vbr"

    @property
    def variable_z(self) -> bool:
        return ("vr_entbttlnck", True) in self.options


FAMILIES = {
    "mbt2018-mean": Family("google", "MeanScaleHyperprior"),
    "mbt2018": Family("google", "JointAutoregressiveHierarchicalPriors"),
    "bmshj2018-hyperprior": Family("google", "ScaleHyperprior"),
    "bmshj2018-factorized": Family("google", "FactorizedPrior"),
    "cheng2020-anchor": Family("waseda", "Cheng2020Anchor", "N"),
    "mbt2018-mean-vbr": Family("vbr", "MeanScaleHyperpriorVbr", options=(("vr_entbttlnck", False),)),
    "mbt2018-mean-vbr-z": Family("vbr", "MeanScaleHyperpriorVbr", options=(("vr_entbttlnck", True),)),
    "bmshj2018-hyperprior-vbr": Family("vbr", "ScaleHyperpriorVbr", options=(("vr_entbttlnck", False),)),
    "cheng2020-attn": Family("waseda", "Cheng2020Attention", "N"),
    "bmshj2018-factorized-relu": Family("google", "FactorizedPriorReLU"),
}
"""The most useful ones first."""

WARM_UP = 30
SETTLING_STEPS, SETTLING_LR = 1000, (1.0, 1e-4)
"""Quantiles start at -10, 0 and 10 and have to travel some tens; training's 1e-3 a step would leave them on the way."""
TABLES = ("_quantized_cdf", "_offset", "_cdf_length")


def build(family: Family, n: int, m: int) -> Any:
    model = getattr(_compressai.load(f"compressai.models.{family.module}"), family.name)
    net = model(*((n, m) if family.channels == "NM" else (n,)), **dict(family.options))
    if family.variable_z:
        mend(net.entropy_bottleneck)
    return net


def mend(bottleneck: Any) -> None:
    """Make EntropyBottleneckVbr's likelihood depend on the step, which CompressAI 1.2.8 passes as `stop_gradient`.

    As it is, bits of z are those of step 1 and teach neither the density nor the step, which shrinks to its bound.
    """
    likelihood = bottleneck._likelihood_variable

    def with_step(inputs: Tensor, qs: Tensor | None = None, stop_gradient: bool = False) -> tuple[Tensor, ...]:
        return likelihood(inputs, stop_gradient=stop_gradient, qs=qs)

    bottleneck._likelihood_variable = with_step


def train(family: Family, net: Any, photographs: crops.Photographs, how: argparse.Namespace) -> float:
    """Leaves net ready to code. Returns the mean loss of the last 50 steps."""
    weights = [p for name, p in net.named_parameters() if not name.endswith("quantiles")]
    optimizer, aux_optimizer = SOAP(weights, lr=how.lr), torch.optim.Adam([net.entropy_bottleneck.quantiles], lr=1e-3)
    net.train()
    seen: list[tuple[float, float, float]] = []
    start = time.monotonic()
    for step in range(how.steps):
        batch = crops.batch(photographs.train, step, how.seed, how.batch, how.patch, rows=1)
        torch.manual_seed(batch.rng_seed)  # of the noise that stands for rounding
        lmbda, options = objective(family, net, step, how, batch.rng_seed)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, how)
        x = batch.x.contiguous()  # torch 2.13 crashes in Cheng2020Anchor's first skip if it is channels_last
        out = net(x, **options)
        bpp, mse = bits(out) / x[:, 0].numel(), (out["x_hat"] - x).square().mean()
        loss = lmbda * 255**2 * mse + bpp
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        settle_step(net, aux_optimizer)
        seen.append((float(loss.detach()), float(bpp.detach()), float(mse.detach())))
        if (step + 1) % 50 == 0 or step + 1 == how.steps:
            means = [sum(column) / len(column) for column in zip(*seen[-50:], strict=True)]
            report = f"loss {means[0]:.3f} bpp {means[1]:.3f} psnr {db(means[2]):.2f}"
            print(f"  {step + 1} {time.monotonic() - start:.0f} s {report}", flush=True)
    print(f"  quantiles settled to {settle(net):.3g}", flush=True)
    net.eval().update(force=True)
    return means[0]


def objective(family: Family, net: Any, step: int, how: argparse.Namespace, seed: int) -> tuple[float, dict[str, int]]:
    """Lambda, and what the model's forward takes besides the picture."""
    if not family.variable:
        return how.lmbda, {}
    highest = len(net.lmbda) - 1  # where the gain is 1, as good as none
    stage, s = (1, highest) if step < how.steps // 2 else (2, seed % len(net.lmbda))
    return net.lmbda[s], {"stage": stage, "s": s}


def rate(step: int, how: argparse.Namespace) -> float:
    """The learning rate: up over some steps, then down a cosine to a fiftieth."""
    return how.lr * min(1.0, (step + 1) / WARM_UP) * (0.51 + 0.49 * math.cos(math.pi * step / how.steps))


def bits(out: dict[str, Any]) -> Tensor:
    return -sum(likelihoods.log2().sum() for likelihoods in out["likelihoods"].values())  # type: ignore[return-value]


def settle(net: Any) -> float:
    """Move the quantiles, and nothing else, to where they belong. Returns what is left of the auxiliary loss."""
    first, last = SETTLING_LR
    optimizer = torch.optim.Adam([net.entropy_bottleneck.quantiles], lr=first)
    for step in range(SETTLING_STEPS):
        optimizer.param_groups[0]["lr"] = first * (last / first) ** (step / SETTLING_STEPS)
        left = settle_step(net, optimizer)
    return left


def settle_step(net: Any, optimizer: torch.optim.Optimizer) -> float:
    loss = net.entropy_bottleneck.loss()  # net.aux_loss() is 0 where the bottleneck is an EntropyBottleneckVbr
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def halved(net: Any) -> dict[str, Tensor]:
    """The state with its parameters in float16, the bottleneck's tables of those, and no Gaussian tables.

    Float buffers stay unless float16 holds them exactly, as it does a mask: a bound of 1e-9 would become 0.
    """
    for parameter in net.parameters():
        parameter.data = parameter.data.half().float()
    net.update(force=True)
    state = net.state_dict()
    for key, value in state.items():
        if key in {f"gaussian_conditional.{name}" for name in (*TABLES, "scale_table")}:
            state[key] = torch.empty(0, dtype=value.dtype)
        elif value.is_floating_point() and torch.equal(value.half().float(), value):
            state[key] = value.half()
    return state


def opened(path: Path, family: Family, how: argparse.Namespace) -> Any:
    """The model of a file, ready to code."""
    state = torch.load(path, weights_only=True)["state_dict"]
    net = build(family, how.n, how.m)
    if family.variable_z:  # CompressAI sizes the tables of its other bottleneck only
        for table in TABLES:
            getattr(net.entropy_bottleneck, table).resize_(state[f"entropy_bottleneck.{table}"].shape)
    net.load_state_dict(state)
    net.eval().update()
    return net


@torch.no_grad()
def measured(family: Family, net: Any, x: Tensor) -> list[dict[str, float]]:
    """Bits a pixel and PSNR of crops (B, 3, H, W) through the real coder; at three of a variable-rate model's gains."""
    rows = []
    for s in (0, 3, 7) if family.variable else (None,):
        options = {} if s is None else {"s": s}
        if family.variable_z:
            net.update(force=True, scale=net.Gain[s])  # its step is in the tables
        packed = net.compress(x, **options)
        x_hat = net.decompress(packed["strings"], packed["shape"], **options)["x_hat"]
        bpp = 8 * sum(len(string) for strings in packed["strings"] for string in strings) / x[:, 0].numel()
        psnr = sum(db(float(mse)) for mse in (x_hat - x).square().flatten(1).mean(1)) / len(x)
        rows.append({**options, "bpp": round(bpp, 4), "psnr": round(psnr, 3)})
    return rows


def db(mse: float) -> float:
    return -10 * math.log10(mse)


def held_out(photographs: crops.Photographs, side: int = 256) -> Tensor:
    """The middles of four pictures that no model learns from: (4, 3, side, side) in 0 .. 1."""
    shown = []
    for photograph in photographs.held_out[::8][:4]:
        pixels = photograph.read()
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        shown.append(torch.from_numpy(pixels[top : top + side, left : left + side].copy()))
    return torch.stack(shown).permute(0, 3, 1, 2).float().div(255)


def make(name: str, photographs: crops.Photographs, how: argparse.Namespace) -> dict[str, Any]:
    """Train one family and write its files. Returns what they come to."""
    family, x = FAMILIES[name], held_out(photographs)
    torch.manual_seed(how.seed)
    net = build(family, how.n, how.m)
    loss = train(family, net, photographs, how)
    files = [how.folder / f"{name}.pth.tar"]
    torch.save({"epoch": 0, "state_dict": net.state_dict(), "loss": loss}, files[0])
    if how.half:
        files.append(how.half / files[0].name)
        torch.save({"epoch": 0, "state_dict": halved(net), "loss": loss}, files[1])
    sizes = {"n": how.n} if family.channels == "N" else {"n": how.n, "m": how.m}
    rows = []
    for file in files:
        coded = measured(family, opened(file, family, how), x)
        rows.append({"file": str(file), "bytes": file.stat().st_size, "coded": coded})
    return {"name": name, **sizes, "steps": how.steps, "seed": how.seed, "loss": round(loss, 4), "files": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAMILIES))
    parser.add_argument("--half", type=Path, metavar="FOLDER16")
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--m", type=int, default=96)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--lambda", dest="lmbda", type=float, default=0.0130)
    parser.add_argument("--seed", type=int, default=0)
    how = parser.parse_args()
    if unknown := set(how.names) - set(FAMILIES):
        parser.error(f"no such family: {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}")
    for folder in filter(None, (how.folder, how.half)):
        folder.mkdir(parents=True, exist_ok=True)
    photographs, results = crops.load([SHARED / "data" / "train"], smallest=256), how.folder / "families.json"
    for name in how.names or FAMILIES:
        print(name, flush=True)
        row = make(name, photographs, how)
        for file in row["files"]:
            print(f"  {file['file']}: {file['bytes']} bytes, {file['coded']}", flush=True)
        kept = json.loads(results.read_text()) if results.exists() else {}
        results.write_text(json.dumps({**kept, name: row}, indent=1) + "\n")


if __name__ == "__main__":
    main()
