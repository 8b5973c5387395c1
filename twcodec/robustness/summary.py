"""What the figures say, in a few sentences that claim no more than the rows do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from twcodec.robustness.results import UNDEFENDED, Row, defences, interval, is_noise, mean, number
from twcodec.robustness.tables import Condition, condition

Worst = dict[Condition, Row]


def sentences(results: dict[str, Any]) -> list[str]:
    """Undefended damage, what the best defence leaves of it, and what that defence costs on clean pictures."""
    rows = [row for row in results["attacked"] if mean(row) is not None and not is_noise(row)]
    undefended = strongest(rows, UNDEFENDED)
    if not undefended:
        return ["No attack on the undefended codec was measured, so this run says nothing about robustness."]
    out = [_damage(undefended)]
    scale = {row.get("name") for row in results["defences"] if row.get("for_scale")}
    names = [name for name in defences(results) if name != UNDEFENDED and name not in scale]
    fair, left_out = _comparable(rows, names, set(undefended))
    if fair:
        scores = {name: _over(strongest(rows, name), undefended) for name in fair}
        best = min(fair, key=scores.__getitem__)
        out += [_left(best, strongest(rows, best), undefended), *_cost(best, results["clean"])]
    else:
        out.append("No defence was measured under all of these conditions, so none is called the best.")
    if left_out:
        out.append(f"Not ranked, because measured under fewer conditions or threats: {', '.join(left_out)}.")
    return out


def strongest(rows: Iterable[Row], defence: str) -> Worst:
    """For each condition the row of the threat that raises this defence's mean RD loss most."""
    worst: Worst = {}
    for row in rows:
        value = mean(row)
        if str(row.get("defence")) != defence or value is None:
            continue
        known = worst.get(condition(row))
        if known is None or value > _ratio(known):
            worst[condition(row)] = row
    return worst


def _comparable(rows: Sequence[Row], names: Sequence[str], needed: set[Condition]) -> tuple[list[str], list[str]]:
    """Defences measured under every condition, and as adaptively as any; the measured others."""
    adaptive = {name: _adaptive(rows, name) for name in names}
    most = max((len(found & needed) for found in adaptive.values()), default=0)
    fair: list[str] = []
    left_out: list[str] = []
    for name in names:
        found = strongest(rows, name)
        complete = needed <= set(found) and len(adaptive[name] & needed) == most
        if found:
            (fair if complete else left_out).append(name)
    return fair, left_out


def _adaptive(rows: Iterable[Row], name: str) -> set[Condition]:
    """Conditions in which a defence met an attacker who knows it: anything but an attack made for another codec."""
    transferred = ("transfer", "grey", "gray", "black")
    return {
        condition(row)
        for row in rows
        if str(row.get("defence")) == name and not str(row.get("threat")).startswith(transferred)
    }


def _damage(undefended: Worst) -> str:
    values = [_ratio(row) for row in undefended.values()]
    row = max(undefended.values(), key=_ratio)
    if len(values) == 1:
        return f"Undefended, the strongest attack changes the RD loss by {_percent(values[0])} ({_place(row)})."
    return (
        f"Undefended, the strongest attack changes the RD loss by {_percent(_average(values))} on average over "
        f"{len(values)} conditions (model, quality, objective, ε), and by {_percent(max(values))} in the worst of them "
        f"({_place(row)})."
    )


def _left(name: str, found: Worst, undefended: Worst) -> str:
    left, before = (_over(worst, undefended) for worst in (found, undefended))
    threats = ", ".join(dict.fromkeys(str(found[c].get("threat")) for c in undefended))
    clear = sum(_below(found[c], undefended[c]) for c in undefended)
    left_of = f"leaves {_percent(left)} against the strongest threat measured on it ({threats})"
    if left >= before:
        return f"No ranked defence helps on average: {name}, the best of them, {left_of}."
    return (
        f"The best defence by that average, {name}, {left_of}; its interval lies wholly below the undefended one "
        f"in {clear} of {len(undefended)} conditions."
    )


def _cost(name: str, clean: Iterable[Row]) -> list[str]:
    ratios = [mean(row) for row in clean if str(row.get("defence")) == name]
    known = [ratio for ratio in ratios if ratio is not None]
    return [f"On clean pictures {name} changes the RD loss by {_percent(_average(known), 2)}."] if known else []


def _below(row: Row, other: Row) -> bool:
    high, low = interval(row, "loss_ratio")[2], interval(other, "loss_ratio")[1]
    return high is not None and low is not None and high < low


def _place(row: Row) -> str:
    model, quality, objective, eps = condition(row)
    parts = [model, f"-q {quality:g}" if quality is not None else "", f"{objective}, {row.get('threat')}"]
    size = f"ε {eps:g}/255" if number(eps) is not None else ""
    return ", ".join(part for part in (*parts, size) if part)


def _percent(ratio: float, digits: int = 0) -> str:
    return f"{100 * (ratio - 1):+.{digits}f} %".replace("-", "−")


def _ratio(row: Row) -> float:
    """RD loss ratio of a row of `strongest`, which has one."""
    return mean(row) or 0.0


def _over(worst: Worst, places: Iterable[Condition]) -> float:
    return _average(_ratio(worst[place]) for place in places)


def _average(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)
