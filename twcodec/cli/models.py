"""`twc models`: what is embedded, what is at hand, what can be pulled."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import stat
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from twcodec.cli import options
from twcodec.cli.say import as_text, say, shown, tell
from twcodec.errors import LimitError, TwcError, UnreadableError, UnsupportedError, UsageError
from twcodec.imaging.files import PIPE, check_output, write_output
from twcodec.models import catalogue, official, store
from twcodec.models.file import digest_of

if TYPE_CHECKING:
    from twcodec.models.download import Progress
    from twcodec.models.official import Checkpoint
    from twcodec.models.store import Stored


class Subcommands(click.Group):
    """A group that suggests the near name for a typo."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with a suggestion."""
        close = difflib.get_close_matches(args[0], self.commands, n=1)
        if args[0] not in self.commands and close and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)


_as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
_metric = click.option("--metric", type=click.Choice(official.METRICS), help="Trained for this.  [default: mse]")


def _quality(text: str) -> options.Decorator:
    return click.option("-q", "--quality", type=click.IntRange(1, 8), help=text)


@click.group("models", cls=Subcommands, short_help="Models: list, show, import, pull.")
def command() -> None:
    """See what models there are, and get more: CompressAI's official ones, or your own.

    Models that were pulled or imported lie in a folder of yours; TWC_MODEL_DIR names another one.

    \b
    twc models list
    twc models pull mbt2018 -q 4 && twc encode --model mbt2018 -q 4 photo.png photo.twc
    """


@command.command("list", short_help="Embedded, stored and official models.")
@_as_json
def list_(as_json: bool) -> None:
    """List the models that are embedded, those that are stored, and the official ones that can be pulled.

    \b
    twc models list
    twc models list --json | jq -r '.stored[].name'
    """
    found = _all()
    tell(json.dumps(found) if as_json else _tables(found))


def _all() -> dict[str, Any]:
    default, stored = catalogue.read(catalogue.DEFAULT)[0], store.entries()
    at_hand = {entry.name for entry in stored}
    rows = dict.fromkeys((c.architecture, c.metric) for c in official.CHECKPOINTS)
    return {
        "folder": as_text(str(store.folder())),
        "embedded": [
            {"name": e.name, "digest": e.digest.hex(), "bytes": _size(_embedded(e)), "default": e.name == default}
            for e in catalogue.EMBEDDED
        ],
        "stored": [
            {"name": e.name, "digest": e.digest.hex(), "bytes": _size(e.path), "path": as_text(str(e.path))}
            for e in stored
        ],
        "official": [
            {
                "architecture": architecture,
                "metric": metric,
                "qualities": list(official.qualities(architecture, metric)),
                "at_hand": [
                    c.name
                    for c in official.CHECKPOINTS
                    if (c.architecture, c.metric) == (architecture, metric) and c.name in at_hand
                ],
            }
            for architecture, metric in rows
        ],
    }


def _tables(found: dict[str, Any]) -> str:
    lines = ["embedded:"]
    width = max(len(e["name"]) for e in found["embedded"] + found["stored"])
    for e in found["embedded"]:
        mark = "  (the default)" if e["default"] else ""
        lines.append(f"  {e['name']:<{width}}  {e['digest']}  {_bytes(e['bytes']):>9}{mark}")
    lines += ["", f"stored in {shown(found['folder'])}:"]
    for e in found["stored"]:
        lines.append(f"  {e['name']:<{width}}  {e['digest']}  {_bytes(e['bytes']):>9}")
    if not found["stored"]:
        lines.append("  none")
    lines += ["", "official, to be had with `twc models pull ARCH -q N [--metric ms-ssim]`:"]
    for e in found["official"]:
        q = e["qualities"]
        text = f"-q {q[0]} to {q[-1]}" if q else "all in one"
        here = f"  at hand: {', '.join(e['at_hand'])}" if e["at_hand"] else ""
        lines.append(f"  {e['architecture']:<24}  {e['metric']:<7}  {text:<10}{here}".rstrip())
    return "\n".join(lines)


@command.command("show", short_help="What a model says of itself.")
@click.argument("name", metavar="NAME")
@_quality("Of an architecture that has one model a quality.")
@_as_json
def show(name: str, quality: int | None, as_json: bool) -> None:
    """Show family, digest, qualities, lambdas and provenance of the model NAME, or of a model file by its path.

    NAME is that of an embedded or a stored model, or of an architecture together with -q; NAME@9f3a is the stored one
    whose digest begins so.

    \b
    twc models show default
    twc models show mbt2018 -q 4 --json
    twc models show run/model.safetensors
    """
    kind, called, path, data = _read(name, quality)
    with options.about(str(path) if kind == "file" else called):
        header = store.header_of(data)
    more = {k: v for k, v in header.metadata.items() if k not in ("family", "lambda", "format", "provenance")}
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
        "more": more,
    }
    try:
        text = json.dumps(found) if as_json else _page(found)
    except RecursionError:
        raise UnsupportedError(f"{shown(name)}: the model file's header is nested too deeply") from None
    tell(text)


