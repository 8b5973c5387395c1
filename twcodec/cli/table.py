"""Rows of words in aligned columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> list[str]:
    """Lines, two spaces between the columns. The first row are the titles; columns of titles in `right` end flush."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    flush = [title in right for title in rows[0]]
    return [
        "  ".join(
            cell.rjust(width) if at_end else cell.ljust(width)
            for cell, width, at_end in zip(row, widths, flush, strict=True)
        ).rstrip()
        for row in rows
    ]
