"""From the rows of an evaluation to its figures: means over pictures, with bootstrap intervals, and sanity checks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]
Group = dict[str, list[Row]]
"""Rows by picture: one for each draw."""

_CELL = ("model", "quality", "attack", "objective", "threat", "eps", "defence")
_RESAMPLES = 1000


def figures(rows: Iterable[Row]) -> dict[str, Any]:
    """The lists of results.json that follow from rows: clean, attacked, curves, bd_rate, removed, sanity."""
    cells: dict[tuple[Any, ...], Group] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[tuple(row[name] for name in _CELL)][row["picture"]].append(row)
    clean = {(c[0], c[1], c[6]): group for c, group in cells.items() if not c[2]}
    clean_rows = [_clean_row(key, group, clean.get((key[0], key[1], "none"))) for key, group in clean.items()]
    attacked = [
        _attacked_row(cell, group, clean[cell[0], cell[1], cell[6]])
        for cell, group in cells.items()
        if cell[2] and (cell[0], cell[1], cell[6]) in clean
    ]
    curves = _curves(cells)
    return {
        "clean": clean_rows,
        "attacked": attacked,
        "curves": curves,
        "bd_rate": _bd_rates(curves),
        "removed": _removed(attacked),
        "sanity": _sanity(cells, attacked),
    }


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and its 95 % bootstrap interval over pictures, with a fixed seed."""
    found = np.asarray(values, np.float64)
    picks = np.random.default_rng(0).integers(0, len(found), (_RESAMPLES, len(found)))
    low, high = np.quantile(found[picks].mean(axis=1), (0.025, 0.975))
    return {"mean": float(found.mean()), "low": float(low), "high": float(high)}


def _mean(group: Group, name: str) -> float:
    """Over draws, then over pictures."""
    return float(np.mean([np.mean([row[name] for row in draws]) for draws in group.values()]))


def _compared(group: Group, clean: Group, figure: Callable[[Row, Row], float]) -> list[float]:
    """A figure of each picture, averaged over draws, beside the same defence's first clean file of that picture."""
    return [
        float(np.mean([figure(row, base) for row in draws for base in clean[name]]))
        for name, draws in group.items()
        if name in clean
    ]


def _psnr(mse: float) -> float:
    return 10 * math.log10(255**2 / max(mse, 1e-3))


def _clean_row(key: tuple[Any, ...], group: Group, undefended: Group | None) -> Row:
    model, quality, defence = key
    row = {"model": model, "quality": quality, "defence": defence, "psnr": _psnr_of(group), **_costs(group)}
    row |= {name: _mean(group, name) for name in ("bpp", "ms_ssim", "loss")}
    if undefended:
        row["loss_ratio"] = interval(_compared(group, undefended, lambda a, b: a["loss"] / b["loss"]))
    return row


def _psnr_of(group: Group) -> float:
    return float(np.mean([np.mean([_psnr(row["mse"]) for row in draws]) for draws in group.values()]))


def _costs(group: Group) -> Row:
    times = {name: float(np.median([row[name] for d in group.values() for row in d])) for name in _TIMES}
    return {"transformed_share": _mean(group, "transformed"), "guard_share": _mean(group, "guarded"), **times}


_TIMES = ("encode_ms", "decode_ms")


def _attacked_row(cell: tuple[Any, ...], group: Group, clean: Group) -> Row:
    loss = _compared(group, clean, lambda a, b: a["loss"] / b["loss"])
    worst = max(row["loss"] / min(b["loss"] for b in clean[name]) for name, draws in group.items() for row in draws)
    return {
        **dict(zip(_CELL, cell, strict=True)),
        "pictures": len(group),
        "draws": max(len(draws) for draws in group.values()),
        "loss_ratio": interval(loss),
        "worst_loss_ratio": worst,
        "bpp_ratio": interval(_compared(group, clean, lambda a, b: a["bpp"] / b["bpp"])),
        "delta_psnr": interval(_compared(group, clean, lambda a, b: _psnr(a["mse"]) - _psnr(b["mse"]))),
        "delta_psnr_source": interval(_compared(group, clean, lambda a, b: _psnr(a["mse_source"]) - _psnr(b["mse"]))),
        "delta_ms_ssim": interval(_compared(group, clean, lambda a, b: a["ms_ssim"] - b["ms_ssim"])),
        "vi": interval([float(np.mean([_vi(row) for row in draws])) for draws in group.values()]),
        **_costs(group),
    }


def _vi(row: Row) -> float:
    """Chen and Ma's vulnerability index, dB: the error that comes out, over the change that went in."""
    return 10 * math.log10(max(row["mse_source"], 1e-3) / max(row["mse_in"], 1e-3))


