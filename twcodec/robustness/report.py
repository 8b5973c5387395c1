"""The report: results.json of an evaluation as one page for people, a table for programs, and the plots as files."""

from __future__ import annotations

import base64
import csv
import importlib.util
import io
from pathlib import Path
from typing import Any

from twcodec.errors import MissingError, OutputError
from twcodec.robustness import tables
from twcodec.robustness.results import INTERVALS, UNDEFENDED, Row, defences, interval, number, read

PAGE, TABLE, PLOTS = "report.html", "table.csv", "plots"
_KEYS = ("model", "quality", "attack", "objective", "threat", "eps", "defence", "pictures", "draws")
_PLAIN = ("worst_loss_ratio", "transformed_share", "guard_share", "encode_ms", "decode_ms")
COLUMNS = (*_KEYS, *(name for key in INTERVALS for name in (key, f"{key}_low", f"{key}_high")), *_PLAIN)
"""Of table.csv, one line an attacked row; what is not known is left empty."""
_PNG = b"\x89PNG\r\n\x1a\n"


def write_report(folder: Path) -> Path:
    """Make report.html, table.csv and plots/*.png from folder/results.json; returns the page's path.

    Errors: UnreadableError: no results.json of version 1. MissingError: no matplotlib or jinja2. OutputError.
    """
    results = read(folder)
    for name in ("matplotlib", "jinja2"):
        if not _is_there(name):
            raise MissingError(f"{name} is missing, which draws the report; get it with: pip install 'twcodec[eval]'")
    try:
        (folder / PLOTS).mkdir(exist_ok=True)
        (folder / TABLE).write_text(table(results["attacked"]), encoding="utf-8", newline="")
        (folder / PAGE).write_text(page(results, folder), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"the report in {folder} cannot be written: {error.strerror or error}") from None
    return folder / PAGE


def table(attacked: list[Row]) -> str:
    """The attacked rows as CSV under COLUMNS."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in attacked:
        spans = {key: interval(row, key) for key in INTERVALS}
        flat = {key + end: span[i] for key, span in spans.items() for i, end in enumerate(("", "_low", "_high"))}
        writer.writerow({**row, **flat})
    return out.getvalue()


def page(results: dict[str, Any], folder: Path) -> str:
    """The page, with the plots and pictures in it. Its plots are also left in folder/plots."""
    import jinja2
    from markupsafe import Markup

    from twcodec.robustness import plots
    from twcodec.robustness.summary import sentences

    names = defences(results)
    others = [name for name in names if name != UNDEFENDED]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        fixed=fixed, percent=percent, plain=plain, interval=interval, svg=lambda plot: Markup(plot.svg)
    )
    return environment.get_template("page.html").render(
        results,
        names=names,
        others=others,
        summary=sentences(results),
        failed=[check for check in results["sanity"] if check.get("holds") is not True],
        metrics=tables.METRICS,
        cell=tables.cell,
        attacked_groups=tables.groups(results["attacked"], names),
        removed_groups=tables.groups(results["removed"], others),
        choices=_choices(results),
        curve_plots=plots.rate_distortion(results, folder / PLOTS),
        bar_plots=plots.excess(results, folder / PLOTS),
        pictures=[_pictures(example, folder) for example in results["examples"]],
    )


def fixed(value: object, digits: int = 2, sign: str = "") -> str:
    """A number with so many digits and a real minus sign; a dash for what is no number."""
    known = number(value)
    return tables.DASH if known is None else f"{known:{sign}.{digits}f}".replace("-", "−")


def plain(value: object) -> str:
    """A setting as it was typed: 6 for 6.0; a dash for null."""
    known = number(value)
    return f"{known:g}" if known is not None else tables.DASH if value is None else str(value)


def percent(value: object, digits: int = 0, sign: str = "") -> str:
    """A share as a percentage."""
    known = number(value)
    return tables.DASH if known is None else f"{fixed(100 * known, digits, sign)} %"


def _choices(results: dict[str, Any]) -> list[tuple[str, str, list[Any]]]:
    """The filters of the attacked figures: key, label, values."""
    found = tables.conditions(results["attacked"] + results["removed"])
    labels = (("model", "Model"), ("quality", "Quality"), ("objective", "Objective"), ("eps", "ε (of 255)"))
    columns = [list(dict.fromkeys(case[i] for case in found)) for i in range(len(labels))]
    for i in (1, 3):
        columns[i].sort(key=lambda value: -1.0 if value is None else value)
    return [(key, label, values) for (key, label), values in zip(labels, columns, strict=True)]


def _pictures(example: Row, folder: Path) -> dict[str, Any]:
    """An example's title and pictures: name, data URI (None if the file is not there), and the figures known of it."""
    shown = [{"name": "original", "uri": data_uri(folder, example.get("original"))}]
    shown.append({"name": "attacked", "uri": data_uri(folder, example.get("attacked"))})
    for row in example["shown"]:
        name = f"reconstruction, defence {row.get('defence')}"
        shown.append({**row, "name": name, "uri": data_uri(folder, row.get("reconstruction"))})
    return {"title": example.get("title"), "shown": shown}


def data_uri(folder: Path, name: object) -> str | None:
    """A PNG file of the folder as a data URI; None where it is not in the folder, or no PNG."""
    if not isinstance(name, str):
        return None
    try:
        path = (folder / name).resolve()
        data = path.read_bytes() if path.is_relative_to(folder.resolve()) else b""
    except (OSError, ValueError, RuntimeError):  # a name with a zero byte; a link that leads to itself
        return None
    return f"data:image/png;base64,{base64.b64encode(data).decode()}" if data.startswith(_PNG) else None


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # None in sys.modules raises ValueError
        return False
