"""The published families beside CompressAI, on Kodak: exact symbols, coded sizes, speed.

    python benchmarks/families.py exact FOLDER [NAME...]   symbols decoded under other conditions than encoded; and
                                                            how often CompressAI's own mbt2018 fails the same test
                                                            (NAME compressai: only that)
    python benchmarks/families.py machines FOLDER          mbt2018 coded here and decoded with the instructions of older
                                                            processors, by CompressAI and by twc
    python benchmarks/families.py size FOLDER [NAME...]    coded bytes and PSNR with the same weights, both really coded
    python benchmarks/families.py speed [NAME...]          full-size random weights: encode (both branches) and decode
                                                            against compress() and decompress(), interleaved; and the
                                                            float transforms alone, which nothing can be faster than

FOLDER holds NAME.pth.tar as benchmarks/train_families.py writes them. Writes benchmarks/results/families-WHAT.json.
Time on a quiet machine; figures are ratios of medians within one run. --pictures N takes the first N only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import torch
from exact import bounds
from kodak import HERE, pictures
from train_families import FAMILIES, TABLES, Family, build

from twcodec.codec import grid
from twcodec.codec.codec import Codec, open_codec, read
from twcodec.codec.distortion import psnr
from twcodec.codec.settings import Settings
from twcodec.container import Container
from twcodec.errors import TwcError
from twcodec.exact import hyperprior, products
from twcodec.imaging.picture import Picture
from twcodec.models.convert import convert_checkpoint
from twcodec.models.model import Model
from twcodec.transforms import IDENTITY

CPU = torch.device("cpu")
VARIABLE_QUALITIES = (1, 4, 8)


def architecture(name: str) -> str:
    return name.removesuffix("-z")


def ours(path: Path, name: str) -> Codec:
    quality = None if FAMILIES[name].variable else 4
    return Codec(Model(convert_checkpoint(path, architecture(name), quality=quality), name, CPU))


def theirs(path: Path, family: Family) -> Any:
    """CompressAI's model of the checkpoint."""
    state = torch.load(path, weights_only=True)["state_dict"]
    last = "g_a.0.conv1.weight" if family.channels == "N" else "g_a.6.weight"
    net = build(family, len(state[last if family.channels == "N" else "g_a.0.weight"]), len(state[last]))
    weights = {k: v for k, v in state.items() if not k.endswith(TABLES) and not k.endswith("scale_table")}
    torch.nn.Module.load_state_dict(net, weights, strict=False)  # CompressAI's own wants tables, which follow
    net.update(force=True)
    return net.eval()


def to_batch(picture: Picture) -> torch.Tensor:
    return torch.from_numpy(picture.samples).permute(2, 0, 1)[None] / 255


def qualities(name: str) -> tuple[int | None, ...]:
    return VARIABLE_QUALITIES if FAMILIES[name].variable else (None,)


# --- Exactness --------------------------------------------------------------------------------------------------------

CONDITIONS = tuple(itertools.product((1, 2), (True, False), ("channels last", "channels first"), ("alone", "batch")))


