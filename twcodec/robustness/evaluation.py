"""The evaluation: pictures, attacks and defences set against each other, one line a coded file, resumable.

Everything that is reported was coded, decoded and measured on 8-bit pictures. FOLDER/rows.jsonl has a line for each
coded file and FOLDER/attacked/ each adversarial picture, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from twcodec.codec.codec import Codec, read
from twcodec.codec.distortion import ms_ssim_loss
from twcodec.codec.runtime import running
from twcodec.errors import CorruptError, TwcError, UnreadableError, UsageError
from twcodec.robustness.aggregate import figures
from twcodec.robustness.attacks import ATTACKS, attacked
from twcodec.robustness.defences import DEFENCES, Defence, Outcome, Pixels, squared_error
from twcodec.robustness.objectives import OBJECTIVES
from twcodec.robustness.search import Budget
from twcodec.robustness.threats import THREATS, Attacker, Choice, Threat, refinement

CLEAN = {"attack": "", "objective": "", "threat": "", "eps": 0.0}
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is tried. Every list is crossed with every other, but noise has no objective and no threat.

    eps: in 8-bit levels. alpha: of eps, the share that a step moves. draws: independent draws of a random defence.
    crop: side of the square cut from the middle of each picture; 0 for all of it.
    """

    qualities: tuple[float, ...]
    defences: tuple[str, ...]
    attack: str = "pgd"
    objectives: tuple[str, ...] = ("rate", "self-distortion")
    threats: tuple[Threat, ...] = ("transfer", "white", "adaptive")
    eps: tuple[float, ...] = (4.0,)
    steps: int = 20
    alpha: float = 0.25
    restarts: int = 1
    eot: int = 20
    choice: Choice = "sum"
    draws: int = 3
    crop: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.defences if name not in DEFENCES]
        if unknown:
            raise UsageError(f"no defence is called {unknown[0]!r}; there are {', '.join(DEFENCES)}")
        if not all(0 < e <= 255 for e in self.eps):
            raise UsageError("eps is a number of 8-bit levels over 0 and up to 255")
        if self.attack == "noise" or ("black" in self.threats and self.attack != "square"):
            raise UsageError("noise is always there as the control; --threats black needs --attack square")
        for listed in (self.qualities, self.defences, self.objectives, self.threats, self.eps):
            if not listed or len(set(listed)) < len(listed):
                raise UsageError(f"a list of an evaluation is empty or has something twice: {listed}")
        wrong: list[str] = [t for t in self.threats if t not in THREATS or t in ("none", "oracle")]
        wrong += [o for o in self.objectives if o not in OBJECTIVES] + [self.attack] * (self.attack not in ATTACKS)
        if wrong:
            raise UsageError(
                f"{wrong[0]!r} is unknown; objectives: {', '.join(OBJECTIVES)}; "
                f"threats: transfer, white, adaptive, black; attacks: {', '.join(ATTACKS)}"
            )
        if self.draws < 1 or self.crop < 0:
            raise UsageError("an evaluation needs at least one draw, and a crop of 0 or more")

    def of_attacks(self) -> list[Any]:
        """What an adversarial picture depends on, beside its own condition."""
        return [self.steps, self.alpha, self.restarts, self.eot, self.choice, self.crop, self.seed]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


@dataclass(frozen=True)
class Source:
    """A picture of the evaluation. pixels: (H, W, 3)."""

    name: str
    pixels: Pixels


