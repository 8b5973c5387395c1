"""Rows of results.json arranged as the report's tables: conditions, threats in a condition, a cell for each defence."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twcodec.robustness.results import Row, interval, number

DASH = "–"
Condition = tuple[str, float | None, str, float | None]
"""Model, quality, objective, eps."""


@dataclass(frozen=True)
class Metric:
    """A figure that the large table can show.

    steps: where the shades of a cell begin, in the direction in which the figure gets worse: that of `sign`. May be
    empty: then a cell has no shade.
    """

    key: str
    label: str
    form: str
    steps: tuple[float, ...]
    sign: int = 1

    def text(self, value: float | None) -> str:
        """Value as it is printed, with a real minus sign."""
        return DASH if value is None else self.form.format(value).replace("-", "−")

    def severity(self, value: float | None) -> int:
        """0 (harmless) to 5."""
        return 0 if value is None else bisect_right(self.steps, self.sign * value)


_RATIO = (1.02, 1.1, 1.25, 1.5, 2.0)
_DB = (0.1, 0.5, 1.0, 2.0, 4.0)
METRICS = (
    Metric("loss_ratio", "RD loss ratio", "{:.2f}", _RATIO),
    Metric("bpp_ratio", "bpp ratio", "{:.2f}", _RATIO),
    Metric("delta_psnr", "ΔPSNR against the encoder's input (dB)", "{:+.2f}", _DB, -1),
    Metric("delta_psnr_source", "ΔPSNR against the clean source (dB)", "{:+.2f}", _DB, -1),
    Metric("vi", "vulnerability index VI (dB)", "{:+.2f}", (0.0, 2.0, 4.0, 7.0, 10.0)),
    Metric("worst_loss_ratio", "worst RD loss ratio", "{:.2f}", _RATIO),
    Metric("delta_ms_ssim", "ΔMS-SSIM", "{:+.4f}", (0.001, 0.003, 0.01, 0.03, 0.1), -1),
    Metric("transformed_share", "share of pictures transformed", "{:.2f}", ()),
    Metric("guard_share", "share of pictures left to the guard", "{:.2f}", ()),
    Metric("encode_ms", "encode (ms)", "{:.0f}", ()),
    Metric("decode_ms", "decode (ms)", "{:.0f}", ()),
)


@dataclass(frozen=True)
class Figure:
    """A metric's figure in a cell: printed mean, printed interval (may be empty), shade."""

    metric: str
    text: str
    interval: str
    severity: int


@dataclass(frozen=True)
class Line:
    """One threat. cells: for each defence its row, or None where it was not measured."""

    threat: str
    attack: str
    cells: tuple[Row | None, ...]


@dataclass(frozen=True)
class Group:
    """The lines of one condition."""

    condition: Condition
    lines: tuple[Line, ...]


def condition(row: Row) -> Condition:
    """Under which condition a row was measured. Noise has no objective and stands under its own name."""
    return (
        str(row.get("model")),
        number(row.get("quality")),
        str(row.get("objective") or row.get("attack")),
        number(row.get("eps")),
    )


def conditions(rows: Iterable[Row]) -> list[Condition]:
    """Every condition once: models and objectives in the order of the rows, qualities and eps ascending."""
    found = list(dict.fromkeys(map(condition, rows)))
    models, objectives = ({c[i]: n for n, c in reversed(list(enumerate(found)))} for i in (0, 2))
    return sorted(found, key=lambda c: (models[c[0]], _rank(c[1]), objectives[c[2]], _rank(c[3])))


def groups(rows: Sequence[Row], names: Sequence[str]) -> list[Group]:
    """Attacked (or removed) rows as threat x defence, for each condition."""
    sorted_out: dict[Condition, dict[tuple[str, str], dict[str, Row]]] = {}
    for row in rows:
        threat = str(row.get("threat")), str(row.get("attack") or "")
        sorted_out.setdefault(condition(row), {}).setdefault(threat, {})[str(row.get("defence"))] = row
    return [
        Group(
            c,
            tuple(Line(*threat, tuple(map(cells.get, names))) for threat, cells in sorted_out[c].items()),
        )
        for c in conditions(rows)
    ]


def cell(row: Row) -> list[Figure]:
    """Every metric of an attacked row, printed."""
    out = []
    for metric in METRICS:
        middle, low, high = interval(row, metric.key)
        both = low is not None and high is not None
        span = f"{metric.text(low)} to {metric.text(high)}" if both else ""
        out.append(Figure(metric.key, metric.text(middle), span, metric.severity(middle)))
    return out


def _rank(value: float | None) -> float:
    return -1.0 if value is None else value
