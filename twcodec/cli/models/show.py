"""`twc models show`."""

from __future__ import annotations

import json
from typing import Any

import click

from twcodec.cli import complete, options
from twcodec.cli.models.arguments import as_json, quality
from twcodec.cli.models.lookup import mebibytes, read_model
from twcodec.cli.say import as_text, shown, tell
from twcodec.errors import UnsupportedError
from twcodec.models import store
from twcodec.models.file import digest_of

_MOST_SHOWN = 64
"""Letters of a name, values of a list: a model file may hold any."""


@click.command("show")
@click.argument("name", metavar="NAME", shell_complete=complete.models)
@quality("Of an architecture that has one model a quality.")
@as_json
def command(name: str, quality: int | None, as_json: bool) -> None:
    """Show family, digest, qualities, lambdas and provenance of the model NAME, or of a model file by its path.

    \b
    twc models show default
    twc models show mbt2018 -q 4 --json
    twc models show run/model.safetensors

    NAME is that of an embedded or a stored model, or of an architecture together with -q; NAME@9f3a is the stored one
    whose digest begins so.
    """
    kind, called, path, data = read_model(name, quality)
    with options.about(str(path) if kind == "file" else called):
        header = store.header_of(data)
    found = {
        "name": as_text(called),
        "kind": kind,
        "digest": digest_of(data).hex(),
        "family": header.family,
        "qualities": len(header.lambdas),
        "lambda": header.lambdas,
        "path": as_text(str(path)),
        "bytes": len(data),
        "parameters": header.parameters,
        "provenance": header.metadata.get("provenance"),
        "more": {k: v for k, v in header.metadata.items() if k not in ("family", "lambda", "format", "provenance")},
    }
    try:
        text = json.dumps(found) if as_json else _page(found)
    except RecursionError:
        raise UnsupportedError(f"{shown(name)}: the model file's header is nested too deeply") from None
    tell(text)


def _page(found: dict[str, Any]) -> str:
    count, lambdas = found["qualities"], ", ".join(f"{v:g}" for v in found["lambda"][:_MOST_SHOWN])
    rows = {
        "family": _plain(found["family"]),
        "digest": found["digest"],
        "qualities": f"1 to {count}, continuous" if count > 1 else "one",
        "lambda": lambdas + (", ..." if count > _MOST_SHOWN else ""),
        "size": f"{mebibytes(found['bytes'])}, {found['parameters']:,} numbers",
        "lies in": "the package" if found["kind"] == "embedded" else shown(found["path"]),
        "provenance": _brief(found["provenance"]),
        **{_plain(key): _brief(value) for key, value in found["more"].items()},
    }
    return "\n".join([shown(found["name"]), *(f"  {key:<12}{value}" for key, value in rows.items())])


def _brief(value: Any) -> str:
    """Any JSON on one line of bounded length."""
    if isinstance(value, dict) and value:
        text = "; ".join(f"{_plain(key)} {v if isinstance(v, str) else json.dumps(v)}" for key, v in value.items())
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    return _plain(text, 8 * _MOST_SHOWN)


def _plain(text: str, most: int = _MOST_SHOWN) -> str:
    """What a model file says, as text that is safe on any terminal, shortened if need be."""
    return shown(text[:most].encode("utf-8", "backslashreplace").decode(), "-") + "..." * (len(text) > most)
