"""What a serial context gains: an autoregressive entropy model for the latents of an embedded model, and its figures.

    python benchmarks/train_context.py collect [--model default-3] [--crops 8000] [--data /tmp/ctx_data]
    python benchmarks/train_context.py train [--minutes 35] [--real 0.5] [--out /work/families/context]    goes on
    python benchmarks/train_context.py figures [--out /work/families/context]                 against the two steps

The transforms g_a, h_a, g_s and the factorised z stay as they are; what replaces the two steps is a masked 5 x 5
convolution over what was coded before, in raster order, and three layers of 1 x 1 (Minnen et al. 2018). `collect`
writes latents of augmented crops of ../shared/data/train. `train` writes state.pt (averaged weights, the kernel masked)
and run.pt (to go on from) every few minutes. The held-out figures come from real symbols, each quantised around a
mean that knows what was quantised before it; positions go by wavefronts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kodak import SHARED
from torch import Tensor, nn
from torch.nn import functional

from twcodec.exact.arithmetic import ONE
from twcodec.exact.cost import Cost
from twcodec.exact.hyperprior import Z_LIMIT
from twcodec.exact.rounding import SYMBOLS, Rounding, lean, offsets
from twcodec.exact.symbols import Rounded, Symbols
from twcodec.exact.tables import Tables
from twcodec.exact.walk import Lane
from twcodec.models import catalogue
from twcodec.models import file as model_file
from twcodec.models.lapped_dct_convert import LEVELS, density_tables, load
from twcodec.models.lapped_dct_network import Config, Network
from twcodec.models.model import Model
from twcodec.models.scale_mixture import LOG_SCALE_MAX, LOG_SCALE_MIN, ScaleMixture
from twcodec.training import crops
from twcodec.training.evaluation import middle
from twcodec.training.fit_tables import Counts, fitted
from twcodec.training.soap import SOAP, SoapSettings

PATCH = 320
SIDE, Z_SIDE = PATCH // 16, PATCH // 64
REACH = 2
"""Rows above, and columns to either side, that the context sees."""

TAPS = [(u, v) for u in range(REACH + 1) for v in range(2 * REACH + 1) if u < REACH or v < REACH]
"""Rows and columns of the kernel that lie before its centre."""

HELD_OUT_ROWS = (0, 3, 6)
FITTED = 64
"""Pictures that tables are fitted to, in these figures."""

NEAR = ((REACH, REACH - 1), (REACH - 1, REACH), (REACH - 1, REACH - 1), (REACH - 1, REACH + 1))
"""The next ones: left, above, above left, above right."""


class Context(nn.Module):
    """z_hat and the y_hat of what was coded before -> log scales and means of y."""

    norm: Tensor
    dead_zone: Tensor

    def __init__(self, base: Config, context: int = 256, hidden: int = 384) -> None:
        super().__init__()
        m, n, features = base.m, base.n, base.features
        self.sizes = {"m": m, "n": n, "features": features, "context": context, "entropy_hidden": hidden}
        self.h_s = nn.ModuleList([nn.ConvTranspose2d(n, o, 5, 2, 2, 1) for o in (n, features)])
        self.above = nn.Conv2d(m, context, (REACH, 2 * REACH + 1))
        self.left = nn.Conv2d(m, context, (1, REACH), bias=False)
        widths = (features + context, hidden, hidden, 2 * m)
        self.entropy_parameters = nn.ModuleList([nn.Conv2d(a, b, 1) for a, b in pairwise(widths)])
        self.density = ScaleMixture()
        self.register_buffer("norm", torch.ones(m))
        self.register_buffer("dead_zone", torch.zeros(LEVELS, SYMBOLS + 1))

    @torch.no_grad()
    def start(self, base: Network, deviation: Tensor) -> None:
        """Begin as the base's first step, without a context. deviation: of each channel of y."""
        self.h_s.load_state_dict(base.h_s.state_dict())
        self.density.load_state_dict(base.density.state_dict())
        self.norm.copy_(deviation.clamp_min(0.25).sqrt())
        for layer in (self.above, self.left):
            nn.init.normal_(layer.weight, std=(12 * self.sizes["m"]) ** -0.5)
        nn.init.zeros_(self.above.bias)
        enter, between, leave = self.entropy_parameters
        first, second = base.first
        known, features = first.weight.shape[:2]
        enter.weight[:known] = 0
        enter.weight[:known, :features], enter.bias[:known] = first.weight, first.bias
        between.weight[:known] = 0
        between.weight[range(known), range(known)], between.bias[:known] = 1, 0
        leave.weight.zero_()
        leave.weight[:, :known], leave.bias[:] = second.weight, second.bias

    @torch.no_grad()
    def predict(self, channels: Tensor, taps: Tensor, kept: Tensor, narrower: Tensor) -> None:
        """Begin with means of some channels that mix the first step's with the neighbours in the same channel.

        channels: (K,). taps: (K, 5), of the neighbours `NEAR` and a constant. kept: (K,), of the first step's mean.
        narrower: (K,), what the log scale loses.
        """
        m, features = self.sizes["m"], self.sizes["features"]
        enter, between, leave = self.entropy_parameters
        known = len(enter.bias) - int((leave.weight[0] == 0).sum())  # units that came from the base
        for k, c in enumerate(channels.tolist()):
            self.above.weight[k], self.left.weight[k], self.above.bias[k] = 0, 0, taps[k, -1]
            for (u, v), tap in zip(NEAR, taps[k], strict=False):
                kernel = self.left if u == REACH else self.above
                kernel.weight[k, c, 0 if u == REACH else u, v] = tap * self.norm[c]
            leave.weight[m + c] *= kept[k]
            leave.bias[m + c] *= kept[k]
            leave.bias[c] -= narrower[k]
            for unit, sign in ((known + 2 * k, 1.0), (known + 2 * k + 1, -1.0)):
                enter.weight[unit], enter.bias[unit], between.weight[unit], between.bias[unit] = 0, 0, 0, 0
                enter.weight[unit, features + k], between.weight[unit, unit] = sign, 1
                leave.weight[m + c, unit] = sign

    def features(self, z_hat: Tensor) -> Tensor:
        """(B, N, h / 4, w / 4) to (B, h, w, F)."""
        for layer in self.h_s:
            z_hat = functional.leaky_relu(layer(z_hat), 0.01)
        return z_hat.permute(0, 2, 3, 1)

    def context(self, y_hat: Tensor) -> Tensor:
        """The masked convolution, (B, h, w, M) to (B, h, w, C): columns and a product, the taps outermost."""
        height, width = y_hat.shape[1:3]
        if torch.is_autocast_enabled("cpu"):
            y_hat = y_hat.to(torch.bfloat16)
        wide = functional.pad(y_hat, (0, 0, REACH, REACH, REACH, 0))
        columns = torch.cat([wide[:, u : u + height, v : v + width] for u, v in TAPS], -1)
        kernel = [(layer.weight / self.norm[:, None, None]).permute(0, 2, 3, 1).flatten(1) for layer in self._kernels()]
        return functional.linear(columns, torch.cat(kernel, 1), self.above.bias)

    def _kernels(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        return self.above, self.left

    def parameters_of(self, features: Tensor, context: Tensor) -> Tensor:
        """Log scales, not clamped, and means: (B, h, w, 2 M)."""
        h = torch.cat([features, context.to(features.dtype)], -1)
        for i, layer in enumerate(self.entropy_parameters):
            h = functional.linear(h, layer.weight.flatten(1), layer.bias)
            h = functional.leaky_relu(h, 0.01) if i + 1 < len(self.entropy_parameters) else h
        return h

    @torch.no_grad()
    def refresh_dead_zone(self, rate_weight: float) -> None:
        """Rounding offsets, from what the assumed density says that symbols cost now."""
        scales = torch.linspace(LOG_SCALE_MIN, LOG_SCALE_MAX, LEVELS)
        symbols = torch.arange(SYMBOLS + 1.0).expand(LEVELS, -1)
        bits = -torch.log2(self.density(symbols, scales[:, None].expand_as(symbols)).clamp_min(1e-9))
        self.dead_zone[:, 1:] = offsets(rate_weight, bits.diff(dim=1))

    def export(self) -> dict[str, Tensor]:
        """As plain layers: the 5 x 5 kernel with its mask."""
        state = {k: v.detach().clone() for k, v in self.state_dict().items() if k.startswith(("h_s", "ent", "dens"))}
        kernel = torch.zeros(self.sizes["context"], self.sizes["m"], 2 * REACH + 1, 2 * REACH + 1)
        kernel[:, :, :REACH] = self.above.weight.detach() / self.norm[:, None, None]
        kernel[:, :, REACH : REACH + 1, :REACH] = self.left.weight.detach() / self.norm[:, None, None]
        return {**state, "context.weight": kernel, "context.bias": self.above.bias.detach().clone()}


def level_of(log_scales: Tensor) -> Tensor:
    """The nearest table of each log scale: as `lapped_dct_convert.thresholds`."""
    step = (LOG_SCALE_MAX - LOG_SCALE_MIN) / (LEVELS - 1)
    return ((log_scales.float() - LOG_SCALE_MIN) / step + 0.5).floor().clamp(0, LEVELS - 1)


def known(y: Tensor, parameters: Tensor, dead_zone: Tensor) -> Tensor:
    """y_hat that the encoder would get with these parameters. y: (B, h, w, M)."""
    log_scales, means = parameters.float().chunk(2, -1)
    residual = y - means
    symbols = residual.round()
    lean(residual, level_of(log_scales), symbols, dead_zone.view(-1))
    return symbols + means


def rate(v: Tensor, log_scales: Tensor, density: ScaleMixture) -> Tensor:
    """Bits of each value."""
    likelihood = density(v, log_scales.clamp(LOG_SCALE_MIN, LOG_SCALE_MAX))
    return -torch.log2(likelihood.clamp_min(_FLOOR))


def rate_and_slopes(
    y: Tensor, parameters: Tensor, noise: Tensor, real: Tensor, share: Tensor, weight: Tensor, width: Tensor
) -> tuple[Tensor, Tensor]:
    """Bits of each picture, and what `share` of them, (B, 1, 1, 1), rises with the parameters: (B, h, w, 2 M).

    `rate` with its derivative written out, in a third of the time. real: where the bits are those of the symbols
    y_hat - mean that the encoder would choose, and only the scale has a slope. Elsewhere uniform noise is added.
    weight, width: the density's.
    """
    log_scale, mean = parameters.float().chunk(2, -1)
    inside = (log_scale > LOG_SCALE_MIN) & (log_scale < LOG_SCALE_MAX)
    log_scale = log_scale.clamp(LOG_SCALE_MIN, LOG_SCALE_MAX)
    is_real = real == real
    v = torch.where(is_real, (real - mean).round(), y - mean + noise)
    magnitude, t = v.abs(), log_scale / 3
    mass, by_place, by_scale, total, total_by_scale = 0, 0, 0, 0, 0
    for k in range(len(weight)):
        e = weight[k, 0] + t * (weight[k, 1] + t * weight[k, 2])
        e_slope = torch.where(e.abs() < 9, (weight[k, 1] + 2 * t * weight[k, 2]) / 3, 0)
        w = e.clamp(-9, 9).exp()
        s = log_scale + width[k, 0] + t * (width[k, 1] + t * width[k, 2])
        s_slope = torch.where((s > -4) & (s < 8), 1 + (width[k, 1] + 2 * t * width[k, 2]) / 3, 0)
        inverse = (-s.clamp(-4, 8)).exp()
        high, low = (0.5 - magnitude) * inverse, (-0.5 - magnitude) * inverse
        at_high, at_low = (-0.5 * high * high).exp() * _PEAK, (-0.5 * low * low).exp() * _PEAK
        p = 0.5 * (torch.erfc(high * -_ROOT) - torch.erfc(low * -_ROOT))
        mass = mass + w * p
        by_place = by_place - w * inverse * (at_high - at_low)
        by_scale = by_scale + w * (e_slope * p - s_slope * (at_high * high - at_low * low))
        total = total + w
        total_by_scale = total_by_scale + w * e_slope
    likelihood, mass = mass / total, mass.clamp_min(1e-30)
    bits = -torch.log2(likelihood.clamp_min(_FLOOR))
    factor = torch.where(likelihood > _FLOOR, share / math.log(2), 0)
    mean_slope = torch.where(is_real, 0, factor * by_place / mass * v.sign())
    scale_slope = torch.where(inside, factor * (total_by_scale / total - by_scale / mass), 0)
    return bits.sum((1, 2, 3)), torch.cat([scale_slope, mean_slope], -1).to(parameters.dtype)


_FLOOR, _PEAK, _ROOT = 1e-9, (2 * math.pi) ** -0.5, math.sqrt(0.5)


# collecting


def base_of(name: str) -> tuple[Network, Model, dict[str, Any]]:
    """The float network and the exact model of an embedded model."""
    name, data = catalogue.read(name)
    parsed = model_file.parse(data)
    layers = parsed.tensors
    lap = (layers["g_s.bank.weight"].shape[-1] - 16) // 2
    chroma = 40
    config = Config(
        luma=layers["gain.log"].shape[1] - 2 * chroma,
        chroma=chroma,
        n=len(layers["medians"]),
        lap=lap,
        depth=sum(key.startswith("g_a.blocks.") and key.endswith("expand.bias") for key in layers),
        hidden=len(layers["g_s.blocks.0.expand.bias"]),
        features=len(layers["h_s.1.shift"]),
        entropy_hidden=len(layers["first.0.shift"]),
        filter=len(layers["g_s.filter.0.bias"]),
        rate_weight=float(parsed.metadata["rate_weight"]),
        lambdas=tuple(float(v) for v in parsed.metadata["lambda"]),
    )
    network = Network(config)
    load(network, parsed)
    return network.eval().to(memory_format=torch.channels_last), Model(data, name, torch.device("cpu")), layers


@torch.inference_mode()
def collect(folder: Path, name: str, count: int, seed: int) -> None:
    """Latents without gain, (count, SIDE, SIDE, M) float32, and the symbols of z at each row, int16."""
    network, _, layers = base_of(name)
    rows, medians = len(network.config.lambdas), torch.from_numpy(layers["medians"] / ONE).float()[:, None, None]
    gains = network.gain["log"].exp()
    photographs = crops.load([SHARED / "data" / "train"], PATCH)
    folder.mkdir(parents=True, exist_ok=True)
    size, began = 16, time.monotonic()
    squares = torch.zeros(network.config.m, dtype=torch.float64)
    with (folder / "y.f32").open("wb") as y_file, (folder / "z.i16").open("wb") as z_file:
        for step in range(count // size):
            x = crops.batch(photographs.train, step, seed, size, PATCH, rows).x
            y = network.analyse(x, torch.zeros(size, dtype=torch.long)) / gains[0][:, None, None]
            z = [network._h_a(y * gain[:, None, None]) for gain in gains]
            symbols = (torch.stack(z, 1) - medians).round().clamp(-Z_LIMIT, Z_LIMIT)
            squares += y.square().sum((0, 2, 3), dtype=torch.float64)
            y_file.write(y.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
            z_file.write(symbols.to(torch.int16).contiguous().numpy().tobytes())
            if step % 50 == 0:
                print(f"{(step + 1) * size} crops, {time.monotonic() - began:.0f} s", flush=True)
    deviation = (squares / (count // size * size * SIDE**2)).sqrt().float()
    about = {"model": name, "count": count // size * size, "deviation": deviation.tolist(), "names": photographs.names}
    (folder / "about.json").write_text(json.dumps(about))


class Data:
    """What `collect` wrote. Batches depend on nothing but the step; files are read, not mapped, to bound memory."""

    def __init__(self, folder: Path, network: Network, medians: Tensor) -> None:
        self.about = json.loads((folder / "about.json").read_text())
        self._y, self._z = (os.open(folder / name, os.O_RDONLY) for name in ("y.f32", "z.i16"))
        self._m, self._n = network.config.m, network.config.n
        self._rows, self._gains, self._medians = len(network.config.lambdas), network.gain["log"].exp(), medians

    def __call__(self, step: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """y: (B, SIDE, SIDE, M), z_hat: (B, N, ...), and the rows: (B,)."""
        count = self.about["count"]
        rng = np.random.default_rng([1, step])
        start = step * size
        epoch = np.random.default_rng([2, start // count]).permutation(count)
        chosen = epoch[(start % count + np.arange(size)) % count]
        rows = rng.permutation((rng.integers(self._rows) + np.arange(size)) % self._rows)
        return self._read(chosen, rows)

    @torch.no_grad()
    def _read(self, chosen: Sequence[int], rows: Any) -> tuple[Tensor, Tensor, Tensor]:
        y_bytes, z_bytes = SIDE * SIDE * self._m * 4, self._n * Z_SIDE**2 * 2
        ys = [np.frombuffer(os.pread(self._y, y_bytes, int(i) * y_bytes), np.float32) for i in chosen]
        at = [(int(i) * self._rows + int(r)) * z_bytes for i, r in zip(chosen, rows, strict=True)]
        zs = [np.frombuffer(os.pread(self._z, z_bytes, offset), np.int16) for offset in at]
        row = torch.from_numpy(np.asarray(rows, np.int64))
        y = torch.from_numpy(np.stack(ys)).view(-1, SIDE, SIDE, self._m) * self._gains[row][:, None, None]
        z = torch.from_numpy(np.stack(zs)).view(-1, self._n, Z_SIDE, Z_SIDE).float() + self._medians
        return y, z.contiguous(memory_format=torch.channels_last), row


# training


def train(args: argparse.Namespace) -> None:
    network, model, layers = base_of(args.model)
    config = network.config
    medians = torch.from_numpy(layers["medians"] / ONE).float()[:, None, None]
    data = Data(args.data, network, medians)
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    net = Context(config, args.context, args.hidden)
    net.start(network, torch.tensor(data.about["deviation"]))
    predict_largest(net, network, data)
    net.to(memory_format=torch.channels_last)
    slow = [*net.h_s.parameters(), *net.density.parameters()]
    fast = [p for p in net.parameters() if not any(p is other for other in slow)]
    optimiser = SOAP([{"params": fast}, {"params": slow}], args.lr, SoapSettings(max_dim=700))  # type: ignore[list-item]
    average = {k: v.detach().clone() for k, v in net.state_dict().items()}
    step, seconds = 0, 0.0
    if (out / "run.pt").exists():
        saved = torch.load(out / "run.pt", weights_only=True)
        net.load_state_dict(saved["net"])
        optimiser.load_state_dict(saved["optimiser"])
        average, step, seconds = saved["average"], saved["step"], saved["seconds"]
        print(f"going on at step {step}", flush=True)
    held_out = HeldOut(args.data, network, model, medians)
    weight = torch.tensor(config.lambdas) ** args.row_power
    weight = weight / weight.mean() / (SIDE**2 * config.m * args.batch)
    slopes, bits, quantise = (torch.compile(f) if args.compile else f for f in (rate_and_slopes, rate, known))
    averaged = Context(config, args.context, args.hidden)

    def save() -> None:
        averaged.load_state_dict(average)
        about = {**averaged.sizes, "model": args.model, "rate_weight": config.rate_weight, "step": step}
        whole(out / "state.pt", {**averaged.export(), "config": about})
        state = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "average": average}
        whole(out / "run.pt", {**state, "step": step, "seconds": seconds})
        line = {"step": step, "minutes": round(seconds / 60, 1), "saved_percent": held_out.saved(averaged)}
        line["loss"] = round(running, 5)
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(line, flush=True)

    running = math.nan
    last = began = time.monotonic()
    while (progress := _progress(args, step, seconds + time.monotonic() - last)) < 1:
        lr = args.lr * min(1, (step + 1) / args.warmup) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group, share in zip(optimiser.param_groups, (1, args.slow), strict=True):
            group["lr"] = lr * share
        if step % 50 == 0:
            net.refresh_dead_zone(config.rate_weight)
        y, z_hat, rows = data(step, args.batch)
        torch.manual_seed(step)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            y_hat = quantise(y, _first(network, z_hat), net.dead_zone)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            features = net.features(z_hat)
            if step >= args.own:
                with torch.no_grad():
                    y_hat = quantise(y, net.parameters_of(features, net.context(y_hat)), net.dead_zone)
            parameters = net.parameters_of(features, net.context(y_hat))
        noise, share = torch.empty_like(y).uniform_(-0.5, 0.5), weight[rows][:, None, None, None]
        with torch.no_grad():
            real = torch.full_like(y, math.nan)
            if args.real:
                chosen = quantise(y, parameters, net.dead_zone)
                real = torch.where(torch.rand_like(y) < args.real, chosen, real)
            density = net.density.weight.detach(), net.density.width.detach()
            total, slope = slopes(y, parameters.detach(), noise, real, share, *density)
            loss = (total * share[:, 0, 0, 0]).sum()
        optimiser.zero_grad()
        parameters.backward(slope)
        if step % _DENSITY_EVERY == 0:
            scales, means = parameters.detach().float().chunk(2, -1)
            values = (chosen - means).round() if args.real else y - means + noise
            (bits(values, scales, net.density) * share).sum().backward()
        nn.utils.clip_grad_norm_(net.parameters(), args.clip)
        optimiser.step()
        step += 1
        decay = min(args.ema, (1 + step) / (10 + step))
        now = net.state_dict()
        torch._foreach_lerp_(list(average.values()), [now[k] for k in average], 1 - decay)
        value = float(loss)
        running = value if math.isnan(running) else running + 0.02 * (value - running)
        if step % 100 == 0:
            spent = time.monotonic() - began
            print(f"step {step}, loss {running:.5f}, {spent:.0f} s", flush=True)
        if time.monotonic() - last > 60 * args.every:
            seconds += time.monotonic() - last
            save()
            last = time.monotonic()
    seconds += time.monotonic() - last
    save()


def _progress(args: argparse.Namespace, step: int, seconds: float) -> float:
    """0 to 1. seconds: of training."""
    return max(step / args.steps, seconds / (60 * args.minutes) if args.minutes else 0.0)


@torch.no_grad()
def predict_largest(net: Context, network: Network, data: Data, count: int = 32, batches: int = 8) -> None:
    """`Context.predict` by least squares, for the channels with the largest deviation."""
    channels = torch.tensor(data.about["deviation"]).topk(count).indices
    net.refresh_dead_zone(network.config.rate_weight)
    products, squares = torch.zeros(count, 7, 7, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    for step in range(batches):
        y, z_hat, rows = data(step, 16)
        parameters = _first(network, z_hat)
        wide = functional.pad(known(y, parameters, net.dead_zone)[..., channels], (0, 0, REACH, REACH, REACH, 0))
        mean, wanted = parameters.chunk(2, -1)[1][..., channels], y[..., channels]
        near = [wide[:, u : u + SIDE, v : v + SIDE] for u, v in NEAR]
        columns = torch.stack([mean, *near, torch.ones_like(mean), wanted], -1)
        columns = columns / network.gain["log"][rows].exp()[:, None, None, channels, None]
        columns = columns.double().flatten(0, 2)
        products += torch.einsum("pki,pkj->kij", columns, columns)
        squares += (columns[..., -1] - columns[..., 0]).square().sum(0)
    left, right = products[:, :-1, :-1], products[:, :-1, -1]
    ridge = 1e-3 * torch.eye(6, dtype=torch.float64) * left.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    found = torch.linalg.solve(left + ridge, right)
    rest = products[:, -1, -1] - 2 * (found * right).sum(1) + torch.einsum("ki,kij,kj->k", found, left, found)
    narrower = 0.5 * (squares / rest).log()
    print("log scales begin narrower by", [round(v, 2) for v in narrower.tolist()], flush=True)
    net.predict(channels, found[:, 1:].float(), found[:, 0].float(), narrower.clamp_min(0).float())


_DENSITY_EVERY = 8
"""Steps between those of the density."""


def _first(network: Network, z_hat: Tensor) -> Tensor:
    """The base's first step: log scales and means without context, (B, h, w, 2 M)."""
    h = network._h_s(z_hat).permute(0, 2, 3, 1)
    for i, layer in enumerate(network.first):
        h = functional.linear(h, layer.weight.flatten(1), layer.bias)
        h = functional.leaky_relu(h, 0.01) if i == 0 else h
    return h


def whole(path: Path, content: Any) -> None:
    """Write a file so that no reader ever sees a part of it."""
    part = path.with_suffix(".part")
    torch.save(content, part)
    part.replace(path)


# figures


Coded = tuple[Tensor, Tensor, Tensor]
"""Symbols, levels and y_hat: (B, M, h, w)."""


@torch.inference_mode()
def serial(net: Context, y: Tensor, z_hat: Tensor, rounding: Rounding) -> Coded:
    """Symbols, levels and y_hat of y: (B, M, h, w), each quantised around a mean that knows what came before it.

    A position (i, j) needs nothing but positions of earlier steps j + 3 i, so a step is computed at once.
    """
    batch, m, height, width = y.shape
    features, state = net.features(z_hat)[:, :height, :width], net.export()
    kernel = torch.cat([state["context.weight"][:, :, u, v] for u, v in TAPS], 1).T.contiguous()  # (12 M, C)
    layers = [(layer.weight[:, :, 0, 0].T, layer.bias) for layer in net.entropy_parameters]
    y_hat = torch.zeros(batch, height + REACH, width + 2 * REACH, m)
    wanted = y.permute(0, 2, 3, 1)
    symbols, levels = torch.zeros(batch, height, width, m), torch.zeros(batch, height, width, m, dtype=torch.uint8)
    for step in range(width + 3 * (height - 1)):
        at = [(i, step - 3 * i) for i in range(height) if 0 <= step - 3 * i < width]
        i, j = torch.tensor(at).T
        seen = torch.cat([y_hat[:, i + u, j + v] for u, v in TAPS], -1)
        h = torch.cat([features[:, i, j], seen @ kernel + state["context.bias"]], -1)
        for k, (weight, bias) in enumerate(layers):
            h = h @ weight + bias
            h = functional.leaky_relu(h, 0.01) if k + 1 < len(layers) else h
        scales, means = h.chunk(2, -1)
        level = level_of(scales)
        found = rounding(wanted[:, i, j] - means, level)
        symbols[:, i, j], levels[:, i, j] = found, level.to(torch.uint8)
        y_hat[:, i + REACH, j + REACH] = found + means
    inside = y_hat[:, REACH:, REACH : REACH + width]
    return symbols.permute(0, 3, 1, 2), levels.permute(0, 3, 1, 2), inside.permute(0, 3, 1, 2)


Latents = list[tuple[Tensor, Tensor]]
"""Batches of y: (B, M, h, w) and the symbols of z, at one row; all pictures of a batch have one size."""


@torch.inference_mode()
def latents(model: Model, pictures: Sequence[crops.Pixels], row: int) -> Latents:
    family, by_size = model.family, dict[tuple[int, ...], list[tuple[Tensor, Tensor]]]()
    medians = family.entropy._medians / ONE
    for pixels in pictures:
        y = family.g_a(torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255, row + 1.0)
        z = (family.h_a(y).double() - medians).round().clamp(-Z_LIMIT, Z_LIMIT).float()
        by_size.setdefault(y.shape, []).append((y, z))
    return [(torch.stack([y for y, _ in group]), torch.stack([z for _, z in group])) for group in by_size.values()]


@torch.inference_mode()
def two_steps(model: Model, y: Tensor, z: Tensor, rounding: Rounding) -> Coded:
    """Symbols, levels and y_hat of the base's two steps, on the exact path."""
    entropy = model.family.entropy
    walks = [
        entropy._walk(Lane(entropy._z_hat(b, 1.0), *a.shape[-2:], Rounded(a, rounding)))
        for a, b in zip(y, z, strict=True)
    ]
    found = zip(*((walked.y, walked.levels, walked.y_hat()) for walked in walks), strict=True)
    symbols, levels, y_hat = (torch.stack(parts).permute(0, 3, 1, 2) for parts in found)
    return symbols, levels, y_hat


def cost(coded: Coded, tables: Tables) -> float:
    symbols, levels, _ = coded
    return float(Cost(tables, symbols.device)(symbols.int().flatten(), levels.flatten()))


@torch.inference_mode()
def squared_error(model: Model, y_hat: Tensor, pixels: Sequence[crops.Pixels], row: int) -> float:
    """Of all samples, 8 bits, of the pictures that a batch holds."""
    total = 0.0
    for latent, picture in zip(y_hat, pixels, strict=True):
        x = (model.family.g_s(latent.contiguous(), row + 1.0).clamp(0, 1) * 255).round()
        total += float((x - torch.from_numpy(picture.copy()).permute(2, 0, 1)).square().sum(dtype=torch.float64))
    return total


class HeldOut:
    """The held-out pictures at a few rows, and what the two steps take for them, under the assumed density."""

    def __init__(self, folder: Path, network: Network, model: Model, medians: Tensor) -> None:
        photographs = crops.load([SHARED / "data" / "train"], PATCH).held_out
        pictures = [middle(photo) for photo in photographs]
        self._weight, self._medians = network.config.rate_weight, medians
        tables = density_tables(network.density)
        rounding = Rounding(tables, self._weight, torch.device("cpu"))
        self._rows = []
        for row in HELD_OUT_ROWS:
            batches = latents(model, pictures, row)
            bits = sum(cost(two_steps(model, y, z, rounding), tables) for y, z in batches)
            self._rows.append((batches, bits))

    def saved(self, net: Context) -> list[float]:
        """Percent of the bits of y, at each of the rows."""
        tables = density_tables(net.density)
        rounding = Rounding(tables, self._weight, torch.device("cpu"))
        out = []
        for batches, reference in self._rows:
            bits = sum(cost(serial(net, y, z + self._medians, rounding), tables) for y, z in batches)
            out.append(round(100 * (1 - bits / reference), 2))
        return out


def figures(args: argparse.Namespace) -> None:
    """Both models under the assumed density and under tables fitted to the same pictures; the base also as shipped."""
    network, model, layers = base_of(args.model)
    weight, rows = network.config.rate_weight, len(network.config.lambdas)
    medians = torch.from_numpy(layers["medians"] / ONE).float()[:, None, None]
    net = restore(args.out / "state.pt", network.config)
    photographs = crops.load([SHARED / "data" / "train"], PATCH)
    chosen = photographs.train[:: max(1, len(photographs.train) // FITTED)][:FITTED]
    fit_to = [middle(photo) for photo in chosen]
    y_shipped = Tables(*(layers[f"tables.y.{part}"] for part in ("weight", "length", "first")))

    def run(kind: str, y: Tensor, z: Tensor, rounding: Rounding) -> Coded:
        return serial(net, y, z + medians, rounding) if kind == "serial" else two_steps(model, y, z, rounding)

    def fit(kind: str, tables: Tables, times: int = 2) -> Tables:
        for _ in range(times):
            counts = Counts.none(LEVELS, network.config.n)
            for y, z in (pair for row in range(rows) for pair in latents(model, fit_to, row)):
                symbols, levels, _ = run(kind, y, z, Rounding(tables, weight, torch.device("cpu")))
                for s, b, level in zip(symbols, z, levels, strict=True):
                    counts.add(Symbols(s.int(), b.int(), level, s))
            tables = fitted(tables, counts.y)
        return tables

    assumed = {"two steps": density_tables(network.density), "serial": density_tables(net.density)}
    variants = [(kind, "assumed", tables) for kind, tables in assumed.items()]
    variants += [(kind, "fitted", fit(kind, tables)) for kind, tables in assumed.items()]
    variants.append(("two steps", "shipped", y_shipped))
    held_out = [middle(photo) for photo in photographs.held_out]
    kodak = [crops.read_pixels(path) for path in sorted((SHARED / "data" / "kodak").glob("kodim*"))]
    result: dict[str, Any] = {}
    for name, pictures in (("held-out", held_out), ("kodak", kodak)):
        pixels = sum(p.shape[0] * p.shape[1] for p in pictures)
        shapes = sorted({p.shape for p in pictures})
        groups = [[p for p in pictures if p.shape == shape] for shape in shapes]
        for row in range(rows) if args.all_rows else HELD_OUT_ROWS:
            batches = [pair for group in groups for pair in latents(model, group, row)]
            line: dict[str, Any] = {}
            for kind, what, tables in variants:
                rounding = Rounding(tables, weight, torch.device("cpu"))
                bits, error = 0.0, 0.0
                for (y, z), group in zip(batches, groups, strict=True):
                    coded = run(kind, y, z, rounding)
                    bits += cost(coded, tables)
                    error += squared_error(model, coded[2], group, row) if what == "fitted" else 0
                line[f"{kind}, {what}"] = round(bits / pixels, 6)
                if what == "fitted":
                    line[f"{kind}, MSE"] = round(error / pixels / 3, 4)
            z_bits = sum(z_cost(model, z) for _, z in batches)
            line["z"] = round(z_bits / pixels, 6)
            for what in ("assumed", "fitted"):
                a, b = line[f"two steps, {what}"], line[f"serial, {what}"]
                line[f"saved of y, {what}"] = round(100 * (1 - b / a), 2)
            a, b = line["two steps, shipped"], line["serial, fitted"]
            line["saved of y, fitted against shipped"] = round(100 * (1 - b / a), 2)
            a, b = (line[f"{kind}, fitted"] + line["z"] for kind in assumed)
            line["saved of all, fitted"] = round(100 * (1 - b / a), 2)
            b += network.config.lambdas[row] * (line["serial, MSE"] - line["two steps, MSE"])
            line["saved of all, fitted, at equal quality"] = round(100 * (1 - b / a), 2)
            result[f"{name}, row {row + 1}"] = line
            print(name, row + 1, line, flush=True)
    (args.out / "figures.json").write_text(json.dumps(result, indent=1))


def z_cost(model: Model, z: Tensor) -> float:
    channel = torch.arange(z.shape[1])[:, None, None].expand(z.shape)
    return float(model.family.entropy._z_cost(z.int().flatten(), channel.flatten()))


def restore(path: Path, config: Config) -> Context:
    """The inverse of `Context.export`."""
    state = torch.load(path, weights_only=True)
    about = state.pop("config")
    net = Context(config, about["context"], about["entropy_hidden"])
    kernel = state.pop("context.weight")
    state["above.weight"], state["above.bias"] = kernel[:, :, :REACH], state.pop("context.bias")
    state["left.weight"] = kernel[:, :, REACH : REACH + 1, :REACH]
    net.load_state_dict(state, strict=False)
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("collect", "train", "figures"))
    parser.add_argument("--model", default="default-3")
    parser.add_argument("--data", type=Path, default=Path("/tmp/ctx_data"))
    parser.add_argument("--out", type=Path, default=Path("/work/families/context"))
    parser.add_argument("--crops", type=int, default=8000)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--minutes", type=float, default=0.0, help="of training, if these are over first; 0: no limit")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--slow", type=float, default=0.3, help="learning rate of h_s and the density, in those of lr")
    parser.add_argument("--warmup", type=int, default=150)
    parser.add_argument("--row-power", type=float, default=-0.54, help="power of lambda that weights a row's bits")
    parser.add_argument("--own", type=int, default=800, help="the step from which y_hat is the network's own")
    parser.add_argument("--real", type=float, default=0.0, help="share of latents that are rated as real symbols")
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--every", type=float, default=4, help="minutes between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all-rows", action="store_true")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    torch.set_grad_enabled(True)
    if args.command == "collect":
        collect(args.data, args.model, args.crops, args.seed)
    elif args.command == "train":
        train(args)
    else:
        figures(args)


if __name__ == "__main__":
    main()