@contextmanager
def condition(threads: int, onednn: bool, layout: str) -> Iterator[None]:
    """torch with this many threads, with or without oneDNN; what h_s reads laid out like this in memory."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    upsampled = hyperprior.upsampled

    def laid_out(h_s: Any, lane: Any, reach: int) -> Iterator[Any]:
        first = lane.z_hat.permute(2, 0, 1).contiguous().permute(1, 2, 0)
        return upsampled(h_s, replace(lane, z_hat=first), reach)

    patched = mock.patch.object(hyperprior, "upsampled", laid_out) if layout == "channels first" else nullcontext()
    with torch.backends.mkldnn.flags(enabled=onednn), patched:
        yield
    torch.set_num_threads(before)


def exact(name: str, path: Path, paths: list[Path]) -> dict[str, Any]:
    """Symbols encoded alone, with 2 threads and oneDNN, decoded under every condition.

    Without oneDNN, integer layers run in float64 instead of bytes.
    """
    codec, compared, mismatches = ours(path, name), 0, 0
    with torch.backends.mkldnn.flags(enabled=False):  # integer layers in float64 instead of bytes
        without = ours(path, name).model.family.entropy
    quality = 4.5 if FAMILIES[name].variable else None
    for source in paths:
        picture = read(source)
        kept: list[Any] = []
        original = hyperprior.Hyperprior.quantise_all

        def keep(self: Any, *arguments: Any) -> Any:
            kept.extend(original(self, *arguments))  # noqa: B023
            return kept  # noqa: B023

        with mock.patch.object(hyperprior.Hyperprior, "quantise_all", keep):
            data, _ = codec.encode_picture(picture, Settings(quality, transform="never"))
        container = Container.from_bytes(data)
        item = container.data, picture.height // 16, picture.width // 16
        turned = codec.encode_picture(
            Picture(np.ascontiguousarray(picture.samples[:208, ::-1]), "RGB"), Settings(quality, transform="never")
        )[0]
        other = Container.from_bytes(turned).data, 13, picture.width // 16
        for threads, onednn, layout, company in CONDITIONS:
            with condition(threads, onednn, layout), torch.inference_mode():
                files = [item] if company == "alone" else [other, item]
                entropy = codec.model.family.entropy if onednn else without
                found = entropy.decode_all(files, container.header.quality)[-1]
            parts = ("z", "y", "levels", "y_hat")
            mismatches += sum(int((getattr(found, p) != getattr(kept[0], p)).sum()) for p in parts)
            compared += found.z.numel() + found.y.numel()
        print(name, source.stem, quality, mismatches, flush=True)
    largest = bounds(convert_checkpoint(path, architecture(name)))
    return {"symbols_compared": compared, "mismatches": mismatches, "log2_bound": max(largest.values(), default=None)}


def compressai_exactness(path: Path, paths: list[Path]) -> dict[str, Any]:
    """CompressAI's mbt2018: compressed alone with 2 threads and oneDNN, decompressed under other conditions."""
    net, tried, failed, nan = theirs(path, FAMILIES["mbt2018"]), {}, {}, 0
    conditions = ((2, True, "as compressed"), (1, True, "1 thread"), (2, False, "no oneDNN"), (2, True, "batch of 2"))
    for source in paths:
        x = to_batch(read(source))
        torch.set_num_threads(2)
        with torch.inference_mode():
            out = net.compress(x)
            wanted = reconstruction(net, out)
            for threads, onednn, label in conditions:
                strings = out["strings"]
                if label == "batch of 2":
                    second = net.compress(x.flip(3))
                    strings = [[a[0], b[0]] for a, b in zip(out["strings"], second["strings"], strict=True)]
                with condition(threads, onednn, "channels last"):
                    found = reconstruction(net, {"strings": strings, "shape": out["shape"]})
                tried[label] = tried.get(label, 0) + 1
                error = float((found - wanted).square().mean()) / 255**2
                failed[label] = failed.get(label, 0) + (not error <= 1e-4)  # under 40 dB from its own picture, or NaN
                nan += math.isnan(error)
        print("CompressAI mbt2018", source.stem, failed, flush=True)
    return {"pictures": tried, "garbage": failed, "of_it_not_a_number": nan}


def reconstruction(net: Any, out: dict[str, Any]) -> torch.Tensor:
    return (net.decompress(out["strings"], out["shape"])["x_hat"][0].clamp(0, 1) * 255).round()


MACHINES = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "DNNL_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "SSE4, 1 thread": {
        "ATEN_CPU_CAPABILITY": "default",
        "DNNL_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OMP_NUM_THREADS": "1",
    },
}
"""What torch, oneDNN and MKL read to do without newer instructions: the nearest thing to another machine."""


def machines(path: Path, paths: list[Path]) -> dict[str, Any]:
    """How many pictures come back as garbage (under 40 dB from their own decoding here), and the worst of them."""
    net, codec, kept = theirs(path, FAMILIES["mbt2018"]), ours(path, "mbt2018"), []
    for source in paths:
        picture = read(source)
        with torch.inference_mode():
            out = net.compress(to_batch(picture))
            wanted = reconstruction(net, out)
        data, _ = codec.encode_picture(picture, Settings(transform="never"))
        kept.append((out["strings"], tuple(out["shape"]), wanted, data, codec.decode_symbols(data).y))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(kept, Path(folder) / "kept.pt")
        for name, settings in MACHINES.items():
            command = [sys.executable, __file__, "there", str(path), folder]
            ran = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=True)
            found[name] = json.loads(ran.stdout.splitlines()[-1])
            print(name, found[name], flush=True)
    return found


