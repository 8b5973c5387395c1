"""The report's plots: inline SVG that takes the colour and fonts of its page, and the same as PNG files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twcodec.robustness.results import UNDEFENDED, Row, defences, interval, is_noise, mean, number
from twcodec.robustness.summary import strongest
from twcodec.robustness.tables import Condition, condition, conditions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLEAN = "clean"
NOISE = "random noise"
INK = "#010203"
"""Drawn where the page's text colour is meant; no figure uses it otherwise."""
STYLE: Any = {
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "twc",  # the same figures give the same page
    "text.parse_math": False,  # a model may be called $x$
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
COLOURS = ("#3b82c4", "#d1662a", "#2f9e77", "#b065a8", "#b8902a", "#c75a6b", "#5aa9d6", "#7a8b3a")
MARKERS = "osD^vPX*"
SHADES = ("#a9cdea", "#7db2dd", "#5495cd", "#3878b6", "#285f9b")
"""Of eps, small to large. Readable on white and on the page's dark background."""


@dataclass(frozen=True)
class Plot:
    """One plot. svg: an <svg> element, safe to put into a page. condition: for the page's filters; eps is None."""

    title: str
    svg: str
    model: str
    condition: Condition | None = None


def rate_distortion(results: dict[str, Any], folder: Path) -> list[Plot]:
    """A plot for each model and attacked condition: PSNR over bpp, clean solid, attacked dashed, a colour a defence."""
    curves = [curve for curve in results["curves"] if _points(curve)[0]]
    names = defences(results)
    plots: list[Plot] = []
    for model in dict.fromkeys(str(curve.get("model")) for curve in curves):
        of_model = [curve for curve in curves if str(curve.get("model")) == model]
        attacked = dict.fromkeys(str(c.get("condition")) for c in of_model if c.get("condition") != CLEAN)
        for shown in attacked or [CLEAN]:
            drawn = [curve for curve in of_model if curve.get("condition") in (CLEAN, shown)]
            title = f"{model}: {shown}"
            path = folder / f"rd-{len(plots):02d}-{slug(title)}.png"
            plots.append(Plot(title, _render(_curves(drawn, names), title, path, 3.6), model))
    return plots


def excess(results: dict[str, Any], folder: Path) -> list[Plot]:
    """A plot for each model, quality and objective: excess RD loss by defence and eps, under its strongest threat."""
    rows = [row for row in results["attacked"] if mean(row) is not None]
    attacks = [row for row in rows if not is_noise(row)]
    noise = {(*_without_objective(condition(r)), str(r.get("defence"))): mean(r) for r in rows if is_noise(r)}
    names = defences(results)
    plots: list[Plot] = []
    worst = {name: strongest(attacks, name) for name in names}
    names = [name for name in names if worst[name]]
    for model, quality, objective in dict.fromkeys(c[:3] for c in conditions(attacks)):
        cases = [c for c in conditions(attacks) if c[:3] == (model, quality, objective)]
        title = f"{model}{'' if quality is None else f' -q {quality:g}'}: {objective}"
        path = folder / f"excess-{len(plots):02d}-{slug(title)}.png"
        draw = _bars(names, [(c[3], _heights(names, worst, c), _noise(names, noise, c)) for c in cases])
        height = 1.8 + len(names) * (0.16 + 0.13 * len(cases))
        svg = _render(draw, title, path, height)
        plots.append(Plot(title, svg, model, (model, quality, objective, None)))
    return plots


def slug(text: str) -> str:
    """Text as a part of a file name."""
    return re.sub("[^a-z0-9]+", "-", text.lower())[:60].strip("-") or "plot"


def _short(name: str) -> str:
    """A name that leaves room for the axes."""
    return name if len(name) <= 24 else name[:23] + "…"


def _curves(curves: Sequence[Row], names: Sequence[str]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        labelled = set()
        for curve in curves:
            name, clean = str(curve.get("defence")), curve.get("condition") == CLEAN
            bpp, psnr = _points(curve)
            axes.plot(
                bpp,
                psnr,
                linestyle="-" if clean else "--",
                linewidth=1.5,
                color=_colour(name, names),
                marker=MARKERS[names.index(name) % len(MARKERS)],
                markersize=4,
                label="_" if name in labelled else _short(name),
            )
            labelled.add(name)
        axes.set(xlabel="bits a pixel", ylabel="PSNR (dB)")
        axes.grid(color=INK, alpha=0.15)

    return draw


_Bar = tuple[float | None, float, float]
_Series = tuple[float | None, list[_Bar], list[float | None]]


def _bars(names: Sequence[str], series: Sequence[_Series]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        thick = 0.8 / max(len(series), 1)
        noisy = False
        for n, (eps, bars, noise) in enumerate(series):
            places = [i + (n - (len(series) - 1) / 2) * thick for i in range(len(names))]
            known = [(y, *bar) for y, bar in zip(places, bars, strict=True) if bar[0] is not None]
            errors = [[low for *_, low, _ in known], [high for *_, high in known]]
            axes.barh(
                [y for y, *_ in known],
                [height or 0.0 for _, height, *_ in known],
                thick * 0.9,
                xerr=errors,
                color=SHADES[round(n * (len(SHADES) - 1) / max(len(series) - 1, 1)) if len(series) > 1 else 2],
                error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2},
                label="" if eps is None else f"ε {eps:g}/255",
            )
            marks = [(value, y) for value, y in zip(noise, places, strict=True) if value is not None]
            label = "_" if noisy or not marks else NOISE
            noisy = noisy or bool(marks)
            style = {"color": "#f5a742", "edgecolors": INK, "linewidths": 0.7, "marker": "D", "s": 16, "zorder": 4}
            axes.scatter([x for x, _ in marks], [y for _, y in marks], label=label, **style)  # type: ignore[arg-type]
        axes.set_yticks(range(len(names)), [_short(name) for name in names])
        axes.invert_yaxis()
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="excess RD loss (%)")
        axes.grid(axis="x", color=INK, alpha=0.15)
        axes.set_axisbelow(True)

    return draw


def _heights(names: Sequence[str], worst: dict[str, dict[Condition, Row]], case: Condition) -> list[_Bar]:
    """For each defence its excess RD loss in percent, and how far its interval reaches below and above."""
    bars: list[_Bar] = []
    for name in names:
        middle, low, high = interval(worst[name].get(case, {}), "loss_ratio")
        if middle is None:
            bars.append((None, 0.0, 0.0))
            continue
        below = 0.0 if low is None else max(0.0, middle - low)
        above = 0.0 if high is None else max(0.0, high - middle)
        bars.append((100 * (middle - 1), 100 * below, 100 * above))
    return bars


def _noise(names: Sequence[str], noise: dict[Any, float | None], case: Condition) -> list[float | None]:
    found = [noise.get((*_without_objective(case), name)) for name in names]
    return [None if value is None else 100 * (value - 1) for value in found]


def _without_objective(case: Condition) -> tuple[str, float | None, float | None]:
    return case[0], case[1], case[3]


def _points(curve: Row) -> tuple[list[float], list[float]]:
    """bpp and PSNR of a curve's points that have both, by bpp."""
    pairs = [(number(point.get("bpp")), number(point.get("psnr"))) for point in curve["points"]]
    known = sorted((bpp, psnr) for bpp, psnr in pairs if bpp is not None and psnr is not None)
    return [bpp for bpp, _ in known], [psnr for _, psnr in known]


def _colour(name: str, names: Sequence[str]) -> str:
    others = [other for other in names if other != UNDEFENDED]
    return INK if name == UNDEFENDED else COLOURS[others.index(name) % len(COLOURS)]


def _render(draw: Callable[[Axes], None], title: str, png: Path, height: float) -> str:
    """Draw once, as <svg> without a title (the page prints it) and as a PNG file with one."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        draw(axes)
        handles, labels = axes.get_legend_handles_labels()
        if labels:
            order = sorted(range(len(labels)), key=lambda i: labels[i] == NOISE)  # last: it is no size of an attack
            columns = 4 if sum(map(len, labels)) < 40 else 3
            handles, labels = [handles[i] for i in order], [labels[i] for i in order]
            figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9, columnspacing=1.2)
        svg = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(svg, format="svg", transparent=True, metadata=metadata)
        axes.set_title(title, fontsize=10, wrap=True)
        figure.savefig(png, dpi=150, facecolor="white", metadata={"Software": None})
    return _for_page(svg.getvalue(), png.stem)


def _for_page(svg: str, prefix: str) -> str:
    """What makes matplotlib's file an element of a page with many: no prolog, no style sheet, ids of its own.

    Inks become currentColor, so that a plot follows the page into the dark.
    """
    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace(INK, "currentColor")
