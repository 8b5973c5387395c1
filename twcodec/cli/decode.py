"""`twc decode`."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from twcodec.cli import complete, deadline, opening, options, sandbox, views
from twcodec.cli.progress import working
from twcodec.cli.say import say, shown, tell
from twcodec.container import Container
from twcodec.container.limits import DEFAULT_LIMITS, Limits
from twcodec.errors import UsageError
from twcodec.imaging.files import PIPE, check_output, read_input, write_output
from twcodec.imaging.formats import format_for, named

if TYPE_CHECKING:
    from twcodec.codec.settings import Precision
    from twcodec.codec.view import View
    from twcodec.container import Header


@click.command("decode", short_help="Turn a TWC file back into a picture.")
@click.argument("source", metavar="IN", type=options.FILE)
@click.argument("target", metavar="OUT", type=options.FILE)
@click.option(
    "--format",
    "form",
    default=None,
    shell_complete=complete.formats,
    help="PNG, JPEG, TIFF, ...  [default: by OUT's extension, else PNG]",
)
@views.options
@options.precision("fp32; in bf16 pixels are a little off")
@options.apply(options.model, options.device, options.threads, options.max_memory, options.max_pixels)
@deadline.option
@click.option(
    "--sandbox",
    "sandboxed",
    is_flag=True,
    help="Decode in a process of its own that may do little: for strangers' files.",
)
@options.apply(options.force, options.fsync, options.as_json, options.quiet)
def command(
    source: str,
    target: str,
    form: str | None,
    precision: Precision,
    model: str,
    device: str,
    threads: int | None,
    max_memory: int | None,
    max_pixels: int,
    timeout: float | None,
    sandboxed: bool,
    force: bool,
    fsync: bool,
    as_json: bool,
    quiet: bool,
    icc: str,
    **wanted: Any,
) -> None:
    """Turn the TWC file IN (- for standard input) into the picture OUT (- for standard output).

    \b
    twc decode photo.twc photo.png
    twc decode photo.twc photo.jpg
    twc decode --crop 100,50,640,480 --scale 1/2 photo.twc part.png
    twc decode --format tiff - - < photo.twc > photo.tif
    """
    with options.about(source, target):
        check_output(target, force, source)
        written_as = _format(form, target)
        data = read_input(source, DEFAULT_LIMITS.file_bytes)
    write = partial(write_output, target, force, fsync=fsync)
    view = views.view(**wanted)
    how = _How(written_as, view, icc, precision, model, device, threads, max_memory, max_pixels)
    with options.about(source, target):
        if sandboxed:
            made, result = how.in_a_sandbox(data, timeout)
            with write() as file:
                file.write(made)
        else:
            with deadline.deadline(timeout):
                result = how.here(data, source, write, quiet)
    options.warn(shown(target, "standard output"), tuple(result["warnings"]), quiet)
    if as_json:
        tell(json.dumps(result), target == PIPE)
    elif not quiet:
        name = shown(target, "standard output")
        say(f"{shown(source)} -> {name}: {result['width']}x{result['height']} {result['mode']}, {written_as}")


_Write = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens the output."""


@dataclass(frozen=True)
class _How:
    """The options of decoding. Its methods return what there is to say of a picture, as `--json` has it."""

    form: str
    view: View
    icc: str
    precision: Precision
    model: str
    device: str
    threads: int | None
    max_memory: int | None
    max_pixels: int

    def here(self, data: bytes, source: str, write: _Write, quiet: bool) -> dict[str, Any]:
        """Decode in this process, and write the picture."""
        container = Container.from_bytes(data, Limits(pixels=self.max_pixels))
        header = container.header
        self._check(header)
        how = self.model, self.device, self.precision, self.threads, self.max_memory
        decode = opening.decoder(container, *how, self.view)
        with working(f"decoding {shown(source)}", header.width * header.height, quiet):
            picture = decode()
        from twcodec.imaging.output import write_picture

        with write() as file:
            warnings = write_picture(picture, file, self.form, self.icc)
        about = {"width": picture.width, "height": picture.height, "mode": picture.mode, "format": self.form}
        return {**about, "warnings": list(warnings)}

    def _check(self, header: Header) -> None:
        """What can be known to go wrong before anything is decoded. UsageError."""
        depth = self.view.depth_of(header.depth)
        self.view.window(header.height, header.width)
        if depth > header.depth and header.mode != "L" and self.form != "PNG":
            raise UsageError(f"16 bits a sample in colour are written as PNG, not as {self.form}")
        if depth > header.depth and self.icc == "srgb":
            raise UsageError("colours are converted to sRGB with 8 bits a sample only; leave --icc or --depth out")

    def in_a_sandbox(self, data: bytes, timeout: float | None) -> tuple[bytes, dict[str, Any]]:
        """Decode in a process that may do little, and return its picture file, too; nothing is looked at here."""
        given: dict[str, Any] = {
            "--format": self.form,
            "--icc": self.icc,
            "--precision": self.precision,
            "--model": self.model,
            "--device": self.device,
        }
        given |= views.arguments(self.view)
        given |= {"--max-pixels": self.max_pixels, "--threads": self.threads, "--max-memory": self.max_memory}
        arguments = [f"{name}={value}" for name, value in given.items() if value is not None]
        return sandbox.decoded(data, arguments, timeout, self.max_memory, self.max_pixels)


def _format(form: str | None, target: str) -> str:
    """Pillow's name of the format to write. UsageError: there is none of that name or extension."""
    if form is not None:
        return named(form)
    if target == PIPE or "." not in target.rsplit("/", 1)[-1].lstrip("."):
        return "PNG"
    found = format_for(target)
    if found is None:
        raise UsageError(
            f"{shown(target)}: the extension names no format that can be written; choose one with --format"
        )
    return found
