"""`twc models list`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from twcodec.cli.models.arguments import as_json
from twcodec.cli.models.lookup import mebibytes
from twcodec.cli.say import as_text, shown, tell
from twcodec.models import catalogue, official, store


@click.command("list")
@as_json
def command(as_json: bool) -> None:
    """List the models that are embedded, those that are stored, and the official ones that can be pulled.

    \b
    twc models list
    twc models list --json | jq -r '.stored[].name'
    """
    found = {
        "folder": as_text(str(store.folder())),
        "embedded": _embedded(),
        "stored": _stored(),
        "official": _official(),
    }
    tell(json.dumps(found) if as_json else _tables(found))


def _embedded() -> list[dict[str, Any]]:
    default = catalogue.default_name()
    return [
        {"name": e.name, "digest": e.digest.hex(), "bytes": _size(e.path), "default": e.name == default}
        for e in catalogue.EMBEDDED
    ]


def _stored() -> list[dict[str, Any]]:
    return [
        {"name": e.name, "digest": e.digest.hex(), "bytes": _size(e.path), "path": as_text(str(e.path))}
        for e in store.entries()
    ]


def _official() -> list[dict[str, Any]]:
    at_hand = {entry.name for entry in store.entries()}
    rows: dict[tuple[str, str], list[str]] = {}
    for c in official.CHECKPOINTS:
        rows.setdefault((c.architecture, c.metric), []).append(c.name)
    return [
        {
            "architecture": architecture,
            "metric": metric,
            "qualities": list(official.qualities(architecture, metric)),
            "at_hand": [name for name in names if name in at_hand],
        }
        for (architecture, metric), names in rows.items()
    ]


def _tables(found: dict[str, Any]) -> str:
    lines = ["embedded:"]
    width = max(len(e["name"]) for e in found["embedded"] + found["stored"])
    for e in found["embedded"]:
        lines.append(_row(e, width) + "  (the default)" * e["default"])
    lines += ["", f"stored in {shown(found['folder'])}:"]
    lines += [_row(e, width) for e in found["stored"]] or [f"  {_why_none()}"]
    lines += ["", "official, to be had with `twc models pull ARCH -q N [--metric ms-ssim]`:"]
    for e in found["official"]:
        q = e["qualities"]
        text = f"-q {q[0]} to {q[-1]}" if q else "all in one"
        here = f"  at hand: {', '.join(e['at_hand'])}" if e["at_hand"] else ""
        lines.append(f"  {e['architecture']:<24}  {e['metric']:<7}  {text:<10}{here}".rstrip())
    return "\n".join(lines)


def _why_none() -> str:
    """What to say of a folder without models: nobody made one yet, or it cannot be looked into."""
    try:
        os.scandir(store.folder()).close()
    except FileNotFoundError:
        return "none"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "none"


def _row(e: dict[str, Any], width: int) -> str:
    return f"  {e['name']:<{width}}  {e['digest']}  {mebibytes(e['bytes']):>9}"


def _size(path: Path) -> int:
    """Of a file; 0 if it has just gone away."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
