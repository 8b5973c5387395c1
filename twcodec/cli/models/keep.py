"""From a checkpoint to a model that is known to load, and from there to the store or a file."""

from __future__ import annotations

import json
from pathlib import Path

from twcodec.cli import options
from twcodec.cli.say import as_text, shown, tell
from twcodec.imaging.files import PIPE, write_output
from twcodec.models import official, store
from twcodec.models.file import digest_of


def converted(path: str, architecture: str, quality: int | None, metric: str, lmbda: float | None) -> bytes:
    """The model file made from a checkpoint, which loads. Without a lambda it gets that of its quality."""
    from twcodec.models.convert import convert_checkpoint  # imports torch

    return loadable(convert_checkpoint(Path(path), architecture, quality=quality, metric=metric, lmbda=lmbda))


def loadable(data: bytes) -> bytes:
    """The model file, after its family has taken it. UnsupportedError."""
    store.header_of(data)  # before torch is imported
    import torch

    from twcodec.codec.runtime import running
    from twcodec.models.model import Model

    cpu = torch.device("cpu")
    with running(cpu, None):
        Model(data, "", cpu)
    return data


def keep(data: bytes, name: str, target: str | None, force: bool, as_json: bool, quiet: bool) -> None:
    """Store a model or write it to OUT, and say how to use it."""
    if target is None:
        report(name, data, str(store.add(data, name).path), official.option_for(name), as_json, quiet)
        return
    with options.about(target, target), write_output(target, force) as file:
        file.write(data)
    report(target, data, target, f"--model {shown(target)}", as_json, quiet, target == PIPE)


def report(name: str, data: bytes, where: str, use: str, as_json: bool, quiet: bool, piped: bool = False) -> None:
    """What a model is called, what it is, and how to use it."""
    digest = digest_of(data).hex()
    if as_json:
        found = {"name": as_text(name), "digest": digest, "bytes": len(data), "path": as_text(where), "use": use}
        tell(json.dumps(found), piped)
    elif not quiet:
        tell(f"{shown(name, 'standard output')}: digest {digest}; use it with: twc encode {use}", piped)
