"""`twc info`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from twcodec.cli.say import as_text, shown, tell
from twcodec.cli.several import each
from twcodec.container.limits import DEFAULT_LIMITS, Limits
from twcodec.imaging.files import read_input

if TYPE_CHECKING:
    from twcodec.codec.info import Info


@click.command("info", short_help="Show what TWC files say of themselves.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line a sound file.")
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
    transform = info.transform
    if info.transformed:
        parts = [
            k.replace("_", " ") if v is True else f"{k.replace('_', ' ')} {v}" for k, v in info.parameters.items() if v
        ]
        transform += f" (seed {info.seed}: {', '.join(parts)})"
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
            "transform": f"{transform}, best of {info.ways}" if info.ways > 1 else transform,
            "bytes": bytes_,
        }
    if info.chunks:
        rows["carries"] = ", ".join(f"{kind} {size} bytes" for kind, size in info.chunks.items())
    return "\n".join([shown(name), *(f"  {key:<10}{value}" for key, value in rows.items())])
