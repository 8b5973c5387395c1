"""What is to be done with one picture or one tar file, what came of it, and what holds for all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from twcodec.codec.settings import TARGETS, Precision, Settings
from twcodec.container.limits import DEFAULT_LIMITS

Kind = Literal["encode", "decode"]

SEED_BITS = 31


@dataclass(frozen=True)
class Job:
    """What is done with every picture of a run. Plain values only: it is sent to other processes and machines.

    settings: of encoding. form: of decoding, Pillow's name of the format. model, device, precision, threads,
    max_memory: see `open_codec`. fsync: outputs are on the disk before they are called done. remote: outputs go to a
    network.
    """

    kind: Kind
    model: str = "default"
    device: str = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    max_memory: int | None = None
    max_pixels: int = DEFAULT_LIMITS.pixels
    settings: Settings = field(default_factory=Settings)
    metadata: str = "all"
    icc: str = "keep"
    form: str = "PNG"
    force: bool = False
    fsync: bool = False
    remote: bool = False

    def fingerprint(self, digest: bytes) -> str:
        """16 hexadecimal digits that differ where outputs might. digest: of the model that encodes."""
        if self.kind == "decode":
            decides: dict[str, Any] = {"form": self.form, "precision": self.precision}
        else:
            decides = {**asdict(self.settings), "precision": self.precision, "metadata": self.metadata}
            decides |= {"icc": self.icc} if self.icc != "keep" else {}
            for kind in TARGETS:  # where there is none, manifests of before there were any still hold
                if decides[f"target_{kind}"] is None:
                    del decides[f"target_{kind}"]
            decides["model"] = digest.hex()
        text = json.dumps({"kind": self.kind, **decides}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Job:
        """The inverse of `to_json`."""
        settings = {**found["settings"], "transforms": tuple(found["settings"]["transforms"])}
        return cls(**{**found, "settings": Settings(**settings)})


@dataclass(frozen=True, slots=True)
class Member:
    """A picture that goes into a tar file. name: what it is called there."""

    source: str
    name: str


@dataclass(frozen=True, slots=True)
class Task:
    """One output. source, target: paths or URLs. key: what the manifest calls the output.

    seed: of the draws; pictures of a tar file have seeds of their own, see `tar.seed_of`. overwrite: the output may be
    there, since an earlier run made it or began it. members: what is packed into the target, a tar file; source then
    only names it.
    """

    key: str
    source: str
    target: str
    seed: int = 0
    overwrite: bool = False
    members: tuple[Member, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Task:
        """The inverse of `to_json`."""
        return cls(**{**found, "members": tuple(Member(**m) for m in found["members"])})


Record = dict[str, Any]
"""A line of the manifest, see `manifest`."""


Results = Generator[tuple[Task, Record], None, None]


class Engine(Protocol):
    """Something that does tasks, several at a time."""

    workers: int

    def run(self, tasks: Iterator[Task]) -> Results:
        """What came of each, as it is done. Tasks are asked for when there is room for them, not before.

        Closing it drops what is being done. TwcError: nothing can be done at all.
        """


Listen = Callable[[Task, Record], None]


def failed(task: Task, code: int, error: str) -> Record:
    """The record of a task that came to nothing. code: what `twc encode` or `decode` would have returned."""
    return {"status": "failed", "source": task.source, "seed": task.seed, "error": error, "code": code}
