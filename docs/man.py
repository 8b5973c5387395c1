"""Manual pages of all commands, made from what `--help` shows: python docs/man.py [FOLDER]  (build/man)."""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from twcodec import __version__
from twcodec.cli.exit_codes import MEANINGS
from twcodec.cli.main import twc

ENVIRONMENT = {
    "TWC_MODEL_DIR": "The folder of models that were pulled or imported.",
    "TWC_MODEL_URL": "A mirror of CompressAI's official checkpoints, for twc models pull.",
    "TWC_DEBUG": "Internal errors show a traceback.",
    "NO_COLOR": "Not empty: no colour, unless --color asks for it.",
}
"""Variables that belong to no option; those of options are found at them."""

Walk = Iterator[tuple[tuple[str, ...], click.Command, click.Context]]


def pages(root: click.Command = twc) -> dict[str, str]:
    """The text of every page, by the name of its file."""
    return {f"{'-'.join(path)}.1": page(path, command, context) for path, command, context in walk(root)}


def walk(command: click.Command, parent: click.Context | None = None, name: str = "twc") -> Walk:
    """A command and all below it, each with its path and a context to ask for its parameters."""
    context = click.Context(command, parent=parent, info_name=name, **command.context_settings)
    yield tuple(context.command_path.split()), command, context
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None, child
            yield from walk(found, context, child)


def page(path: tuple[str, ...], command: click.Command, context: click.Context) -> str:
    """One page, as roff in the macros of man(7)."""
    examples, paragraphs = told(command)
    below = list(commands(path, command, context)) if isinstance(command, click.Group) else []
    parts = [
        f'.TH "{"-".join(path).upper()}" "1" "{date()}" "twc {__version__}" "twc manual"',
        f".SH NAME\n{plain('-'.join(path))} \\- {plain(summary(path, context))}",
        f".SH SYNOPSIS\n.B {plain(' '.join(path))}\n{plain(' '.join(command.collect_usage_pieces(context)))}",
        ".SH DESCRIPTION\n" + "\n.PP\n".join(map(plain, paragraphs)),
        ".SH EXAMPLES\n.nf\n" + plain(examples) + "\n.fi",
        ".SH OPTIONS\n" + "\n".join(options(command, context)),
        *([".SH COMMANDS\n" + "\n".join(below)] if below else []),
        ".SH EXIT STATUS\n" + "\n".join(term(str(code), meaning) for code, meaning in MEANINGS.items()),
        ".SH ENVIRONMENT\n" + "\n".join(environment(command)),
        ".SH SEE ALSO\n" + see_also(path, command, context),
    ]
    return "\n".join(parts) + "\n"


def date() -> str:
    """Of today, or as reproducible builds want it."""
    return time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))


def told(command: click.Command) -> tuple[str, list[str]]:
    r"""The examples of a docstring, which follow a "\b", and its paragraphs, each on one line."""
    blocks = inspect.cleandoc(command.help or "").split("\n\n")
    examples = [block.removeprefix("\b\n") for block in blocks if block.startswith("\b")]
    return "\n".join(examples), [" ".join(block.split()) for block in blocks if not block.startswith("\b")]


def summary(path: tuple[str, ...], context: click.Context) -> str:
    """Without the full stop, as NAME wants it."""
    parent = context.parent.command if context.parent else None
    text = "a learned image codec for the command line"
    if isinstance(parent, click.Group):
        text = dict(parent.summaries)[path[-1]]  # type: ignore[attr-defined]  # all groups are LazyGroup
    return text[0].lower() + text[1:].rstrip(".")


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    """A term for each option."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            yield term(*record)


def commands(path: tuple[str, ...], group: click.Group, context: click.Context) -> Iterator[str]:
    """A term for each command of a group."""
    for name in group.list_commands(context):
        yield term(f"{'-'.join([*path, name])}(1)", dict(group.summaries)[name])  # type: ignore[attr-defined]


def environment(command: click.Command) -> Iterator[str]:
    """A term for each variable that the command or all of twc look at."""
    for parameter in command.params:
        if isinstance(parameter.envvar, str):
            yield term(parameter.envvar, f"As {parameter.opts[0]}, which is stronger.")
    for name, meaning in ENVIRONMENT.items():
        yield term(name, meaning)


def see_also(path: tuple[str, ...], command: click.Command, context: click.Context) -> str:
    """The page above, those beside, and those below."""
    parent = context.parent
    near = [] if parent is None else ["-".join(path[:-1])]
    if parent is not None and isinstance(parent.command, click.Group):
        near += ["-".join([*path[:-1], name]) for name in parent.command.list_commands(parent) if name != path[-1]]
    if isinstance(command, click.Group):
        near += ["-".join([*path, name]) for name in command.list_commands(context)]
    return ",\n".join(f".BR {plain(name)} (1)" for name in near).replace(",\n", " ,\n")


def term(name: str, text: str) -> str:
    """A tagged paragraph."""
    return f".TP\n.B {plain(name)}\n{plain(' '.join(text.split()))}"


def plain(text: str) -> str:
    """Text as roff prints it: no line is a request, hyphens can be copied into a shell."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    escaped = escaped.replace("~", "\\(ti").replace("^", "\\(ha").replace('"', "\\(dq")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.split("\n"))


def main() -> None:
    """Write all pages."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/man")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
        print(folder / name)


if __name__ == "__main__":
    main()
