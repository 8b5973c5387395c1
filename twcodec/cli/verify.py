"""`twc verify`."""

from __future__ import annotations

import json

import click

from twcodec.cli import deadline, opening, options
from twcodec.cli.say import as_text, shown, tell
from twcodec.cli.several import each
from twcodec.container import Container
from twcodec.container.limits import DEFAULT_LIMITS, Limits
from twcodec.imaging.files import read_input


@click.command("verify", short_help="Check that TWC files decode.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=options.FILE)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line a sound file.")
@options.apply(options.model, options.device, options.threads, options.max_memory, options.max_pixels)
@deadline.option
@options.quiet
def command(
    files: tuple[str, ...],
    as_json: bool,
    model: str,
    device: str,
    threads: int | None,
    max_memory: int | None,
    max_pixels: int,
    timeout: float | None,
    quiet: bool,
) -> int:
    """Decode every symbol of each TWC FILE (- for standard input), and everything it carries, and write nothing.

    \b
    twc verify *.twc && rm originals/*.png

    Checks the checksums of the chunks, of the file and of the decoded symbols, or of the guard's decoded pixels.
    """
    codec = None

    def check(name: str) -> None:
        with deadline.deadline(timeout):
            check_at_leisure(name)

    def check_at_leisure(name: str) -> None:
        nonlocal codec
        data = read_input(name, DEFAULT_LIMITS.file_bytes)
        limits = Limits(pixels=max_pixels)
        from twcodec.codec.info import info

        found, container = info(data, limits), Container.from_bytes(data, limits)  # before torch is imported
        if found.payload == "avif":
            options.make_numpy_ready()
            from twcodec.codec import guard

            guard.decode(container, max_memory)
        else:
            codec = opening.codec_for(container, model, device, threads=threads, max_memory=max_memory, opened=codec)
            codec.verify(container)
        if as_json:
            tell(json.dumps({"file": as_text(name), "ok": True, **found.to_json()}))
        elif not quiet:
            kind = ", payload: AVIF (guard)" if found.payload == "avif" else ""
            tell(f"{shown(name)}: ok, {found.width}x{found.height} {found.mode}, {found.file_bytes} bytes{kind}")

    return each(files, check)