_MOST_SHOWN = 64
"""Letters of a name, values of a list: a model file may hold any."""


def _page(found: dict[str, Any]) -> str:
    count, lambdas = found["qualities"], ", ".join(f"{v:g}" for v in found["lambda"][:_MOST_SHOWN])
    rows = {
        "family": _plain(found["family"]),
        "digest": found["digest"],
        "qualities": f"1 to {count}, continuous" if count > 1 else "one",
        "lambda": lambdas + (", ..." if count > _MOST_SHOWN else ""),
        "size": f"{_bytes(found['bytes'])}, {found['parameters']:,} numbers",
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


@command.command("path", short_help="Where the models lie.")
@click.argument("name", metavar="[NAME]", required=False)
@_quality("Of an architecture that has one model a quality.")
def path_(name: str | None, quality: int | None) -> None:
    """Print the folder of stored models, or the path of the file of the model NAME.

    \b
    twc models path
    cp "$(twc models path mbt2018 -q 4)" /mnt/usb
    """
    if name is None:
        if quality is not None:
            raise UsageError("-q needs the name of an architecture beside it")
        tell(str(store.folder()))
        return
    found = _embedded_of(name) or _stored(name, quality)
    if found is None:
        _unknown(name, quality)
    tell(str(_embedded(found) if isinstance(found, catalogue.Entry) else found.path))


@command.command("import", short_help="Store a CompressAI checkpoint or a model file.")
@click.argument("source", metavar="FILE")
@click.option("--arch", metavar="ARCH", help=f"Of a checkpoint: {', '.join(official.ARCHITECTURES)}.")
@_quality("CompressAI's quality that the checkpoint was trained for.")
@_metric
@click.option("--lambda", "lmbda", type=float, help="Trade-off it was trained with.  [default: CompressAI's for -q]")
@click.option("--name", help="Store it under this name.  [default: ARCH-QUALITY, or FILE's name]")
@click.option("-o", "--output", "target", metavar="OUT", help="Write the model file to OUT instead.")
@options.apply(options.force, options.as_json, options.quiet)
def import_(
    source: str,
    arch: str | None,
    quality: int | None,
    metric: str | None,
    lmbda: float | None,
    name: str | None,
    target: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Turn the CompressAI checkpoint FILE (.pth.tar, or a state_dict) into a model file, and store it.

    FILE may also be a model file of twc (.safetensors), which is checked and stored as it is, without --arch.

    \b
    twc models import mbt2018-4-456e2af9.pth.tar --arch mbt2018 -q 4
    twc models import mine.pth.tar --arch cheng2020-anchor --lambda 0.02 --name mine
    twc models import run/model.safetensors --name night
    """
    if target is not None and name is not None:
        raise UsageError("--name is for the store, and with -o nothing is stored; leave one of them out")
    with options.about(source):
        ready = _is_model_file(source)
    if arch is None:
        called = _name_for_file(source, ready, name, (quality, metric, lmbda) == (None, None, None), target)
    else:
        called = _name_for_checkpoint(source, ready, _architecture(arch), quality, metric or "mse", lmbda, name, target)
    if target is not None:
        with options.about(source, target):
            check_output(target, force, source)
    if not quiet and arch is not None:
        say(f"{shown(source)}: converting")
    with options.about(source):
        data = _checked(source) if arch is None else _converted(Path(source), arch, quality, metric or "mse", lmbda)
    _keep(data, called, target, force, as_json, quiet)


def _is_model_file(source: str) -> bool:
    """Whether it looks like safetensors. UnreadableError, LimitError: as `_bytes_of`."""
    return _bytes_of(source, 9)[8:] == b"{" or source.endswith(".safetensors")


def _bytes_of(source: str, most: int = -1) -> bytes:
    """The first bytes of a regular file, or all. UnreadableError: there is none. LimitError: over 1 GiB."""
    if not source:
        raise UsageError("an empty file name was given")
    path = Path(source)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):  # a pipe would be waited for
            raise UnreadableError("this is no regular file")
        if found.st_size > store.MOST_BYTES:
            raise LimitError(f"the file has over {store.MOST_BYTES >> 20} MiB")
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from None


def _name_for_file(source: str, ready: bool, name: str | None, plain: bool, target: str | None) -> str:
    """The name under which a model file is stored. UsageError: the options do not fit."""
    if not ready:
        raise UsageError(f"{shown(source)} is no model file of twc; a checkpoint needs --arch: {_architectures()}")
    if not plain:
        raise UsageError(f"{shown(source)} is a model file, which says itself what it is; leave -q and the like out")
    stem = Path(source).stem
    head, _, tail = stem.rpartition("-")
    if head and len(tail) == 32 and not set(tail) - set("0123456789abcdef"):  # a file that was copied from a store
        stem = head
    return stem if target is not None else store.check_name(name if name is not None else stem)


def _name_for_checkpoint(
    source: str,
    ready: bool,
    architecture: str,
    quality: int | None,
    metric: str,
    lmbda: float | None,
    name: str | None,
    target: str | None,
) -> str:
    """The name under which a checkpoint's model is stored. UsageError: the options do not fit."""
    if ready:
        raise UsageError(f"{shown(source)} is a model file already; leave --arch out")
    variable = official.is_variable(architecture)
    if variable and (quality, lmbda) != (None, None):
        raise UsageError(f"{architecture} has all qualities in one model; leave -q and --lambda out")
    if not variable and (quality, lmbda) == (None, None):
        raise UsageError(f"-q or --lambda is needed: which trade-off this {architecture} was trained for")
    if lmbda is not None and metric != "mse":
        raise UsageError("--lambda is a trade-off of MSE; that of a model trained for MS-SSIM follows from -q")
    if lmbda is not None and not 0 < lmbda < _MOST_LAMBDA:
        raise UsageError(f"--lambda {lmbda} is no trade-off; it is a number over 0 and under {_MOST_LAMBDA:g}")
    if target is not None:
        return official.name_of(architecture, quality, metric)
    if name is None and quality is None and not variable:
        raise UsageError("a model without -q has no name of its own; give one with --name")
    return store.check_name(name if name is not None else official.name_of(architecture, quality, metric))


_MOST_LAMBDA = 1e6


def _checked(source: str) -> bytes:
    """The model file, after its family has taken it. UnsupportedError."""
    data = _bytes_of(source)
    store.header_of(data)  # before torch is imported
    import torch

    from twcodec.models.model import Model

    Model(data, Path(source).stem, torch.device("cpu"))
    return data


def _converted(path: Path, architecture: str, quality: int | None, metric: str, lmbda: float | None) -> bytes:
    """The model file made from a checkpoint. Without a lambda it gets that of its quality."""
    from twcodec.models.convert import convert_checkpoint  # imports torch

    return convert_checkpoint(path, architecture, quality=quality, metric=metric, lmbda=lmbda)


def _keep(data: bytes, name: str, target: str | None, force: bool, as_json: bool, quiet: bool) -> None:
    """Store a model or write it to OUT, and say how to use it."""
    if target is None:
        where, use = str(store.add(data, name).path), official.option_for(name)
    else:
        where, use = target, f"--model {shown(target)}"
        with options.about(target, target), write_output(target, force) as file:
            file.write(data)
    _result(name if target is None else target, data, where, use, as_json, quiet, target == PIPE)


def _result(name: str, data: bytes, where: str, use: str, as_json: bool, quiet: bool, piped: bool = False) -> None:
    digest = digest_of(data).hex()
    if as_json:
        found = {"name": as_text(name), "digest": digest, "bytes": len(data), "path": as_text(where), "use": use}
        tell(json.dumps(found), piped)
    elif not quiet:
        tell(f"{shown(name, 'standard output')}: digest {digest}; use it with: twc encode {use}", piped)


@command.command("pull", short_help="Get an official model of CompressAI's.")
@click.argument("arch", metavar="ARCH")
@_quality("1 (smallest files) to 8, or 6, depending on ARCH; none for -vbr.")
@_metric
@click.option("-f", "--force", is_flag=True, help="Get it again if it is at hand.")
@options.apply(_as_json, options.quiet)
def pull(arch: str, quality: int | None, metric: str | None, force: bool, as_json: bool, quiet: bool) -> None:
    """Download an official checkpoint of CompressAI's, check it, convert it to a model file and store it.

    An interrupted download goes on where it was. TWC_MODEL_URL names a mirror.

    \b
    twc models pull mbt2018 -q 4
    twc models pull cheng2020-attn -q 6 --metric ms-ssim
    twc models pull mbt2018-mean-vbr
    """
    checkpoint = _official(_architecture(arch), quality, metric or "mse")
    stored = None if force else _intact(checkpoint, quiet)
    if stored is not None:
        if not quiet:
            say(f"{checkpoint.name} is at hand already; --force gets it again")
        _result(stored.name, store.read(stored), str(stored.path), official.option_for(stored.name), as_json, quiet)
        return
    from twcodec.models.download import fetch

    with _progress(checkpoint, quiet) as progress:
        path = fetch(checkpoint, progress)
    if not quiet:
        say(f"converting {path.name}")
    with options.about(str(path)):
        data = _converted(path, checkpoint.architecture, checkpoint.quality, checkpoint.metric, None)
    _keep(data, checkpoint.name, None, False, as_json, quiet)
    with contextlib.suppress(OSError):
        path.unlink()


def _official(architecture: str, quality: int | None, metric: str) -> Checkpoint:
    """The checkpoint to pull. UsageError: there is none, with what there is."""
    found = official.find(architecture, quality, metric)
    if found is not None:
        return found
    there = official.qualities(architecture, metric)
    if there:
        raise UsageError(f"{architecture} has one official {metric} model a quality: -q {there[0]} to {there[-1]}")
    if official.find(architecture, None, metric):
        raise UsageError(f"{architecture} has all qualities in one model; leave -q out")
    raise UsageError(f"there is no official {metric} model of {architecture}; `twc models list` shows what there is")


def _intact(checkpoint: Checkpoint, quiet: bool) -> Stored | None:
    """The stored model of a checkpoint, if it is there and undamaged."""
    stored = store.find(checkpoint.name)
    try:
        if stored is not None:
            store.read(stored)
    except TwcError:
        if not quiet:
            say(f"{checkpoint.name} is at hand, but damaged")
        return None
    return stored


@contextlib.contextmanager
def _progress(checkpoint: Checkpoint, quiet: bool) -> Iterator[Progress | None]:
    """A bar on a terminal, a line elsewhere."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        if not quiet:
            say(f"downloading {checkpoint.url}")
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(checkpoint.file, total=None)
        yield lambda have, total: bar.update(task, completed=have, total=total)


def _architecture(name: str) -> str:
    """The architecture of this name. UsageError, with the near one."""
    if name not in official.ARCHITECTURES:
        close = difflib.get_close_matches(name, official.ARCHITECTURES, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"unknown architecture {shown(name)!r}; {hint}there are: {_architectures()}")
    return name


def _architectures() -> str:
    return ", ".join(official.ARCHITECTURES)


def _read(name: str, quality: int | None) -> tuple[str, str, Path, bytes]:
    """Kind, name, path and bytes of an embedded or stored model, or of a file. UnsupportedError, UnreadableError."""
    entry = _embedded_of(name)
    if entry is not None:
        return "embedded", entry.name, _embedded(entry), entry.read()
    stored = _stored(name, quality)
    if stored is not None:
        return "stored", stored.name, stored.path, store.read(stored)
    if not Path(name).suffix and not os.path.exists(name):  # noqa: PTH110 - Path.exists raises for long names
        _unknown(name, quality)
    with options.about(name):
        return "file", Path(name).stem, Path(name), _bytes_of(name)


def _embedded_of(name: str) -> catalogue.Entry | None:
    wanted = catalogue.read(name)[0] if name == catalogue.DEFAULT else name
    return next((entry for entry in catalogue.EMBEDDED if entry.name == wanted), None)


def _embedded(entry: catalogue.Entry) -> Path:
    """Where an embedded model lies."""
    return Path(str(resources.files("twcodec.models") / "weights" / entry.file))


def _stored(name: str, quality: int | None) -> Stored | None:
    """A stored model by its name, or by its architecture and -q."""
    if quality is not None and name in official.ARCHITECTURES and not official.is_variable(name):
        return store.find(official.name_of(name, quality))
    return store.find(name)


def _unknown(name: str, quality: int | None) -> NoReturn:
    """UnsupportedError: no such model, and what could be done."""
    if not name:
        raise UsageError("an empty model name was given")
    there = official.qualities(name)
    if there and quality is None:
        raise UsageError(f"{name} has one model a quality; add -q {there[0]} to {there[-1]}")
    checkpoint = official.find(name, quality) or official.find(name, None) or official.by_name(name)
    if checkpoint:
        raise UnsupportedError(f"{checkpoint.name} is not at hand; get it with: twc models pull {checkpoint.options}")
    known = [*catalogue.names(), *dict.fromkeys(e.name for e in store.entries()), *official.ARCHITECTURES]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UnsupportedError(f"unknown model {shown(name)!r}; {hint}`twc models list` shows what there is")


def _bytes(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"


def _size(path: Path) -> int:
    """Of a file; 0 if it has just gone away."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
