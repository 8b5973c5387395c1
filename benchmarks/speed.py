"""Encode and decode beside CompressAI, in one process, interleaved: medians, ratios, and where the time goes.

    python benchmarks/speed.py [RUNS]        default: 11 runs, of which the first two only warm up

References, all on the fifth Kodak picture, 768x512: CompressAI's mbt2018-mean (N=128, M=192, random weights, scaled so
that latents are busy) and shared/first/light_ref.py, the float reference of the first embedded weights with its
coder. twc: the embedded models, and mbt2018-mean converted from the reference's own state_dict. Networks are set
against the rate at which this process multiplies matrices, the fastest way that torch has. Writes results/speed.json.
Time on a quiet machine; only ratios within one run mean anything.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import torch
from families import CPU, FAMILIES, full_size, ours, theirs, to_batch
from kodak import HERE, SHARED, pictures

import twcodec
from twcodec.codec import distortion, grid
from twcodec.codec.codec import Codec, read
from twcodec.codec.settings import Settings
from twcodec.transforms import IDENTITY

WARM_UP = 2
BARS = (
    ("default", "encode, both branches", "mbt2018-mean", "compress", 0.35),
    ("default", "encode, both branches", "light_ref", "compress", 1.6),
    ("default", "decode", "mbt2018-mean", "decompress", 0.15),
    ("default", "decode", "light_ref", "decompress", 0.6),
    ("default-1", "encode, both branches", "mbt2018-mean", "compress", 0.35),
    ("default-1", "encode, both branches", "light_ref", "compress", 1.6),
    ("default-1", "decode", "mbt2018-mean", "decompress", 0.15),
    ("default-1", "decode", "light_ref", "decompress", 0.6),
    ("mbt2018-mean", "encode, both branches", "mbt2018-mean", "compress", 1.0),
    ("mbt2018-mean", "encode, both branches, fp32", "mbt2018-mean", "compress", 2.4),
    ("mbt2018-mean", "decode", "mbt2018-mean", "decompress", 0.65),
)
"""Of twc's model, what it does, against which reference, what that does, and the ratio that must not be exceeded."""

STAGES = ("g_a", "h_a", "g_s"), ("quantise_all", "bits", "encode", "verify", "decode")
"""Methods of a family, and of its entropy part, whose time is shown."""

ENTROPY = ("quantise_all", "bits", "encode", "verify")
"""Those between analysis and synthesis, and after them."""


