"""CompressAI's official checkpoints: which there are, where they lie, and what they were trained for.

The table is that of compressai.zoo, which is not imported: it would cost seconds.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

BASE_URL = "https://compressai.s3.amazonaws.com/models/v1"
METRICS = ("mse", "ms-ssim")

LAMBDAS = {
    "mse": (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800),
    "ms-ssim": (2.40, 4.58, 8.73, 16.64, 31.73, 60.50, 115.37, 220.00),
}
"""By metric, of quality 1, 2, ...; the same for every architecture."""

HIGHEST = len(LAMBDAS["mse"])
"""The highest quality; the lowest is 1."""

ARCHITECTURES = (
    "bmshj2018-factorized",
    "bmshj2018-factorized-relu",
    "bmshj2018-hyperprior",
    "bmshj2018-hyperprior-vbr",
    "mbt2018-mean",
    "mbt2018-mean-vbr",
    "mbt2018",
    "cheng2020-anchor",
    "cheng2020-attn",
)
"""What can be imported. Official weights of -relu were never published."""

_VARIABLE = ("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr")

_TABLE = """
bmshj2018-factorized     mse     bmshj2018-factorized-prior    446d5c7f 87279a02 5c6f152b 1ed4405a 866ba797 9b02ea3a 6dfd6734 5232faa3
bmshj2018-factorized     ms-ssim bmshj2018-factorized-ms-ssim  9781d705 4a584386 5352f123 4f91b847 b3a88897 ee028763 8c265a29 8811bd14
bmshj2018-hyperprior     mse     bmshj2018-hyperprior          7eb97409 93677231 6d87be32 de1b779c f8b614e1 1ab9c41e 3804dcbd a583f0cf
bmshj2018-hyperprior     ms-ssim bmshj2018-hyperprior-ms-ssim  5cf249be 1ff60d1f 92dd7878 4377354e c34afc8d 3a6d8229 8747d3bc cc15b5f3
bmshj2018-hyperprior-vbr mse     bmshj2018-hyperprior-mse-vbr  cddd26be
mbt2018-mean             mse     mbt2018-mean                  e522738d e54a039d 723404a8 6dba02a3 d504e8eb a19628ab d5d441d1 8089ae3e
mbt2018-mean             ms-ssim mbt2018-mean-ms-ssim          5bf9c0b6 e2a1bf3f 640ce819 12626c13 1be7f059 b83bf379 ddf9644c 0cc7b94f
mbt2018-mean-vbr         mse     mbt2018-mean-mse-vbr          45d095e9
mbt2018                  mse     mbt2018                       3f36cd77 43b70cdd 22901978 456e2af9 b4a046dd 7052e5ea 8ba2bf82 dd0097aa
mbt2018                  ms-ssim mbt2018-ms-ssim               2878436b c41cb208 d0dd64e8 a120e037 9b30e3b7 f8b3626f 16e6ff50 0cb49d43
cheng2020-anchor         mse     cheng2020-anchor              dad2ebff a29008eb e49be189 98b0b468 23852949 4c052b1a
cheng2020-anchor         ms-ssim cheng2020_anchor-ms-ssim      20f521db c7ff5812 c23e22d5 0e658304 c0a95e77 f2dc1913
cheng2020-attn           mse     cheng2020_attn-mse            465f2b64 e0805385 2d07bbdf f7b0ccf2 26c8920e 730501f2
cheng2020-attn           ms-ssim cheng2020_attn-ms-ssim        c5381d91 5dad201d 5c9be841 8b2f647e 5ca1f34c 216423ec
"""  # noqa: E501
"""Architecture, metric, beginning of the file names, SHA-256 prefixes of quality 1, 2, ... (-vbr: of the one file)."""


@dataclass(frozen=True)
class Checkpoint:
    """An official checkpoint. quality, lmbda: None for a model that has all qualities. sha256: its first 8 digits."""

    architecture: str
    metric: str
    quality: int | None
    lmbda: float | None
    file: str
    sha256: str

    @property
    def url(self) -> str:
        """Where it lies: CompressAI's own address, or the mirror that TWC_MODEL_URL names."""
        return f"{(os.environ.get('TWC_MODEL_URL') or BASE_URL).rstrip('/')}/{self.file}"

    @property
    def name(self) -> str:
        """What its model is called in the store."""
        return name_of(self.architecture, self.quality, self.metric)

    @property
    def options(self) -> str:
        """What `twc models pull` takes to get it."""
        quality = "" if self.quality is None else f" -q {self.quality}"
        return f"{self.architecture}{quality}{'' if self.metric == 'mse' else f' --metric {self.metric}'}"


def is_variable(architecture: str) -> bool:
    """Whether one model of this architecture has all qualities."""
    return architecture in _VARIABLE


def lambda_of(quality: int, metric: str = "mse") -> float | None:
    """The trade-off of CompressAI's quality 1 to 8. None: there is no such quality."""
    return LAMBDAS[metric][quality - 1] if 1 <= quality <= len(LAMBDAS[metric]) else None


def name_of(architecture: str, quality: int | None, metric: str = "mse") -> str:
    """The name in the store: mbt2018-4, mbt2018-4-ms-ssim, mbt2018-mean-vbr."""
    return "-".join([architecture, *([] if quality is None else [str(quality)]), *(["ms-ssim"] * (metric != "mse"))])


def _row(line: str) -> list[Checkpoint]:
    architecture, metric, start, *prefixes = line.split()
    if is_variable(architecture):
        return [Checkpoint(architecture, metric, None, None, f"{start}-{prefixes[0]}.pth.tar", prefixes[0])]
    return [
        Checkpoint(architecture, metric, q, lambda_of(q, metric), f"{start}-{q}-{prefix}.pth.tar", prefix)
        for q, prefix in enumerate(prefixes, 1)
    ]


CHECKPOINTS = tuple(checkpoint for line in _TABLE.strip().splitlines() for checkpoint in _row(line))


def find(architecture: str, quality: int | None, metric: str = "mse") -> Checkpoint | None:
    """The official checkpoint, if there is one."""
    wanted = (architecture, quality, metric)
    return next((c for c in CHECKPOINTS if (c.architecture, c.quality, c.metric) == wanted), None)


def by_name(name: str) -> Checkpoint | None:
    """The official checkpoint whose model is called so in the store; a digest after "@" is no part of the name."""
    return next((c for c in CHECKPOINTS if c.name == name.partition("@")[0]), None)


def qualities(architecture: str, metric: str = "mse") -> tuple[int, ...]:
    """The qualities of which there is an official checkpoint; none for a model that has all of them."""
    found = (c.quality for c in CHECKPOINTS if (c.architecture, c.metric) == (architecture, metric))
    return tuple(q for q in found if q is not None)


def option_for(name: str) -> str:
    """How `twc encode` is told to use the stored model `name`: "--model mbt2018 -q 4", or "--model NAME"."""
    found = re.fullmatch(rf"(.+)-([1-{HIGHEST}])", name)
    if found and found[1] in ARCHITECTURES and not is_variable(found[1]):
        return f"--model {found[1]} -q {found[2]}"
    return f"--model {name}"