def sources(paths: Iterable[Path], crop: int) -> list[Source]:
    """Pictures, cut to the middle; grey ones become colour, since attacks take three channels.

    Errors: as `read`, with the picture's name; UsageError: two of one name.
    """
    found: dict[str, Source] = {}
    for path in paths:
        try:
            picture = read(path)
        except TwcError as error:
            raise type(error)(f"{path}: {error}") from None
        if picture.depth == 16:
            raise UnreadableError(f"{path}: pictures of 16 bits cannot be evaluated")
        if path.stem in found:
            raise UsageError(f"two pictures are called {path.stem}; figures are told apart by their names")
        side = crop or max(picture.height, picture.width)
        top, left = max(0, (picture.height - side) // 2), max(0, (picture.width - side) // 2)
        cut = picture.samples[top : top + side, left : left + side] * np.uint8(255 if picture.depth == 1 else 1)
        found[path.stem] = Source(path.stem, np.ascontiguousarray(np.broadcast_to(cut, (*cut.shape[:2], 3))))
    return list(found.values())


class Evaluation:
    """One run in one folder, with one model."""

    def __init__(self, codec: Codec, pictures: list[Source], plan: Plan, folder: Path) -> None:
        self.codec, self.pictures, self.plan, self.folder = codec, pictures, plan, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "rows.jsonl"
        self._check_same(folder / "run.json")
        self._kept = list(_kept_rows(self._path))
        self._done = {key_of(row) for row in self._kept}

    @property
    def rows(self) -> list[Row]:
        """All that has been coded of this plan. The folder may have more, of other qualities, defences or eps."""
        named = (self._named(q, c, *cell) for q, c in self._conditions() for cell in self._cells())
        order = {key_of(row): i for i, row in enumerate(named)}
        return sorted((row for row in self._kept if key_of(row) in order), key=lambda row: order[key_of(row)])

    def _cells(self) -> Iterator[tuple[int, str, int]]:
        """Pictures, defences and draws, one defence after the other."""
        for name, picture in itertools.product(self.plan.defences, range(len(self.pictures))):
            for draw in range(self.plan.draws if DEFENCES[name].draws else 1):
                yield picture, name, draw

    def _check_same(self, path: Path) -> None:
        """UsageError: the folder holds figures of other pictures, another model, or attacks with other settings.

        Qualities, defences, objectives, threats and eps may differ from call to call: rows say what theirs were.
        """
        found = {
            p.name: hashlib.sha256(p.pixels.tobytes() + str(p.pixels.shape).encode()).hexdigest() for p in self.pictures
        }
        now = {"model": self.codec.model.digest.hex(), "attacks": self.plan.of_attacks(), "pictures": found}
        if path.exists():
            try:
                kept = json.loads(path.read_text())
                known = kept["pictures"] | found
                same = all(kept[name] == now[name] for name in ("model", "attacks"))
                same = same and all(kept["pictures"].get(name, digest) == digest for name, digest in found.items())
            except (ValueError, KeyError, TypeError):
                raise CorruptError(f"{path} is damaged; give another folder") from None
            if not same:
                raise UsageError(
                    f"{path.parent} holds figures of another model, of other pictures of these names, or of attacks "
                    "with other --steps, --restarts, --eot, --crop or --seed; give another folder"
                )
            now["pictures"] = known
        path.write_text(json.dumps(now, indent=1) + "\n")

    def figures(self) -> dict[str, Any]:
        """What the rows say: see `aggregate`."""
        return figures(self.rows)

    def given(self, quality: float, condition: Row, picture: str) -> Pixels:
        """The adversarial picture that was made against the model alone."""
        names = [p.name for p in self.pictures]
        return self._given(quality, condition, "")[names.index(picture)]

    def run(self, each: Callable[[int, int], None] = lambda done, total: None) -> list[Row]:
        """All cells of the plan. each: is told how many of how many conditions are done."""
        conditions = list(self._conditions())
        for i, (quality, condition) in enumerate(conditions):
            each(i, len(conditions))
            self._condition(quality, condition)
        each(len(conditions), len(conditions))
        return self.rows

    def _conditions(self) -> Iterator[tuple[float, Row]]:
        plan = self.plan
        for quality in plan.qualities:
            yield quality, CLEAN
            for eps in plan.eps:
                yield quality, {"attack": "noise", "objective": "", "threat": "none", "eps": eps}
                for objective, threat in itertools.product(plan.objectives, plan.threats):
                    yield quality, {"attack": plan.attack, "objective": objective, "threat": threat, "eps": eps}

    def _condition(self, quality: float, condition: Row) -> None:
        """Every defence on every picture."""
        wanted = []
        for picture, name, draw in self._cells():
            row = self._named(quality, condition, picture, name, draw)
            if key_of(row) not in self._done:
                wanted.append((picture, name, row))
        if not wanted:
            return
        needed = sorted({self._adversary(DEFENCES[name], condition) for _, name, _ in wanted})
        given = {adversary: self._given(quality, condition, adversary) for adversary in needed}
        for picture, name, row in wanted:
            pixels = given[self._adversary(DEFENCES[name], condition)][picture]
            outcome = DEFENCES[name].run(self.codec, pixels, quality, self._seed(row))
            self._keep({**row, **measured(self.codec, quality, self.pictures[picture].pixels, pixels, outcome)})

    def _named(self, quality: float, condition: Row, picture: int, defence: str, draw: int) -> Row:
        model, name = self.codec.model.name, self.pictures[picture].name
        return {"model": model, "quality": quality, **condition, "defence": defence, "picture": name, "draw": draw}

    def _adversary(self, defence: Defence, condition: Row) -> str:
        """Whose adversarial pictures a defence gets: those made against the model alone, or against itself."""
        settings = defence.settings
        defended = settings.transform != "never" or settings.effort
        if condition["threat"] not in ("white", "adaptive") or not defended:
            return ""
        refined = f" effort {settings.effort}" if settings.effort else ""
        return "+".join(settings.transforms) + f" {settings.transform}{refined}"

    def _given(self, quality: float, condition: Row, adversary: str) -> list[Pixels]:
        """What the encoder is given, picture by picture."""
        if condition == CLEAN:
            return [p.pixels for p in self.pictures]
        if not adversary and condition["attack"] != "noise" and condition["threat"] != "black":
            condition = {**condition, "threat": "transfer"}  # whoever knows of no defence makes the same picture
        folder = self.folder / "attacked"
        folder.mkdir(exist_ok=True)
        tag = json.dumps([self.codec.model.digest.hex(), quality, condition, adversary, self.plan.of_attacks()])
        paths = [folder / f"{p.name}-{hashlib.sha256(tag.encode()).hexdigest()[:12]}.png" for p in self.pictures]
        for group in _by_shape(self.pictures, paths):
            if not all(path.exists() for _, path in group):
                found = self._attacked(np.stack([p.pixels for p, _ in group]), quality, condition, adversary)
                for (_, path), pixels in zip(group, found, strict=True):
                    Image.fromarray(pixels).save(path)
        return [np.asarray(Image.open(path)) for path in paths]

    def _attacked(self, pixels: Pixels, quality: float, condition: Row, adversary: str) -> Pixels:
        plan = self.plan
        threat: Threat = condition["threat"] if condition["attack"] != "noise" else "transfer"
        target = next(
            d for d in _knowable(plan.defences) if not adversary or self._adversary(d, condition) == adversary
        )
        model = self.codec.model
        x = torch.from_numpy(pixels.copy()).to(model.device).permute(0, 3, 1, 2).float() / 255
        with running(model.device, None):
            lambda_, objective = model.lambda_(quality), condition["objective"] or "rd"
            attacker = Attacker(
                model.differentiable,
                quality,
                lambda_,
                objective,
                threat,
                target.settings,
                "ste",
                plan.choice,
                plan.eot,
                plan.seed + 1,
                refinement(model, quality, target.settings),
            )
            alpha = max(1.0, plan.alpha * condition["eps"])
            budget = Budget(condition["eps"], plan.steps, alpha, plan.restarts, plan.seed)
            found = attacked(condition["attack"], attacker.loss(x), x, budget)
        levels: Pixels = (found * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return levels

    def _seed(self, row: Row) -> int:
        """Of a draw: fixed by the plan's seed and the row, and nothing that an attacker was given."""
        return zlib.crc32(json.dumps([self.plan.seed, key_of(row)]).encode())

    def _keep(self, row: Row) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._kept.append(row)
        self._done.add(key_of(row))


def measured(codec: Codec, quality: float, source: Pixels, given: Pixels, outcome: Outcome) -> Row:
    """The figures of a coded file. source: the clean picture. given: what the encoder had, attacked or not."""
    pixels = given[..., 0].size
    error, bpp = squared_error(outcome.pixels, given), 8 * outcome.size / pixels
    a, b = (torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in (given, outcome.pixels))
    return {
        "bpp": bpp,
        "mse": error,
        "mse_source": squared_error(outcome.pixels, source),
        "mse_in": squared_error(given, source),
        "ms_ssim": 1 - float(ms_ssim_loss(a, b, 255)),
        "loss": bpp + codec.model.lambda_(codec.model.check_quality(quality)) * error,
        "transformed": outcome.transformed,
        "guarded": outcome.guarded,
        "encode_ms": 1e3 * outcome.seconds[0],
        "decode_ms": 1e3 * outcome.seconds[1],
    }


def key_of(row: Row) -> str:
    """What makes a row another row."""
    names = ("model", "quality", "attack", "objective", "threat", "eps", "defence", "picture", "draw")
    return json.dumps([row[name] for name in names])


def _knowable(names: Iterable[str]) -> Iterator[Defence]:
    yield from (DEFENCES[name] for name in names)
    yield DEFENCES["none"]


def _kept_rows(path: Path) -> Iterator[Row]:
    """The rows of an earlier run; a last line that was cut off is ignored, and taken away."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
    for line in data[:whole].splitlines():
        try:
            row = json.loads(line)
            key_of(row)
        except (ValueError, KeyError, TypeError):
            raise CorruptError(f"{path} has a line that is no row; give another folder") from None
        yield row


def _by_shape(pictures: list[Source], paths: list[Path]) -> Iterator[list[tuple[Source, Path]]]:
    """Pictures of one shape, a few at a time: an attack takes them as a batch."""
    pairs = sorted(zip(pictures, paths, strict=True), key=lambda pair: pair[0].pixels.shape)
    for _, group in itertools.groupby(pairs, key=lambda pair: pair[0].pixels.shape):
        rest = list(group)
        while rest:
            yield rest[:_BATCH]
            rest = rest[_BATCH:]


_BATCH = 4
