"""What needs a machine with a GPU: the same symbols there as on the CPU, and how fast.

    python benchmarks/gpu.py symbols [NAME...]    files of the CPU decoded on the GPU and the other way round
    python benchmarks/gpu.py speed [NAME...]      streams against one stream, against CompressAI, images a second, and
                                                  the networks' share of the rate at which matrices are multiplied

    --device cpu      a rehearsal without a GPU, the CPU in its place: its figures mean nothing
    --folder FOLDER   of NAME.pth.tar as benchmarks/train_families.py writes them; default: those of the tests. A family
                      that is not there gets random weights, scaled so that latents are busy
    --pictures N      of Kodak, default: 24          --runs N    of each timing, default: 9, two more warm up
    --out FILE        default: results/gpu.json, and none in a rehearsal; what it has of other runs is kept

NAMEs are embedded models and published families; default: all of them, and for speed the embedded ones and
mbt2018-mean at full size with random weights. What is done is written after every model, so a run may be cut off.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import families
import numpy as np
import torch
from kodak import HERE, pictures
from speed import WARM_UP, machine, medians, operations
from train_families import FAMILIES, build

import twcodec
from twcodec.codec import branch, grid
from twcodec.codec.candidates import candidates
from twcodec.codec.codec import Codec, find_device, read
from twcodec.codec.decode import transform_of
from twcodec.codec.lanes import Lanes
from twcodec.codec.precision import for_encoding
from twcodec.codec.runtime import running
from twcodec.codec.settings import Settings
from twcodec.container import Container
from twcodec.errors import CorruptError, MissingError
from twcodec.exact.symbols import Symbols, symbols_crc
from twcodec.imaging.picture import Picture
from twcodec.models import catalogue
from twcodec.models.convert import convert_checkpoint
from twcodec.models.model import Model
from twcodec.transforms import IDENTITY

CPU = torch.device("cpu")
CHECKPOINTS = HERE.parent / "tests" / "models" / "checkpoints"
EMBEDDED = tuple(entry.name for entry in catalogue.EMBEDDED)
PARTS = ("z", "y", "levels", "y_hat")
FULL_SIZE = "mbt2018-mean"
"""The family whose speed is compared with CompressAI's."""

SMALL = dict.fromkeys(FAMILIES, (64, 96)) | {"cheng2020-attn": (64, 64), "cheng2020-anchor": (64, 64)}
"""Channels of the random weights that stand in for a checkpoint."""

STREAMS_BAR, LEVELS_BAR = 0.75, 1
REPEATS = 10
"""Of a network in one timing: one alone would be over before the host has waited for it."""


# --- Models -----------------------------------------------------------------------------------------------------------


def opened(name: str, folder: Path, devices: tuple[torch.device, ...]) -> list[Codec]:
    """The embedded model or published family of this name, on each device."""
    if name in EMBEDDED:
        return [twcodec.open_codec(name, device=str(device)) for device in devices]
    with tempfile.TemporaryDirectory() as temporary:
        path = folder / f"{name}.pth.tar"
        path = path if path.exists() else random_weights(name, Path(temporary))
        quality = None if FAMILIES[name].variable else 4
        data = convert_checkpoint(path, families.architecture(name), quality=quality)
    return [Codec(Model(data, name, device)) for device in devices]


def random_weights(name: str, folder: Path) -> Path:
    """A small checkpoint, untrained."""
    if not name.startswith("bmshj2018-factorized"):
        with mock.patch.dict(families.FULL, SMALL):
            return families.full_size(name, folder)
    torch.manual_seed(0)
    net = build(FAMILIES[name], *SMALL[name])
    with torch.no_grad():
        net.g_a[6].weight *= 3 / net.g_a(families.to_batch(read(pictures()[0]))).std()
    net.update(force=True)
    path = folder / f"{name}.pth.tar"
    torch.save({"state_dict": net.state_dict()}, path)
    return path


# --- Symbols ----------------------------------------------------------------------------------------------------------


def symbols(codec: Codec, data: bytes) -> Symbols | None:
    """What a file's symbols are here, whatever its checksum says of them; None: they break off."""
    container = Container.from_bytes(data)
    header, model = container.header, codec.model
    size = grid.latent_size(transform_of(header), header.height, header.width, model.family.stride)
    with running(model.device, None), torch.no_grad():
        try:
            return model.family.entropy.decode(container.data, *size, header.quality)
        except CorruptError:
            return None


def differing(ours: Symbols, theirs: Symbols | None) -> int:
    """How many values differ, of all that the decoder derives from a file."""
    if theirs is None:
        return ours.z.numel() + ours.y.numel()
    return sum(int((getattr(ours, p).cpu() != getattr(theirs, p).cpu()).sum()) for p in PARTS)


