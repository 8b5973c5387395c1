"""The table of `twc encode --report`: what each branch would have cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from twcodec.cli.say import say
from twcodec.cli.table import aligned

if TYPE_CHECKING:
    from twcodec.codec.report import BranchReport, Report

_GUARD = "guard"
"""As `codec.report` calls it, which imports torch."""

_TITLES = ("", "branch", "seed", "parameters", "estimate", "coded", "PSNR", "loss")


option = click.option(
    "--report", "shows_branches", is_flag=True, help="Show on standard error what each branch would have cost, as -v."
)


def show(report: Report) -> None:
    """The table, on standard error."""
    for line in table(report):
        say(line)


def table(report: Report) -> list[str]:
    """Its lines, the titles first; the branch in the file has a star."""
    return aligned([_TITLES, *map(_row, report.branches)], right="seed estimate coded PSNR loss".split())


def name(branch: BranchReport) -> str:
    """The branch's transform, as it is shown."""
    return "guard (AVIF)" if branch.transform == _GUARD else branch.transform


def _row(branch: BranchReport) -> tuple[str, ...]:
    plain = branch.transform in (_GUARD, "identity")
    return (
        "*" if branch.chosen else "",
        name(branch),
        "-" if plain else str(branch.seed),
        drawn(branch.parameters) or "-",
        f"{branch.estimated_bytes:.0f}",
        "-" if branch.payload_bytes is None else str(branch.payload_bytes),
        f"{branch.psnr:.2f}",
        f"{branch.loss:.5f}",
    )


def drawn(parameters: dict[str, int | bool]) -> str:
    """What was drawn, in words: "flip, quarter turns 1"."""
    parts = [(key.replace("_", " "), value) for key, value in parameters.items() if value]
    return ", ".join(key if value is True else f"{key} {value}" for key, value in parts)
