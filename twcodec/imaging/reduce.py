"""A smaller picture: the mean of each square of pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twcodec.imaging.picture import Picture, bits_as_grey

_BAND = 1 << 20
"""Samples that are summed at once."""


def reduced(picture: Picture, factor: int) -> Picture:
    """One pixel for each square of factor x factor; those at the right and lower edges are means of what there is.

    Colours count by their alpha, so that what is transparent does not shine through. A picture of 1 bit becomes grey.
    """
    picture = bits_as_grey(picture) if picture.mode == "1" else picture
    samples = picture.samples
    parts = [
        _means(samples[rows], None if picture.alpha is None else picture.alpha[rows], factor)
        for rows in _bands(samples, factor)
    ]
    alpha = None if picture.alpha is None else np.concatenate([part[1] for part in parts])
    return replace(picture, samples=np.concatenate([part[0] for part in parts]), alpha=alpha)


def _bands(samples: NDArray[Any], factor: int) -> list[slice]:
    height, *rest = samples.shape
    rows = factor * max(1, _BAND // (factor * int(np.prod(rest))))
    return [slice(start, start + rows) for start in range(0, height, rows)]


def _means(samples: NDArray[Any], alpha: NDArray[np.uint8] | None, factor: int) -> tuple[NDArray[Any], Any]:
    """Samples (h, w, C) and alpha (h, w) of a band, rounded to the nearest."""
    count = _sums(np.ones((*samples.shape[:2], 1), np.uint32), factor)
    plain = _sums(samples, factor) / count
    if alpha is None:
        return _rounded(plain, samples.dtype), None
    opacity = _sums(alpha[..., None], factor)
    weighted = _sums(samples.astype(np.uint64) * alpha[..., None], factor) / np.maximum(opacity, 1)
    colours = np.where(opacity > 0, weighted, plain)
    return _rounded(colours, samples.dtype), _rounded(opacity / count, alpha.dtype)[..., 0]


def _sums(a: NDArray[Any], factor: int) -> NDArray[np.uint64]:
    """(h, w, C) to sums over squares."""
    rows = np.add.reduceat(a, np.arange(0, a.shape[0], factor), axis=0, dtype=np.uint64)
    return np.add.reduceat(rows, np.arange(0, a.shape[1], factor), axis=1)


def _rounded(means: NDArray[Any], dtype: Any) -> NDArray[Any]:
    return np.asarray(np.floor(means + 0.5), dtype)
