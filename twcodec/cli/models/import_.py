"""`twc models import`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from twcodec.cli import complete, options
from twcodec.cli.models.arguments import ARCHITECTURES, check_architecture, metric, quality
from twcodec.cli.models.keep import converted, keep, loadable
from twcodec.cli.models.lookup import bytes_of
from twcodec.cli.say import say, shown
from twcodec.errors import UsageError
from twcodec.imaging.files import check_output
from twcodec.models import official, store
from twcodec.models.file import MOST_LAMBDA


@click.command("import")
@click.argument("source", metavar="FILE", type=options.FILE)
@click.option(
    "--arch", metavar="ARCH", shell_complete=complete.architectures, help=f"Of a checkpoint: {ARCHITECTURES}."
)
@quality("CompressAI's quality that the checkpoint was trained for.")
@metric
@click.option("--lambda", "lmbda", type=float, help="Trade-off it was trained with.  [default: CompressAI's for -q]")
@click.option("--name", help="Store it under this name.  [default: ARCH-QUALITY, or FILE's name]")
@click.option("-o", "--output", "target", metavar="OUT", type=options.FILE, help="Write the model file to OUT instead.")
@options.apply(options.force, options.as_json, options.quiet)
def command(
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

    \b
    twc models import mbt2018-4-456e2af9.pth.tar --arch mbt2018 -q 4
    twc models import mine.pth.tar --arch cheng2020-anchor --lambda 0.02 --name mine
    twc models import run/model.safetensors --name night

    FILE may also be a model file of twc (.safetensors), which is checked and stored as it is, without --arch.
    """
    if target is not None and name is not None:
        raise UsageError("--name is for the store, and with -o nothing is stored; leave one of them out")
    with options.about(source):
        ready = _is_model_file(source, arch is None)
    data = b""
    own: str | None
    if arch is None:
        _check_file(source, ready, plain=(quality, metric, lmbda) == (None, None, None))
        with options.about(source):
            data = bytes_of(source)
            own, kind = _own_name(source), _kind(store.header_of(data))
    else:
        _check_checkpoint(source, ready, check_architecture(arch), quality, metric or "mse", lmbda)
        known = quality is not None or official.is_variable(arch)
        own = kind = official.name_of(arch, quality, metric or "mse") if known else None
    called = "" if target is not None else _check_name(own if name is None else name, kind)
    if target is not None:
        with options.about(source, target):
            check_output(target, force, source)
    if not quiet and arch is not None:
        say(f"{shown(source)}: converting")
    with options.about(source):
        data = loadable(data) if arch is None else converted(source, arch, quality, metric or "mse", lmbda)
    keep(data, called, target, force, as_json, quiet)


def _is_model_file(source: str, expected: bool) -> bool:
    """Whether it looks like safetensors, or should and says so. UnreadableError, LimitError: as `bytes_of`."""
    return bytes_of(source, 9)[8:] == b"{" or (expected and source.endswith(".safetensors"))


def _check_file(source: str, ready: bool, plain: bool) -> None:
    """UsageError: the options do not fit a model file, or it is none. plain: none of those of a checkpoint is there."""
    if not ready:
        raise UsageError(f"{shown(source)} is no model file of twc; a checkpoint needs --arch: {ARCHITECTURES}")
    if not plain:
        raise UsageError(f"{shown(source)} is a model file, which says itself what it is; leave -q and the like out")


def _own_name(source: str) -> str:
    """The file's, without the digest of one that was copied from a store."""
    stem = Path(source).stem
    head, _, tail = stem.rpartition("-")
    return head if head and len(tail) == 32 and not set(tail) - set("0123456789abcdef") else stem


def _kind(header: store.Header) -> str | None:
    """What the store calls a model of this architecture, quality and metric. None: of no published architecture."""
    if header.family not in official.ARCHITECTURES:
        return None
    provenance, quality = header.metadata.get("provenance"), header.metadata.get("quality")
    metric = provenance.get("metric") if isinstance(provenance, dict) else None
    return official.name_of(header.family, quality, "mse" if metric is None else str(metric))


_KEPT = re.compile(rf"({'|'.join(official.ARCHITECTURES)})(-[1-{official.HIGHEST}])?(-ms-ssim)?")


def _check_name(name: str | None, kind: str | None) -> str:
    """The name, if a model of this kind may have it. UsageError.

    `--model mbt2018 -q 4` is the model mbt2018-4, which had better be one.
    """
    if name is None:
        raise UsageError("a model without -q has no name of its own; give one with --name")
    if name != kind and _KEPT.fullmatch(name):
        raise UsageError(f"{name} is a name that twc keeps for models that are just that; give another with --name")
    return store.check_name(name)


def _check_checkpoint(
    source: str, ready: bool, architecture: str, quality: int | None, metric: str, lmbda: float | None
) -> None:
    """UsageError: the options do not fit a checkpoint of this architecture, or it is none."""
    if ready:
        raise UsageError(f"{shown(source)} is a model file already; leave --arch out")
    variable = official.is_variable(architecture)
    if variable and (quality, lmbda) != (None, None):
        raise UsageError(f"{architecture} has all qualities in one model; leave -q and --lambda out")
    if not variable and (quality, lmbda) == (None, None):
        raise UsageError(f"-q or --lambda is needed: which trade-off this {architecture} was trained for")
    if lmbda is not None and metric != "mse":
        raise UsageError("--lambda is a trade-off of MSE; that of a model trained for MS-SSIM follows from -q")
    if lmbda is not None and not 0 < lmbda < MOST_LAMBDA:
        raise UsageError(f"--lambda {lmbda} is no trade-off; it is a number over 0 and under {MOST_LAMBDA:g}")
