"""A training run: a folder that holds everything needed to go on, step by step."""

from __future__ import annotations

import io
import json
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twcodec.errors import UnreadableError, UsageError
from twcodec.models.trainable import Config, Network, build
from twcodec.training.crops import Batch, Loader, Photographs
from twcodec.training.files import CHECKPOINT, SETTINGS, SNAPSHOT, make_folder, write_json, write_whole
from twcodec.training.objective import Loss, objective
from twcodec.training.soap import SOAP


@dataclass(frozen=True)
class RunSettings:
    """What defines a run; written to its folder, so that it cannot be resumed as another by mistake.

    steps, minutes: of the whole run, whichever is over first; the learning rate falls to 0 along a cosine over them.
    0 minutes: no such limit, and a resumed run is then equal to an uninterrupted one. batch, patch: pictures a step,
    and their side in pixels, a multiple of 64. amp: bfloat16 autocast. adversarial: PGD radius in 8-bit levels,
    0 for none. data: digest of the pictures' names and sizes.
    """

    steps: int
    minutes: float = 0.0
    batch: int = 4
    patch: int = 256
    lr: float = 4e-4
    warmup: int = 100
    ema: float = 0.998
    clip: float = 1.0
    seed: int = 0
    amp: bool = True
    adversarial: float = 0.0
    init: str = ""
    data: str = ""
    network: Config = field(default_factory=Config)

    def __post_init__(self) -> None:
        """UsageError: a value that cannot be meant."""
        if self.patch % 64 or self.patch < 64:
            raise UsageError(f"patches of {self.patch} pixels; a multiple of 64 is needed")

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and lists."""
        return {**asdict(self), "network": self.network.to_json()}


class Run:
    """Network, averaged network, optimisers and the step that was reached, on a device."""

    def __init__(self, settings: RunSettings, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device, self.step, self.seconds = settings, device, 0, 0.0
        network = Network(settings.network).to(device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network.train()
        self.average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        tails = [p for name, p in network.named_parameters() if name.endswith("quantiles")]
        self.learnt = [p for name, p in network.named_parameters() if not name.endswith("quantiles")]
        self._optimiser = SOAP(self.learnt, settings.lr)
        self._tails = torch.optim.Adam(tails, lr=1e-3)

    def start_average(self) -> None:
        """Average from here on: after the network was given its initial weights."""
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}

    def advance(self, batch: Batch) -> Loss:
        """One step."""
        settings = self.settings
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate()
        if self.step % _DEAD_ZONE_EVERY == 0:
            self.network.refresh_dead_zone()
        torch.manual_seed(batch.rng_seed)  # the step's noise: a resumed run draws the same
        x, rows = batch.x.to(self.device, non_blocking=True), batch.rows.to(self.device)
        loss = objective(self.network, x, rows, settings.amp, settings.adversarial)
        self._optimiser.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.learnt, settings.clip)
        self._optimiser.step()
        self._follow_tails()
        self._follow_average()
        self.step += 1
        return loss

    def _rate(self) -> float:
        """Linear warm-up, then a cosine to 0."""
        warm = min(1, (self.step + 1) / self.settings.warmup)
        return self.settings.lr * warm * 0.5 * (1 + math.cos(math.pi * self.progress))

    @property
    def progress(self) -> float:
        """0 at the start, 1 when the run is over."""
        s = self.settings
        timed = self.seconds / (60 * s.minutes) if s.minutes else 0.0
        return min(1.0, max(self.step / s.steps, timed))

    def _follow_tails(self) -> None:
        """The quantiles of z's density, which only its tables need."""
        if self.step % 8 == 0:
            self._tails.zero_grad()
            self.network.bottleneck.loss().backward()
            self._tails.step()

    @torch.no_grad()
    def _follow_average(self) -> None:
        if self.step % _AVERAGE_EVERY:
            return
        decay = min(self.settings.ema, (self.step + 1) / (self.step + 20)) ** _AVERAGE_EVERY
        for name, value in self.network.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def averaged(self) -> Network:
        """A copy of the network with the averaged weights, ready to be evaluated."""
        network = Network(self.settings.network).to(self.device)
        network.load_state_dict(self.average)
        network.refresh_dead_zone()
        return network.eval()

    def save(self, folder: Path) -> None:
        """Write the checkpoint; the old one is replaced only when the new one is complete.

        Beside it a snapshot: the averaged network as a model file, a tenth of the size, to look at or to start from.
        """
        self._check_finite()
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self._optimiser.state_dict(),
            "tails": self._tails.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "settings": json.dumps(self.settings.to_json()),
        }
        packed = io.BytesIO()
        torch.save(state, packed)
        write_whole(folder / CHECKPOINT, packed.getvalue())
        write_whole(folder / SNAPSHOT, build(self.averaged().cpu(), {"snapshot_at_step": self.step}))

    def _check_finite(self) -> None:
        """UsageError: training has diverged, so that what there is must not replace the last checkpoint."""
        if not all(bool(torch.isfinite(p).all()) for p in self.learnt):
            raise UsageError(f"the weights are no numbers any more at step {self.step}; try a lower --lr")

    def restore(self, folder: Path) -> None:
        """Go on from the checkpoint. UnreadableError: it is damaged or of another run."""
        try:
            state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
            if state["settings"] != json.dumps(self.settings.to_json()):
                raise ValueError("it is another run's")
            self.network.load_state_dict(state["network"])
            self._optimiser.load_state_dict(state["optimiser"])
            self._tails.load_state_dict(state["tails"])
            self.average = {name: value.to(self.device) for name, value in state["average"].items()}
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
        except ValueError as error:
            raise UnreadableError(f"the checkpoint in {folder} cannot be used: {str(error).splitlines()[0]}") from None
        except (OSError, RuntimeError, KeyError, EOFError, TypeError, pickle.UnpicklingError):
            # torch's own words run over a page, and advise to load pickles without care
            raise UnreadableError(f"the checkpoint in {folder} cannot be used: it is damaged") from None


