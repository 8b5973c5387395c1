"""Groups of commands that are imported only when they are called."""

from __future__ import annotations

import difflib
import importlib
import keyword
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem


class LazyGroup(click.Group):
    """A group that knows its commands' names and summaries without importing them."""

    def __init__(self, *args: Any, package: str, summaries: Mapping[str, str], **more: Any) -> None:
        """package: where each command has a module of its name ("import_" for "import") with the attribute `command`.

        summaries: by name, in the order in which they are shown.
        """
        super().__init__(*args, **more)
        self._package, self._summaries = package, summaries

    @property
    def summaries(self) -> Mapping[str, str]:
        """What each command does, by its name."""
        return self._summaries

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The names, in the order in which they are shown."""
        return list(self._summaries)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The command `name`, imported now."""
        if name not in self._summaries:
            return None
        module = f"{self._package}.{name}{'_' * keyword.iskeyword(name)}"
        command: click.Command = importlib.import_module(module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with a suggestion for a typo."""
        meant = None if args[0] in self._summaries or args[0].startswith("-") else self.meant(args[0])
        if meant:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {meant!r}?")
        return super().resolve_command(ctx, args)

    def meant(self, name: str) -> str | None:
        """What was probably meant by a name that no command has."""
        return next(iter(difflib.get_close_matches(name, self._summaries, n=1)), None)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """The commands that a shell can offer, without importing one, and the group's own options."""
        names = [name for name in self._summaries if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self._summaries[name]) for name in names]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help page."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries.items()))
