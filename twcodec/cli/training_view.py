"""What `twc train` shows: a live table on a terminal, plain lines elsewhere, JSON when asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twcodec.cli.say import say, tell

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from twcodec.training.evaluation import Point


class TrainingView:
    """A `training.session.View`. Talk goes to standard error, JSON to standard output."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self._json, self._quiet = as_json, quiet
        self._live: Live | None = None
        self._status, self._points, self._step = "starting", list[Any](), 0

    def __enter__(self) -> TrainingView:
        if not self._json and not self._quiet and sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(self._table(), console=Console(stderr=True), refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """A line of talk."""
        if self._json:
            tell(json.dumps({"event": "note", "text": line}))
        elif self._live:
            self._status = line
            self._live.update(self._table())
            self._live.console.print(line, highlight=False, markup=False)
        elif not self._quiet:
            say(line)

    def stepped(self, line: dict[str, float]) -> None:
        """Means over the last steps."""
        if self._json:
            tell(json.dumps({"event": "step", **line}))
            return
        minutes = line["seconds"] / 60
        loss, bpp, db = line["loss"], line["bpp"], line["psnr"]
        self._status = f"step {line['step']:.0f}, {minutes:.1f} min: loss {loss:.4f}, {bpp:.3f} bpp, {db:.2f} dB"
        self._show(self._status)

    def evaluated(self, step: int, points: Sequence[Point]) -> None:
        """RD points on held-out pictures."""
        if self._json:
            tell(json.dumps({"event": "evaluation", "step": step, "points": [vars(p) for p in points]}))
            return
        self._points, self._step = list(points), step
        shown = "  ".join(f"q{p.quality} {p.bpp:.3f} bpp {p.psnr:.2f} dB" for p in points)
        self._show(f"held out at step {step}: {shown}")

    def _show(self, line: str) -> None:
        if self._live:
            self._live.update(self._table())
        elif not self._quiet:
            say(line)

    def _table(self) -> Table:
        from rich.table import Table

        title = f"held-out pictures at step {self._step}" if self._points else "no evaluation yet"
        table = Table("quality", "bits a pixel", "PSNR (dB)", "loss", title=title, caption=self._status)
        for p in self._points:
            table.add_row(str(p.quality), f"{p.bpp:.4f}", f"{p.psnr:.3f}", f"{p.loss:.4f}")
        return table