def crossed(encoder: Codec, decoder: Codec, given: list[Picture], quality: float | None) -> dict[str, Any]:
    """Pictures encoded with the one, both ways, and decoded with both: what the decoders disagree about."""
    found = {"files": 0, "symbols": 0, "mismatches": 0, "not_as_encoded": 0, "samples_that_differ": 0, "most_levels": 0}
    for picture in given:
        data = encoder.encode_picture(picture, Settings(quality, seed=1))[0]
        here, there = symbols(encoder, data), symbols(decoder, data)
        assert here is not None  # the encoder has verified its file
        found["files"] += 1
        found["symbols"] += here.z.numel() + here.y.numel()
        found["mismatches"] += differing(here, there)
        if there is None or symbols_crc(there) != Container.from_bytes(data).header.symbols_crc:
            found["not_as_encoded"] += 1
            continue
        levels = np.abs(_pixels(encoder, data) - _pixels(decoder, data))
        found["samples_that_differ"] += int((levels > 0).sum())
        found["most_levels"] = max(found["most_levels"], int(levels.max()))
    return {**found, "holds": _holds(found)}


def _pixels(codec: Codec, data: bytes) -> Any:
    return codec.decode_picture(data).samples.astype(np.int32)


def _holds(found: dict[str, int]) -> bool:
    return not found["mismatches"] and not found["not_as_encoded"] and found["most_levels"] <= LEVELS_BAR


def both_directions(name: str, device: torch.device, how: argparse.Namespace) -> dict[str, Any]:
    """A model's files of the CPU on the device, and the device's on the CPU."""
    cpu, gpu = opened(name, how.folder, (CPU, device))
    given = [read(path) for path in pictures()[: how.pictures]]
    quality = 4.5 if name in FAMILIES and FAMILIES[name].variable else None
    return {
        "trained": name in EMBEDDED or (how.folder / f"{name}.pth.tar").exists(),
        "encoded on the CPU": crossed(cpu, gpu, given, quality),
        "encoded on the GPU": crossed(gpu, cpu, given, quality),
    }


# --- Speed ------------------------------------------------------------------------------------------------------------


@contextmanager
def one_stream() -> Iterator[None]:
    """The branches one after the other in the caller's stream, by the same code: as on a CPU, which has no streams."""
    with mock.patch.object(branch, "Lanes", lambda _device, count: Lanes(CPU, count)):
        yield


def serially(run: Callable[[], Any]) -> Callable[[], Any]:
    """Run in one stream."""

    def serial() -> Any:
        with one_stream():
            return run()

    return serial


def branches(codec: Codec, picture: Picture, settings: Settings) -> Callable[[], Any]:
    """What runs on the device of a two-way encode: from the samples that are there to each branch's bits and error."""
    model = codec.model
    dtype, samples = for_encoding(settings.precision, model.device), grid.to_samples(picture.samples, model.device)
    job = branch.Job(model, samples, 255, settings, model.check_quality(None), dtype, dtype)
    tried = candidates(settings, picture.height, picture.width)

    @torch.inference_mode()
    def run() -> Any:
        with running(model.device, None):
            return branch.run(job, tried)

    return run


def streams(codec: Codec, picture: Picture, count: int) -> dict[str, Any]:
    """Milliseconds of one picture, its two branches in two streams and in one; their ratio and its bar."""
    settings = Settings(seed=1)
    wholes: dict[str, Callable[[], Any]] = {
        "branches": branches(codec, picture, settings),
        "whole encode": lambda: codec.encode_picture(picture, settings),
    }
    runs = {f"{what}, two streams": run for what, run in wholes.items()}
    runs |= {f"{what}, one stream": serially(run) for what, run in wholes.items()}
    spent = medians(runs, count, codec.model.device)
    out: dict[str, Any] = {"milliseconds": spent}
    for what in wholes:
        ratio = round(spent[f"{what}, two streams"] / spent[f"{what}, one stream"], 3)
        out[what] = {"ratio": ratio, "bar": STREAMS_BAR, "holds": ratio <= STREAMS_BAR}
    return out


def images_a_second(codec: Codec, given: list[Picture], count: int, net: Any = None) -> dict[str, Any]:
    """Of all pictures, one after the other, interleaved with CompressAI's net on the same device, if there is one."""
    one, two = Settings(transform="never"), Settings(seed=1)
    files = [codec.encode_picture(picture, one)[0] for picture in given]
    runs: dict[str, Callable[[], Any]] = {
        "encode, both branches": lambda: [codec.encode_picture(picture, two) for picture in given],
        "encode, one way": lambda: [codec.encode_picture(picture, one) for picture in given],
        "decode": lambda: [codec.decode_picture(data) for data in files],
    }
    if net is not None:
        runs |= compressai(net.to(codec.model.device), given, codec.model.device)
    spent = medians(runs, count, codec.model.device)
    out: dict[str, Any] = {what: round(1e3 * len(given) / ms, 2) for what, ms in spent.items()}
    if net is not None:
        ways = {"encode, both branches": "compress", "encode, one way": "compress", "decode": "decompress"}
        out["times of CompressAI"] = {
            what: round(spent[what] / spent[f"CompressAI's {theirs}"], 3) for what, theirs in ways.items()
        }
    return out


