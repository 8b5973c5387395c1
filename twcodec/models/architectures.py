"""The published models, as a table: which transforms, which hyperprior, which entropy part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from twcodec.exact.hyperprior import REACH
from twcodec.exact.layers import Geometry
from twcodec.models import footprint, networks
from twcodec.models.integer_layers import SAME, UP

if TYPE_CHECKING:
    from torch import nn

    from twcodec.models.footprint import Working


@dataclass(frozen=True)
class HyperLayer:
    """One layer of h_s. shuffled: its outputs are sub-pixels, four to a channel of what follows."""

    outputs: int
    inputs: int
    geometry: Geometry
    then: Literal["leaky", "relu", ""] = "leaky"
    shuffled: bool = False


@dataclass(frozen=True)
class Architecture:
    """How a published model is built from N and M, its numbers of channels.

    n_from, m_from: the tensors whose first axis is N and M. transforms: g_a and g_s. h_a, h_s: None where there is no
    hyperprior. magnitude: h_a reads |y|. context: h_s leads to a serial context. means: h_s gives means, too. variable:
    there are gains for each quality. halo: how far g_a and g_s reach, in latents. working: what they take of memory,
    from N. reach: of h_s, in positions of z.
    """

    n_from: str
    m_from: str
    transforms: Callable[[int, int], tuple[nn.Module, nn.Module]]
    h_a: Callable[[int, int], nn.Module] | None = None
    h_s: Callable[[int, int], list[HyperLayer]] | None = None
    magnitude: bool = False
    means: bool = True
    context: bool = False
    variable: bool = False
    halo: tuple[int, int] = (2, 2)
    working: Callable[[int], Working] = footprint.of_bands
    reach: int = REACH


def _scales(n: int, m: int) -> list[HyperLayer]:
    return [HyperLayer(n, n, UP, "relu"), HyperLayer(n, n, UP, "relu"), HyperLayer(m, n, SAME, "relu")]


def _scales_and_means(n: int, m: int) -> list[HyperLayer]:
    wide = m * 3 // 2
    return [HyperLayer(m, n, UP), HyperLayer(wide, m, UP), HyperLayer(2 * m, wide, SAME, "")]


def _sub_pixel(n: int, _m: int) -> list[HyperLayer]:
    wide = n * 3 // 2
    return [
        HyperLayer(n, n, SAME),
        HyperLayer(4 * n, n, SAME, shuffled=True),
        HyperLayer(wide, n, SAME),
        HyperLayer(4 * wide, wide, SAME, shuffled=True),
        HyperLayer(2 * n, wide, SAME, ""),
    ]


_FACTORISED = Architecture("g_a.0.weight", "g_a.6.weight", networks.balle)
_SCALE = replace(
    _FACTORISED, h_a=partial(networks.hyper_analysis, leaky=False), h_s=_scales, magnitude=True, means=False
)
_MEAN = replace(_FACTORISED, h_a=partial(networks.hyper_analysis, leaky=True), h_s=_scales_and_means)
_CHENG = Architecture(
    "g_a.0.conv1.weight",
    "g_a.0.conv1.weight",
    partial(networks.cheng, attention=False),
    networks.cheng_hyper_analysis,
    _sub_pixel,
    context=True,
    halo=(4, 8),
    working=footprint.of_whole,
    reach=4,
)

ARCHITECTURES = {
    "bmshj2018-factorized": _FACTORISED,
    "bmshj2018-factorized-relu": replace(_FACTORISED, transforms=partial(networks.balle, gdn=False)),
    "bmshj2018-hyperprior": _SCALE,
    "bmshj2018-hyperprior-vbr": replace(_SCALE, variable=True),
    "mbt2018-mean": _MEAN,
    "mbt2018-mean-vbr": replace(_MEAN, variable=True),
    "mbt2018": replace(_MEAN, context=True),
    "cheng2020-anchor": _CHENG,
    "cheng2020-attn": replace(_CHENG, transforms=partial(networks.cheng, attention=True), halo=(8, 12)),
}
"""By the name that CompressAI's model zoo gives them."""