_AVERAGE_EVERY, _DEAD_ZONE_EVERY = 4, 50


def open_run(folder: Path, settings: RunSettings, device: torch.device, start: Callable[[Run], None]) -> Run:
    """The run in a folder, resumed if it has a checkpoint; else a new one, which `start` gives its first weights.

    UsageError: the folder holds a run with other settings. OutputError: it cannot be written.
    """
    described = folder / SETTINGS
    if described.exists():
        _check_same(described, settings)
    run = Run(settings, device)
    if (folder / CHECKPOINT).exists():
        run.restore(folder)
        return run
    start(run)
    run.start_average()
    make_folder(folder)
    write_json(described, settings.to_json())
    return run


def _check_same(described: Path, settings: RunSettings) -> None:
    try:
        found, wanted = json.loads(described.read_text()), settings.to_json()
        other = sorted(key for key in wanted if found[key] != wanted[key])
    except (OSError, ValueError, TypeError, KeyError):
        raise UnreadableError(f"{described} does not describe a run") from None
    if other:
        shown = [key for key in other if key != "network"] or ["init"]
        what = ", ".join(f"{key} {found[key]!r} there, {wanted[key]!r} here" for key in shown)
        raise UsageError(f"{described.parent} holds a run with other settings: {what}; choose another folder")


def train(run: Run, folder: Path, photographs: Photographs, until: Callable[[], bool], every: Every) -> None:
    """Advance to the end of the run, or until `until` says so, then save; log and call back now and then.

    After any error nothing is saved: the state may lie between two steps, and the last checkpoint does not.
    """
    settings = run.settings
    loader = Loader(photographs.train, settings.seed, settings.batch, settings.patch, len(settings.network.lambdas))
    started, before = time.monotonic(), run.seconds
    try:
        while run.progress < 1 and not until():
            every.learnt(run.advance(loader(run.step)))
            run.seconds = before + time.monotonic() - started
            every.called(run, folder)
    finally:
        loader.close()
    run.save(folder)


class Every:
    """What happens between steps: a line of the log, a checkpoint, an evaluation."""

    def __init__(
        self,
        log: Callable[[dict[str, float]], None],
        evaluate: Callable[[Run], None],
        log_steps: int = 100,
        save_seconds: float = 120,
        evaluate_seconds: float = 1200,
    ) -> None:
        self._log, self._evaluate = log, evaluate
        self._log_steps, self._save_seconds, self._evaluate_seconds = log_steps, save_seconds, evaluate_seconds
        self._losses: list[Tensor] = []
        self._saved = self._evaluated = time.monotonic()

    def learnt(self, loss: Loss) -> None:
        """Remember a step's loss."""
        self._losses.append(torch.stack([loss.total, loss.bpp, loss.mse]).detach())

    def called(self, run: Run, folder: Path) -> None:
        """After each step."""
        now = time.monotonic()
        if self._losses and (run.step % self._log_steps == 0 or run.step == 1 or run.progress >= 1):
            total, bpp, mse = torch.stack(self._losses).mean(0).tolist()
            self._losses.clear()
            if not math.isfinite(total):
                raise UsageError(f"the loss is no number any more at step {run.step}; try a lower --lr")
            line = {"step": run.step, "seconds": round(run.seconds, 1), "loss": total, "bpp": bpp}
            self._log({**line, "psnr": -10 * math.log10(max(mse, 1e-12))})
        if now - self._saved > self._save_seconds:
            run.save(folder)
            self._saved = now
        if now - self._evaluated > self._evaluate_seconds:
            self._evaluate(run)
            self._evaluated = time.monotonic()