def compressai(net: Any, given: list[Picture], device: torch.device) -> dict[str, Callable[[], Any]]:
    """What CompressAI takes for the same: from samples in memory to strings, and back to samples."""

    @torch.inference_mode()
    def compress() -> list[Any]:
        return [net.compress(families.to_batch(picture).to(device)) for picture in given]

    coded = compress()

    @torch.inference_mode()
    def decompress() -> list[Any]:
        return [families.reconstruction(net, out).cpu() for out in coded]

    return {"CompressAI's compress": compress, "CompressAI's decompress": decompress}


def matrix_rate(dtype: torch.dtype, count: int, device: torch.device) -> float:
    """GFLOP/s of a matrix product large enough to fill the device. fp32 is fp32, not TF32, as in the codec."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / medians({"": lambda: torch.mm(a, b)}, count, device)[""] / 1e6


def shares(codec: Codec, picture: Picture, count: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each network in each type, GFLOP/s, and its share of the matrix rate."""
    family, device, quality = codec.model.family, codec.model.device, codec.model.check_quality(None)
    x = grid.Input(grid.to_samples(picture.samples, device), 255, IDENTITY, family.stride)
    out: dict[str, dict[str, float]] = {}
    with running(device, None), torch.inference_mode():
        y = family.g_a(x, quality)
        for dtype in (torch.float32, torch.bfloat16):
            runs: dict[str, Callable[[], Any]] = {
                "g_a": lambda dtype=dtype: family.g_a(x, quality, dtype),  # type: ignore[misc]
                "h_a": lambda dtype=dtype: family.h_a(y, dtype),  # type: ignore[misc]
                "g_s": lambda dtype=dtype: family.g_s(y, quality, dtype),  # type: ignore[misc]
            }
            rate, spent = matrix_rate(dtype, count, device), medians(_repeated(runs), count, device)
            row = {"matrix product, GFLOP/s": round(rate)}
            for name, run in runs.items():
                reached = REPEATS * operations(run) / spent[name] / 1e6
                row |= {f"{name}, ms": round(spent[name] / REPEATS, 3), f"{name}, share": round(reached / rate, 4)}
            out[str(dtype).removeprefix("torch.")] = row
    return out


def _repeated(runs: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    return {name: lambda run=run: [run() for _ in range(REPEATS)] for name, run in runs.items()}  # type: ignore[misc]


def speed(name: str, device: torch.device, how: argparse.Namespace) -> dict[str, Any]:
    """A model's streams, images a second and shares on the device; `FULL_SIZE` beside CompressAI's own."""
    net = None
    if name == FULL_SIZE:
        with tempfile.TemporaryDirectory() as folder:
            path = families.full_size(name, Path(folder))
            net = families.theirs(path, FAMILIES[name])
            codec = opened(name, Path(folder), (device,))[0]
    else:
        codec = opened(name, how.folder, (device,))[0]
    given, count = [read(path) for path in pictures()[: how.pictures]], how.runs + WARM_UP
    return {
        "streams": streams(codec, given[0], count),
        "images a second": images_a_second(codec, given, count, net),
        "networks": shares(codec, given[0], count),
    }


# --- The command ------------------------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["symbols", "speed"])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--folder", type=Path, default=CHECKPOINTS)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    everything = (*EMBEDDED, *FAMILIES)
    given.names = given.names or (everything if given.what == "symbols" else (*EMBEDDED, FULL_SIZE))
    given.names = [catalogue.default_name() if name == catalogue.DEFAULT else name for name in given.names]
    unknown = [name for name in given.names if name not in everything]
    if unknown:
        parser.error(f"no such models: {', '.join(unknown)}; there are: {', '.join(everything)}")
    return given


def named(device: torch.device) -> str:
    """The GPU as it calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "none: a rehearsal on the CPU"


def main() -> None:
    how = arguments()
    try:
        device = find_device(how.device)
    except MissingError as error:
        sys.exit(f"this benchmark needs a GPU: {error} for a rehearsal")
    out = how.out or (HERE / "results" / "gpu.json" if device.type == "cuda" else None)
    result: dict[str, Any] = json.loads(out.read_text()) if out and out.exists() else {}
    of_this = result.setdefault(how.what, {})
    for name in how.names:
        run = both_directions if how.what == "symbols" else speed
        of_this[name] = {
            "date": time.strftime("%Y-%m-%d"),
            "gpu": named(device),
            "machine": machine(),
            "torch": torch.__version__,
            "pictures": how.pictures,
            **run(name, device, how),
        }
        print(name, json.dumps(of_this[name], indent=1), flush=True)
        if out:
            out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
