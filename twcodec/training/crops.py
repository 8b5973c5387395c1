"""Training data: photographs in memory, and batches of augmented crops that depend on nothing but the step's number."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from twcodec.errors import TwcError, UnreadableError, UsageError
from twcodec.imaging.read import read_picture
from twcodec.training.files import RUN_FILES, SETTINGS

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.uint8]
"""(H, W, 3), 8 bits."""

_HELD_OUT_EVERY, _HELD_OUT_MOST = 17, 32
_SMALLEST_SCALE = 0.5


@dataclass(frozen=True)
class Photograph:
    """A file, and its pixels (H, W, 3) uint8 where they fit in memory."""

    path: Path
    size: tuple[int, int]
    pixels: Pixels | None

    def read(self) -> Pixels:
        """The pixels. UnreadableError: the file has changed since the run began."""
        if self.pixels is not None:
            return self.pixels
        try:
            pixels = read_pixels(self.path)
        except TwcError as error:
            raise type(error)(f"{self.path}: {error}") from None
        if pixels.shape[:2] != self.size:
            raise UnreadableError(f"{self.path}: it has another size than when the run began")
        return pixels


@dataclass(frozen=True)
class Photographs:
    """What a run learns from, and what it is evaluated on. names: a digest of both lists, to see if they change."""

    train: list[Photograph]
    held_out: list[Photograph]
    names: str
    skipped: list[str]


def load(sources: Sequence[Path], smallest: int, memory: int | None = None) -> Photographs:
    """All pictures in folders (at any depth) and files, but those under `smallest` pixels a side or unreadable.

    What training runs have written is passed over. Every 17th picture, 32 at most, is held out. memory: bytes of pixels
    to keep; a quarter of what the machine has. UsageError: not two pictures are left.
    """
    memory = _quarter_of_memory() if memory is None else memory
    found: list[Photograph] = []
    skipped: list[str] = []
    for path in _files(sources, skipped):
        try:
            pixels = read_pixels(path)
        except TwcError as error:
            skipped.append(f"{path}: {error}")
            continue
        if min(pixels.shape[:2]) < smallest:
            skipped.append(f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels, {smallest} a side are needed")
            continue
        memory -= pixels.nbytes
        found.append(Photograph(path, (pixels.shape[0], pixels.shape[1]), pixels if memory >= 0 else None))
    if len(found) < 2:
        why = f"; the first that was left out: {skipped[0]}" if skipped else ""
        raise UsageError(f"{len(found)} pictures of at least {smallest} pixels a side were found, 2 are needed{why}")
    held_out = found[_HELD_OUT_EVERY // 2 :: _HELD_OUT_EVERY][:_HELD_OUT_MOST] or found[-1:]
    train = [photo for photo in found if not any(photo is other for other in held_out)]
    names = "\n".join(f"{p.path.name} {p.size}" for p in found).encode(errors="surrogateescape")
    return Photographs(train, held_out, hashlib.sha256(names).hexdigest()[:16], skipped)


def _files(sources: Sequence[Path], skipped: list[str]) -> Iterator[Path]:
    """Each file once, whatever ways lead to it; in folders only plain files that are not hidden, in a fixed order."""
    seen = set[Path]()
    for source in sources:
        for path in _inside(source, skipped) if source.is_dir() else [source]:
            real = path.resolve()
            if not path.is_file():
                skipped.append(f"{path}: no regular file")
            elif real not in seen:
                seen.add(real)
                yield path


def _inside(folder: Path, skipped: list[str]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        skipped.append(f"{error.filename}: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        ours = SETTINGS in names  # a run's own files are neither photographs nor in anybody's way
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and not (ours and name in RUN_FILES):
                yield Path(parent, name)


def _quarter_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def read_pixels(path: Path) -> Pixels:
    """A picture of any kind as 8-bit RGB, upright: (H, W, 3). Errors as `read_picture`."""
    picture = read_picture(path, metadata="none")
    full = 255 / ((1 << picture.depth) - 1)
    samples = np.rint(picture.samples * full).astype(np.uint8) if full != 1 else picture.samples
    return np.ascontiguousarray(np.broadcast_to(samples, (*samples.shape[:2], 3)))


@dataclass(frozen=True)
class Batch:
    """x: (B, 3, P, P) in 0 .. 1, channels_last. rows: (B,) quality rows. rng_seed: of whatever else the step draws."""

    x: Tensor
    rows: Tensor
    rng_seed: int


def batch(photographs: Sequence[Photograph], step: int, seed: int, size: int, patch: int, rows: int) -> Batch:
    """The batch of a step: the same for the same arguments, so the order of the data needs no state to be resumed.

    Crops are drawn in proportion to nothing: each photograph is as likely as any other. Half of them are taken from a
    larger square, up to twice the side where the photograph has it, and reduced. All are flipped and transposed at
    random. Quality rows are spread evenly over the batch, starting anywhere.
    """
    rng = np.random.default_rng([seed, step])
    crops = np.stack([_crop(photographs[rng.integers(len(photographs))].read(), patch, rng) for _ in range(size)])
    start = rng.integers(rows)
    drawn = rng.permutation((start + np.arange(size)) % rows if size >= rows else rng.permutation(rows)[:size])
    x = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(255)  # NHWC in memory
    return Batch(x, torch.from_numpy(drawn.astype(np.int64)), int(rng.integers(1 << 62)))


def _crop(pixels: Pixels, patch: int, rng: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    largest = min(height, width, round(patch / _SMALLEST_SCALE))
    side = int(rng.integers(patch, largest + 1)) if largest > patch and rng.random() < 0.5 else patch
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    crop = pixels[top : top + side, left : left + side]
    if side != patch:
        crop = np.asarray(Image.fromarray(crop).resize((patch, patch), Image.Resampling.LANCZOS))
    flip_rows, flip_columns, transpose = rng.random(3) < 0.5
    crop = crop[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return crop.transpose(1, 0, 2) if transpose else crop


class Loader:
    """Batches step by step, the next ones made by threads while the network runs."""

    def __init__(self, photographs: Sequence[Photograph], seed: int, size: int, patch: int, rows: int) -> None:
        self._photographs, self._how = photographs, (seed, size, patch, rows)
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="crops")
        self._ready: dict[int, Future[Batch]] = {}

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        for ahead in range(step, step + 3):
            if ahead not in self._ready:
                self._ready[ahead] = self._pool.submit(batch, self._photographs, ahead, *self._how)
        return self._ready.pop(step).result()

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
