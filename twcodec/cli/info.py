"""`twc info`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from twcodec.cli import colour, options
from twcodec.cli.say import as_text, shown, tell
from twcodec.cli.several import each
from twcodec.cli.table import aligned
from twcodec.container.limits import DEFAULT_LIMITS, Limits
from twcodec.imaging.files import read_input

if TYPE_CHECKING:
    from twcodec.codec.info import Info


@click.command("info", short_help="Show what TWC files say of themselves.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=options.FILE)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line a sound file.")
@colour.option
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Show size, model, quality and transform of each TWC FILE (- for standard input), without decoding it.

    \b
    twc info photo.twc
    twc info --json *.twc | jq .bpp
    """

    def show(name: str) -> None:
        from twcodec.codec.info import info

        found = info(read_input(name, DEFAULT_LIMITS.file_bytes), Limits(pixels=1 << 48))
        tell(json.dumps({"file": as_text(name), **found.to_json()}) if as_json else _table(name, found))

    return each(files, show)


def _table(name: str, info: Info) -> str:
    alpha = ", alpha lossless" if "ALPH" in info.chunks else ""
    size = f"{info.width} x {info.height}, {info.mode}, {info.depth} bit{alpha}"
    what = "the AVIF stream" if info.payload == "avif" else "coded symbols"
    bytes_ = f"{info.file_bytes}, of them {info.payload_bytes} {what}; {info.bpp:.4f} bpp"
    if info.payload == "avif":
        rows = {"size": size, "payload": "AVIF (guard)", "model": "none is needed", "bytes": bytes_}
    else:
        rows = {
            "size": size,
            "model": f"{info.model or 'not in this twc'} (digest {info.digest})",
            "quality": f"{info.quality:g}",
            "transform": f"{info.transform}, best of {info.ways}" if info.ways > 1 else info.transform,
            **_drawn(info),
            "bytes": bytes_,
        }
    width = max(10, 2 + max(map(len, rows)))
    lines = [colour.heading(shown(name)), *(f"  {key:<{width}}{value}" for key, value in rows.items())]
    return "\n".join([*lines, *_chunks(info)])


def _drawn(info: Info) -> dict[str, str]:
    """Rows for the seed of a transform and all that was drawn by it."""
    if not info.transformed:
        return {}
    values = {key.replace("_", " "): value for key, value in info.parameters.items()}
    words = {
        key: {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        for key, value in values.items()
    }
    return {"  seed": str(info.seed), **{f"  {key}": value for key, value in words.items()}}


def _chunks(info: Info) -> list[str]:
    """Every chunk of the file, in its order."""
    rows = [(str(c["type"]), str(c["bytes"]), "critical" if c["critical"] else "ancillary") for c in info.layout]
    titles, *lines = aligned([("chunk", "bytes", ""), *rows], right=("bytes",))
    return [f"  {colour.heading(titles)}", *(f"  {line}" for line in lines)]