def finish(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def medians(runs: dict[str, Callable[[], Any]], count: int, device: torch.device = CPU) -> dict[str, float]:
    """Milliseconds of each, interleaved; on a GPU until all of its work is done."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(count):
        for name, run in runs.items():
            finish(device)
            start = time.perf_counter()
            run()
            finish(device)
            found[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(statistics.median(values[WARM_UP:]), 2) for name, values in found.items()}


def references(x: torch.Tensor, net: Any) -> dict[str, Callable[[], Any]]:
    """What CompressAI's coder does with its model and with the first embedded weights."""
    sys.path.insert(0, str(SHARED / "first"))
    import light_ref

    light = light_ref.load(str(SHARED / "weights" / "default.safetensors"))
    with torch.inference_mode():
        out, strings = net.compress(x), light_ref.compress(light, x, 3)

    def quietly(run: Callable[[], Any]) -> Callable[[], Any]:
        return torch.inference_mode()(run)

    return {
        "mbt2018-mean: compress": quietly(lambda: net.compress(x)),
        "mbt2018-mean: decompress": quietly(lambda: net.decompress(out["strings"], out["shape"])),
        "light_ref: compress": quietly(lambda: light_ref.compress(light, x, 3)),
        "light_ref: decompress": quietly(lambda: light_ref.decompress(light, strings["strings"], strings["shape"], 3)),
    }


def twc(name: str, codec: Codec, picture: Any) -> dict[str, Callable[[], Any]]:
    data = codec.encode_picture(picture, Settings(transform="never"))[0]
    return {
        f"twc {name}: encode, one way": lambda: codec.encode_picture(picture, Settings(transform="never")),
        f"twc {name}: encode, both branches": lambda: codec.encode_picture(picture, Settings()),
        f"twc {name}: encode, both branches, fp32": lambda: codec.encode_picture(picture, Settings(precision="fp32")),
        f"twc {name}: encode, both branches, bf16": lambda: codec.encode_picture(picture, Settings(precision="bf16")),
        f"twc {name}: decode": lambda: codec.decode_picture(data),
        f"twc {name}: decode, bf16": lambda: Codec(codec.model, "bf16").decode_picture(data),
    }


@contextmanager
def clocked(codec: Codec, spent: dict[str, float]) -> Iterator[None]:
    """Adds up the milliseconds of each stage."""

    def clock(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **how: Any) -> Any:
            start = time.perf_counter()
            try:
                return run(*args, **how)
            finally:
                spent[name] = spent.get(name, 0) + 1e3 * (time.perf_counter() - start)

        return timed

    family = codec.model.family
    with ExitStack() as stack:
        for owner, names in zip((family, family.entropy), STAGES, strict=True):
            for name in names:
                stack.enter_context(mock.patch.object(owner, name, clock(name, getattr(owner, name))))
        stack.enter_context(mock.patch.object(distortion, "mse", clock("mse", distortion.mse)))
        yield


def profile(codec: Codec, picture: Any, count: int) -> dict[str, dict[str, float]]:
    """Milliseconds by stage of a two-way encode and of a decode; medians of each."""
    data = codec.encode_picture(picture, Settings())[0]
    out = {}
    for what, run in (
        ("encode", lambda: codec.encode_picture(picture, Settings())),
        ("decode", lambda: codec.decode_picture(data)),
    ):
        seen: list[dict[str, float]] = []
        for _ in range(count):
            spent: dict[str, float] = {}
            with clocked(codec, spent):
                start = time.perf_counter()
                run()
                spent["all"] = 1e3 * (time.perf_counter() - start)
            seen.append(spent)
        found = {name: statistics.median(one.get(name, 0) for one in seen[WARM_UP:]) for name in seen[-1]}
        found["rest"] = found["all"] - sum(value for name, value in found.items() if name != "all")
        out[what] = {name: round(value, 2) for name, value in found.items()}
    return out


def matrix_rate(dtype: torch.dtype, count: int, device: torch.device = CPU) -> dict[str, float]:
    """GFLOP/s of 4096x512 times 512x512, by each way that torch has for it."""
    x, weight = (torch.randn(n, 512).to(device, dtype) for n in (4096, 512))
    planes = torch.randn(1, 512, 64, 64).to(device, dtype).contiguous(memory_format=torch.channels_last)
    kernel = weight[..., None, None].contiguous(memory_format=torch.channels_last)
    ways = {
        "1x1 convolution, channels last": lambda: torch.nn.functional.conv2d(planes, kernel),
        "linear": lambda: torch.nn.functional.linear(x, weight),
    }
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        onednn: Any = torch.ops.mkldnn
        packed = onednn._reorder_linear_weight(weight, len(x))
        ways["oneDNN's linear"] = lambda: onednn._linear_pointwise(x, packed, None, "none", [], "")
    with torch.inference_mode():
        spent = {way: medians({"": run}, 3 * count, device)[""] for way, run in ways.items()}
    return {way: round(2 * x.numel() * 512 / ms / 1e6) for way, ms in spent.items()}


def operations(run: Callable[[], Any]) -> float:
    """Floating-point operations of all convolutions in a run, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        run()
    return float(counter.get_total_flops())


def networks(codec: Codec, picture: Any, count: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each network in each type, GFLOP/s, and the share of the matrix rate."""
    family, quality = codec.model.family, codec.model.check_quality(None)
    x = grid.Input(grid.to_samples(picture.samples, codec.model.device), 255, IDENTITY, family.stride)
    with torch.inference_mode():
        y = family.g_a(x, quality)
    out: dict[str, dict[str, float]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        rates = matrix_rate(dtype, count, codec.model.device)
        rate = max(rates.values())
        runs = {
            "g_a": lambda dtype=dtype: family.g_a(x, quality, dtype),
            "h_a": lambda dtype=dtype: family.h_a(y, dtype),
            "g_s": lambda dtype=dtype: family.g_s(y, quality, dtype),
        }
        with torch.inference_mode():
            spent = medians(runs, count, codec.model.device)
        flops = {name: operations(run) for name, run in runs.items()}
        flops["all"], spent["all"] = sum(flops.values()), sum(spent.values())
        kind = str(dtype).removeprefix("torch.")
        out[kind] = {f"{way}, GFLOP/s": value for way, value in rates.items()}
        for name, ms in spent.items():
            out[kind] |= {f"{name}, ms": round(ms, 2), f"{name}, share": round(flops[name] / ms / 1e6 / rate, 3)}
    return out


def shares(stages: dict[str, Any], found: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the time of a two-way encode what is no network's; of the matrix rate what networks reach."""
    rows = []
    for name, spent in ((name, of["encode"]) for name, of in stages.items()):
        for what, parts in (("entropy", ENTROPY), ("self-check", ("verify",))):
            share = round(sum(spent[part] for part in parts) / spent["all"], 3)
            rows.append({"twc": f"{name}: {what} of encode", "share": share, "bar": 0.1, "holds": share <= 0.1})
    for kind, of in found["mbt2018-mean"].items():
        share = of["all, share"]
        rows.append(
            {"twc": f"mbt2018-mean: networks, {kind}", "share": share, "bar": "at least 0.6", "holds": share >= 0.6}
        )
    return rows


def machine() -> str:
    """The processor as it calls itself, and how many there are."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    name = names[0].partition(": ")[2] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} processors, {torch.backends.cpu.get_cpu_capability()}"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    picture = read(pictures()[4])
    with tempfile.TemporaryDirectory() as folder:
        path = full_size("mbt2018-mean", Path(folder))
        net, mean = theirs(path, FAMILIES["mbt2018-mean"]), ours(path, "mbt2018-mean")
    codecs = {name: twcodec.open_codec(name, device="cpu") for name in ("default", "default-1")}
    codecs["mbt2018-mean"] = mean
    runs = references(to_batch(picture), net)
    for name, codec in codecs.items():
        runs |= twc(name, codec, picture)
    found = medians(runs, count)
    ratios = [
        {
            "twc": f"{name}: {what}",
            "against": f"{reference}: {does}",
            "ratio": (ratio := round(found[f"twc {name}: {what}"] / found[f"{reference}: {does}"], 3)),
            "bar": bar,
            "holds": ratio <= bar,
        }
        for name, what, reference, does, bar in BARS
    ]
    stages = {name: profile(codec, picture, count) for name, codec in codecs.items()}
    rates = {name: networks(codec, picture, count) for name, codec in codecs.items()}
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "picture": f"{picture.width}x{picture.height}",
        "runs": count - WARM_UP,
        "milliseconds": found,
        "ratios": ratios,
        "shares": shares(stages, rates),
        "stages": stages,
        "networks": rates,
    }
    (HERE / "results" / "speed.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
