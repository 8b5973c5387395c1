"""Folders of small pictures, and `twc batch` as a function, with an engine in this process: others start in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import mortal, process, small_and_quick, twc  # noqa: F401
from PIL import Image

from twcodec.batch.tasks import Job, Record, Results, Task
from twcodec.batch.work import Worker


class Here:
    """An engine in this process, one task after the other. before: is told of each task, and may do things."""

    workers = 1

    def __init__(self) -> None:
        self.job: Job | None = None
        self.seen: list[str] = []
        self.before: Callable[[Task], None] = lambda task: None

    def run(self, tasks: Iterator[Task]) -> Results:
        assert self.job is not None
        worker = Worker(replace(self.job, threads=1))
        worker.ready()
        for task in tasks:
            self.before(task)
            self.seen.append(task.key)
            yield task, worker.do(task, worker.read(task))


@pytest.fixture
def engine(monkeypatch) -> Here:
    """What `batch` works with. seen: the outputs that were made, or tried."""
    from twcodec.cli.batch import shared
    from twcodec.codec import allocator

    here = Here()

    def engines(given: Any, job: Job, most: int) -> Any:
        here.job = job
        return (lambda: here), None

    monkeypatch.setattr(shared, "_engines", engines)
    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: None)  # it would hold for all tests after these
    return here


@pytest.fixture
def batch(twc, engine, monkeypatch, tmp_path):  # noqa: F811
    """batch("encode", "in", "-o", "out"), in the test's folder. batch.seen: the outputs that this made, or tried."""
    monkeypatch.chdir(tmp_path)

    def run(*args: Any, **streams: Any) -> Any:
        engine.seen.clear()
        return twc("batch", *args, **streams)

    return run


@pytest.fixture(scope="session")
def small(astronaut) -> Callable[[int], Image.Image]:
    """The i-th picture, 64x48: no two are the same."""
    return lambda i: Image.fromarray(astronaut[i * 7 % 400 :, 100 + i % 100 :][:48, :64])


@pytest.fixture
def fill(small, tmp_path) -> Callable[..., list[Path]]:
    """fill("in/a.png", "in/b.jpg", ...): pictures of these names, with their folders."""

    def make(*names: str) -> list[Path]:
        paths = [tmp_path / name for name in names]
        for i, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            small(i).save(path)
        return paths

    return make


def lines(folder: Path, name: str = "twc-manifest.jsonl") -> list[Record]:
    """All of a manifest."""
    return [json.loads(line) for line in (folder / name).read_bytes().splitlines()]


def done(folder: Path, name: str = "twc-manifest.jsonl") -> list[Record]:
    """What was done, in order."""
    return [line for line in lines(folder, name) if line["status"] == "done"]


def tree(folder: Path) -> list[str]:
    """All files in it but the manifest, hidden ones too."""
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())
    return sorted(name for name in found if not name.startswith("twc-manifest"))