def _curves(cells: dict[tuple[Any, ...], Group]) -> list[Row]:
    curves: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for cell, group in sorted(cells.items(), key=lambda item: item[0][1]):
        model, quality, attack, objective, threat, eps, defence = cell
        said = f"{objective or attack}, {threat}, eps {eps:g}" if attack else "clean"
        point = {"quality": quality, "bpp": _mean(group, "bpp"), "ms_ssim": _mean(group, "ms_ssim")}
        curves[model, defence, said].append({**point, "psnr": _psnr_of(group)})
    return [
        {"model": model, "defence": defence, "condition": condition, "points": points}
        for (model, defence, condition), points in curves.items()
    ]


_FOR_BD_RATE = 4
"""Points that a curve needs before it is compared."""


def _bd_rates(curves: list[Row]) -> list[Row]:
    """BD-rate of each defence against none, in the same condition, where there are enough qualities."""
    known = {(c["model"], c["condition"]): c["points"] for c in curves if c["defence"] == "none"}
    out = []
    for curve in curves:
        base, points = known.get((curve["model"], curve["condition"]), []), curve["points"]
        if curve["defence"] == "none" or min(len(base), len(points)) < _FOR_BD_RATE:
            continue
        from bjontegaard import bd_rate

        axes = [[point[axis] for point in of] for of in (base, points) for axis in ("bpp", "psnr")]
        percent = float(bd_rate(*axes, method="akima"))
        out.append({**{k: curve[k] for k in ("model", "defence", "condition")}, "percent": percent})
    return out


def _removed(attacked: list[Row]) -> list[Row]:
    """The share of the undefended excess loss that is gone, in the same cell."""
    names = ("model", "quality", "objective", "threat", "eps")
    excess = {
        tuple(row[name] for name in (*names, "defence")): row["loss_ratio"]["mean"] - 1
        for row in attacked
        if row["threat"] != "none"
    }
    out = []
    for (*cell, defence), left in excess.items():
        undefended = excess.get((*cell, "none"), 0.0)
        if defence != "none" and undefended > 0:
            out.append({**dict(zip(names, cell, strict=True)), "defence": defence, "share": 1 - left / undefended})
    return sorted(out, key=lambda row: (row["threat"] != "adaptive", row["threat"]))


def _sanity(cells: dict[tuple[Any, ...], Group], attacked: list[Row]) -> list[Row]:
    """What must hold if the attacks attack and the defences defend. What cannot be checked with these rows is left."""
    found = {tuple(row[n] for n in _CELL): row for row in attacked}
    checks: dict[str, list[str]] = defaultdict(list)
    for cell, row in found.items():
        model, quality, attack, objective, threat, eps, defence = cell
        here, excess = f"{model} -q {quality:g} {objective} {threat} {eps:g} {defence}", row["loss_ratio"]["mean"]
        control = found.get((model, quality, "noise", "", "none", eps, defence))
        if threat == "transfer" and defence == "none" and control and objective in ("rate", "rd"):
            figure = "bpp_ratio" if objective == "rate" else "loss_ratio"
            _check(checks, "attacks are stronger than noise", here, row[figure]["mean"] > control[figure]["mean"])
        smaller = [e for e in {c[5] for c in found} if e < eps and (*cell[:5], e, defence) in found]
        if smaller and threat != "none" and defence == "none":
            weaker = (*cell[:5], max(smaller), defence)
            before = found[weaker]["loss_ratio"]["mean"]
            _check(checks, "the loss grows with eps", here, excess > before)
        other = found.get((model, quality, attack, objective, "transfer", eps, defence))
        if threat == "adaptive" and other:
            figure = "bpp_ratio" if objective == "rate" else "loss_ratio"
            enough = row[figure]["mean"] >= other[figure]["mean"] * (1 - _NOISE)
            _check(checks, "adaptive attacks are at least as strong as transferred ones", here, enough)
    for cell, group in cells.items():
        plain = cells.get((*cell[:6], "none"))
        if cell[6] not in _NEVER_WORSE or plain is None or cell[4] in ("white", "adaptive"):
            continue  # those give each defence its own pictures
        for name, draws in group.items():
            better = name not in plain or max(r["loss"] for r in draws) <= plain[name][0]["loss"] * (1 + 1e-9)
            _check(checks, "two-way files are never worse than one-way files, picture by picture", name, better)
    return [
        {"name": name, "holds": not failed, "detail": "; ".join(failed[:5]) or "everywhere"}
        for name, failed in checks.items()
    ]


_NOISE = 0.01
"""Share by which an adaptive attack's ratio may fall below a transferred one's: both searches end somewhere."""

_NEVER_WORSE = ("two-way", "4-way", "8-way", "two-way shift", "16-way shift")


def _check(checks: dict[str, list[str]], name: str, where: str, holds: bool) -> None:
    checks[name] += [] if holds else [where]