def there(path: Path, folder: Path) -> None:
    """What `machines` runs with other instructions."""
    net, codec = theirs(path, FAMILIES["mbt2018"]), ours(path, "mbt2018")
    errors, wrong, refused = [], 0, 0
    for strings, shape, wanted, data, y in torch.load(folder / "kept.pt", weights_only=False):
        with torch.inference_mode():
            back = reconstruction(net, {"strings": strings, "shape": shape})
        errors.append(float((back - wanted).square().mean()) / 255**2)
        try:
            wrong += int((codec.decode_symbols(data).y != y).sum())
        except TwcError:
            refused += 1
    out = {
        "pictures": len(errors),
        "compressai_garbage": sum(not error <= 1e-4 for error in errors),
        "compressai_not_a_number": sum(math.isnan(error) for error in errors),
        "compressai_psnr_to_own_decoding": [round(psnr(e), 1) for e in sorted(errors) if e > 1e-4],
        "twc_wrong_symbols": wrong,
        "twc_refused": refused,
        "twc_bytes": products.has_byte_products(CPU),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    print(json.dumps(out))


# --- Size -------------------------------------------------------------------------------------------------------------


def size(name: str, path: Path, paths: list[Path]) -> list[dict[str, Any]]:
    codec, net, rows = ours(path, name), theirs(path, FAMILIES[name]), []
    for quality in qualities(name):
        options = {} if quality is None else {"s": quality - 1}
        if FAMILIES[name].variable_z:
            net.update(force=True, scale=net.Gain[quality - 1].abs().detach())
        bytes_, db = {"compressai": 0, "twc": 0, "twc_file": 0}, {"compressai": [], "twc": []}
        for source in paths:
            picture = read(source)
            x = to_batch(picture)
            with torch.inference_mode():
                out = net.compress(x, **options)
                back = net.decompress(out["strings"], out["shape"], **options)["x_hat"]
            data, _ = codec.encode_picture(picture, Settings(quality, transform="never"))
            again = to_batch(codec.decode_picture(data))
            bytes_["compressai"] += sum(len(strings[0]) for strings in out["strings"])
            bytes_["twc"] += len(Container.from_bytes(data).data)
            bytes_["twc_file"] += len(data)
            for who, found in (("compressai", back.clamp(0, 1)), ("twc", again)):
                db[who].append(psnr(float(((found * 255).round() - x * 255).square().mean()) / 255**2))
        row = {
            "name": name,
            "quality": quality,
            "bytes": bytes_,
            "percent": round(100 * (bytes_["twc"] / bytes_["compressai"] - 1), 3),
            "percent_with_container": round(100 * (bytes_["twc_file"] / bytes_["compressai"] - 1), 3),
            "psnr": {who: round(statistics.mean(values), 4) for who, values in db.items()},
        }
        print(row, flush=True)
        rows.append(row)
    return rows


# --- Speed ------------------------------------------------------------------------------------------------------------

FULL = {"mbt2018": (192, 192), "cheng2020-anchor": (128, 128), "cheng2020-attn": (128, 128), "mbt2018-mean": (128, 192)}
"""The sizes of CompressAI's qualities 1 to 4 (cheng2020: 1 to 3)."""

LARGEST = {
    "mbt2018": (192, 320),
    "mbt2018-mean": (192, 320),
    "cheng2020-anchor": (192, 192),
    "cheng2020-attn": (192, 192),
}


def full_size(name: str, folder: Path) -> Path:
    """A checkpoint of random weights at full size, scaled so that latents are busy and scales differ."""
    torch.manual_seed(0)
    n, m = FULL[name]
    net = build(FAMILIES[name], n, m)
    x = to_batch(read(pictures()[0]))
    with torch.no_grad():
        last = [module for module in net.g_a.modules() if isinstance(module, torch.nn.Conv2d)][-1]
        if name == "cheng2020-attn":
            last = net.g_a[7]
        factor = 3 / net.g_a(x).std()
        last.weight *= factor
        last.bias *= factor
        out = net.entropy_parameters[4] if hasattr(net, "entropy_parameters") else net.h_s[4]
        out.bias[:m] = torch.exp(torch.empty(m).uniform_(-2, 2))
    net.update(force=True)
    path = folder / f"{name}.pth.tar"
    torch.save({"state_dict": net.state_dict()}, path)
    return path


def speed(name: str, paths: list[Path]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = full_size(name, Path(folder))
        net, codec = theirs(path, FAMILIES[name]), ours(path, name)
    times: dict[str, list[float]] = {}

    def timed(what: str, run: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = run()
        times.setdefault(what, []).append(time.perf_counter() - start)
        return result

    both, one = Settings(None), Settings(None, transform="never")
    half, fast = Settings(None, precision="bf16"), Settings(None, score="fast")
    sizes: dict[str, int] = {"compressai": 0, "twc": 0}
    for i, source in enumerate([paths[0], *paths]):
        picture = read(source)
        x = to_batch(picture)
        with torch.inference_mode():
            out = timed("compress", lambda: net.compress(x))  # noqa: B023
            timed("decompress", lambda: net.decompress(out["strings"], out["shape"]))  # noqa: B023
        data = timed("encode", lambda: codec.encode_picture(picture, both)[0])  # noqa: B023
        single = timed("encode, one way", lambda: codec.encode_picture(picture, one)[0])  # noqa: B023
        timed("encode, bf16 analysis", lambda: codec.encode_picture(picture, half))  # noqa: B023
        timed("encode, fast score", lambda: codec.encode_picture(picture, fast))  # noqa: B023
        timed("decode", lambda: codec.decode_picture(data))  # noqa: B023
        sizes["compressai"] += sum(len(strings[0]) for strings in out["strings"])
        sizes["twc"] += len(Container.from_bytes(single).data)
        latents = picture.height // 16, picture.width // 16
        timed("symbols", lambda: codec.decode_symbols(data))  # noqa: B023
        with torch.inference_mode():
            time_networks(codec, picture, timed)
        if i == 0:  # warm
            times.clear()
        print(name, source.stem, {k: round(v[-1], 3) for k, v in times.items()}, latents, flush=True)
    medians = {what: round(statistics.median(values), 4) for what, values in times.items()}
    return {
        "channels": FULL[name],
        "load_largest_seconds": load_time(name),
        "seconds": medians,
        "encode_times_faster": round(medians["compress"] / medians["encode"], 2),
        "encode_one_way_times_faster": round(medians["compress"] / medians["encode, one way"], 2),
        "decode_times_faster": round(medians["decompress"] / medians["decode"], 2),
        "symbols_times_faster": round(medians["decompress"] / medians["symbols"], 2),
        "transforms_of_encode_times_faster": round(
            medians["compress"] / medians["transforms of both branches, bf16"], 2
        ),
        "synthesis_of_decode_times_faster": round(medians["decompress"] / medians["synthesis, fp32"], 2),
        "bits_a_latent": round(8 * sizes["twc"] / (len(paths) + 1) / (math.prod(latents) * FULL[name][1]), 2),
    }


def time_networks(codec: Codec, picture: Picture, timed: Callable[[str, Callable[[], Any]], Any]) -> None:
    """The float transforms alone: analysis and synthesis of both branches in bf16, and the decoder's synthesis."""
    family, quality = codec.model.family, codec.model.check_quality(None)
    x = grid.Input(grid.to_samples(picture.samples, codec.model.device), 255, IDENTITY, family.stride)
    y = family.g_a(x, quality)

    def both() -> None:
        for _ in range(2):
            family.g_s(family.g_a(x, quality, torch.bfloat16), quality, torch.bfloat16)

    timed("transforms of both branches, bf16", both)
    timed("synthesis, fp32", lambda: family.g_s(y, quality))


def load_time(name: str) -> float:
    """Median seconds to open the architecture's largest official size, from a file on disk."""
    with tempfile.TemporaryDirectory() as folder:
        n, m = LARGEST[name]
        net = build(FAMILIES[name], n, m)
        net.update(force=True)
        torch.save({"state_dict": net.state_dict()}, Path(folder) / "large.pth.tar")
        path = Path(folder) / "large.safetensors"
        path.write_bytes(convert_checkpoint(Path(folder) / "large.pth.tar", architecture(name)))
        times = []
        for _ in range(7):
            start = time.perf_counter()
            open_codec(str(path), device="cpu")
            times.append(time.perf_counter() - start)
    return round(statistics.median(times), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["exact", "machines", "size", "speed", "there"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--pictures", type=int, default=24)
    given = parser.parse_args()
    if given.what == "there":
        there(Path(given.names[0]), Path(given.names[1]))
        return
    names, paths = given.names, pictures()[: given.pictures]
    out: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "command": " ".join(["python", *sys.argv])}
    if given.what == "speed":
        torch.set_num_threads(2)
        out["threads"] = 2
        out |= {name: speed(name, paths) for name in names or ("mbt2018", "cheng2020-anchor")}
    elif given.what == "machines":
        out |= machines(Path(names[0]) / "mbt2018.pth.tar", paths)
    else:
        folder = Path(names[0])
        found = names[1:] or [name for name in FAMILIES if (folder / f"{name}.pth.tar").exists()]
        kept = HERE / "results" / f"families-{given.what}.json"
        if names[1:] and kept.exists():
            out = {**json.loads(kept.read_text()), **out}
        run = exact if given.what == "exact" else size
        out |= {name: run(name, folder / f"{name}.pth.tar", paths) for name in found if name in FAMILIES}
        if given.what == "exact" and (not names[1:] or "compressai" in names):
            out["CompressAI's mbt2018"] = compressai_exactness(folder / "mbt2018.pth.tar", paths)
    (HERE / "results" / f"families-{given.what}.json").write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
