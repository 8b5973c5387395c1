"""results.json as `twc evaluate` leaves it: read, checked for its outline, its gaps left as gaps."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from twcodec.errors import UnreadableError

RESULTS = "results.json"
VERSION = 1
UNDEFENDED = "none"
INTERVALS = ("bpp_ratio", "loss_ratio", "delta_psnr", "delta_psnr_source", "delta_ms_ssim", "vi")
"""Figures of an attacked row that are means with an interval."""

Row = dict[str, Any]
_LISTS = ("models", "sanity", "defences", "curves", "bd_rate", "clean", "attacked", "removed", "examples")
_NESTED = {"curves": "points", "examples": "shown"}


def read(folder: Path) -> dict[str, Any]:
    """The object in folder/results.json with every list, if empty. UnreadableError: not there, or not of version 1."""
    path = folder / RESULTS
    again = "make it with: twc evaluate"
    try:
        results: dict[str, Any] = json.loads(path.read_bytes(), parse_constant=lambda _: None)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror or error}; {again}") from None
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{path} is no JSON: {error}; {again}") from None
    version = results.get("version") if isinstance(results, dict) else None
    if type(version) is not int or version != VERSION:
        raise UnreadableError(f"{path} is of version {version!r}, expected {VERSION}; {again}")
    # Half a surrogate pair, from a file name that is not UTF-8, could not be written into the page.
    results = json.loads(
        json.dumps(results, ensure_ascii=False).encode(errors="replace"), parse_constant=lambda _: None
    )
    for key in _LISTS:
        results[key] = _rows(results.get(key), f"{path}: {key}")
    for key, inner in _NESTED.items():
        for row in results[key]:
            row[inner] = _rows(row.get(inner), f"{path}: {inner} of {key}")
    return results


def number(value: object) -> float | None:
    """Value as a float; None for null, for what is no number, and for what is not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def interval(row: Row, key: str) -> tuple[float | None, float | None, float | None]:
    """Mean, low and high of one of INTERVALS; a bare number is a mean without an interval."""
    value = row.get(key)
    if not isinstance(value, dict):
        return number(value), None, None
    return number(value.get("mean")), number(value.get("low")), number(value.get("high"))


def mean(row: Row, key: str = "loss_ratio") -> float | None:
    """The mean of one of INTERVALS."""
    return interval(row, key)[0]


def defences(results: dict[str, Any]) -> list[str]:
    """Names of the defences, in the order to show; those that only rows name come last."""
    rows = [row for key in ("curves", "clean", "attacked", "removed") for row in results[key]]
    named = [str(row["name"]) for row in results["defences"] if row.get("name") is not None]
    return list(dict.fromkeys(named + [str(row.get("defence")) for row in rows]))


def is_noise(row: Row) -> bool:
    """Whether an attacked row is the control: random noise of the attack's size."""
    return any("noise" in str(row.get(key)) for key in ("attack", "objective", "threat"))


def _rows(value: object, what: str) -> list[Row]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise UnreadableError(f"{what} must be a list of objects")
    return value
