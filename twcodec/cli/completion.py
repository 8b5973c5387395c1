"""`twc completion`."""

from __future__ import annotations

import contextlib
import os
import sys

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from twcodec.cli.complete import Items
from twcodec.cli.say import tell

VARIABLE = "_TWC_COMPLETE"
"""By which a shell asks twc what could follow: `bash_complete` and the like, beside COMP_WORDS and COMP_CWORD."""


class _WholeWords(ShellComplete):
    """For click, --model=x is a value; the shell wants to put a whole word in the place of the one that was begun."""

    def get_completions(self, args: list[str], incomplete: str) -> Items:
        """As click's, with the option in front again."""
        found = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if not equals or not option.startswith("-"):
            return found
        return [CompletionItem(f"{option}={item.value}", item.type, item.help) for item in found]


class _Bash(_WholeWords, BashComplete):
    def get_completion_args(self) -> tuple[list[str], str]:
        """As click's, for which --model=x is one word; to bash it is three."""
        args, incomplete = super().get_completion_args()
        return [word for word in args if word != "="], incomplete


class _Zsh(_WholeWords, ZshComplete):
    source_template = ZshComplete.source_template.replace("== loadautofunc ", "== (loadautofunc|shfunc) ")
    """click's, which as a file in fpath completes once, misses once, and completes from then on."""


class _Fish(_WholeWords, FishComplete):
    source_template = FishComplete.source_template.replace('split "," ', 'split -m 1 "," ')
    """click's, which cuts values and help at their first comma."""


_KINDS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


@click.command("completion", short_help="Print a script with which a shell completes twc's options.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script by which SHELL completes commands, options, their values and names of files.

    \b
    eval "$(twc completion bash)"      # in ~/.bashrc
    eval "$(twc completion zsh)"       # in ~/.zshrc, after compinit
    twc completion fish | source       # in ~/.config/fish/config.fish

    Written to a file instead, the script spares each new shell the start of twc; it stays valid with later versions.
    """
    made = _KINDS[shell](click.get_current_context().find_root().command, {}, "twc", VARIABLE)
    tell((made.source_template % made.source_vars()).rstrip("\n"))  # `source` would look for a bash


def answer(root: click.Command) -> bool:
    """Tell a shell what could follow, if one asks: then True.

    Silent where it asks for what nobody knows, and where anything goes wrong: it would stand in the prompt.
    """
    asked = os.environ.get(VARIABLE)
    if not asked:
        return False
    shell, _, what = asked.partition("_")
    if shell in _KINDS and what == "complete":
        with contextlib.suppress(Exception):
            sys.stdout.write(_KINDS[shell](root, {}, "twc", VARIABLE).complete() + "\n")
    return True
