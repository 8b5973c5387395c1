"""A loaded model: what the codec knows of it, whatever its family."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch

from twcodec.errors import MissingError, UnsupportedError, UsageError
from twcodec.exact import known_answer
from twcodec.exact.variable_rate import QUALITY_STEPS
from twcodec.models import catalogue, lapped_dct, residual_dct
from twcodec.models import file as model_file
from twcodec.models.architectures import ARCHITECTURES
from twcodec.models.catalogue import DEFAULT_QUALITY
from twcodec.models.published import Published

if TYPE_CHECKING:
    from torch import Tensor

    from twcodec.exact.hyperprior import Hyperprior, Network
    from twcodec.exact.tiles import Windows
    from twcodec.models.differentiable import Differentiable
    from twcodec.models.footprint import Footprint


class Family(Protocol):
    """The float transforms of a model and its exact entropy path. Tensors have no batch axis."""

    stride: int
    entropy: Hyperprior

    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def reach(self) -> int: ...  # noqa: D102
    @property
    def footprint(self) -> Footprint: ...  # noqa: D102
    def g_a(self, x: Windows, quality: float, dtype: torch.dtype = ..., tile: int = ...) -> Tensor: ...  # noqa: D102
    def at_quality(self, y: Tensor, before: float, after: float) -> Tensor: ...  # noqa: D102
    def h_a(self, y: Tensor, dtype: torch.dtype = ..., tile: int = ...) -> Tensor: ...  # noqa: D102
    def g_s(  # noqa: D102
        self, y_hat: Tensor, quality: float, dtype: torch.dtype = ..., finish: Network = ..., tile: int = ...
    ) -> Tensor: ...


MOST_QUALITY = 60

FAMILIES: dict[str, Callable[[model_file.ModelFile, torch.device], Family]] = {
    residual_dct.NAME: residual_dct.ResidualDCT,
    lapped_dct.NAME: lapped_dct.LappedDCT,
    lapped_dct.SERIAL_NAME: lapped_dct.SerialLappedDCT,
    **dict.fromkeys(ARCHITECTURES, Published),
}


class Model:
    """A model on a device: its family, its identity, its rate-distortion trade-off."""

    def __init__(self, data: bytes, name: str, device: torch.device) -> None:
        """data: a model file. UnsupportedError: not a model file, or of an unknown family."""
        parsed = model_file.parse(data)
        self.name, self.digest, self.device = name, parsed.digest, device
        kind = parsed.metadata.get("family")
        if not isinstance(kind, str) or kind not in FAMILIES:
            raise UnsupportedError(f"the model file is of family {kind!r}, this twc knows {', '.join(FAMILIES)}")
        _check_arithmetic(device)
        self.file = _with_base(parsed)
        self.family: Family = FAMILIES[kind](self.file, device)
        if self.family.rows > MOST_QUALITY:
            raise UnsupportedError(f"the model has {self.family.rows} quality rows; {MOST_QUALITY} are possible")
        self._lambdas = _lambdas(parsed.metadata.get("lambda"), self.family.rows)
        self._only = _quality(parsed.metadata.get("quality", 1)) if self.family.rows == 1 else None

    @cached_property
    def differentiable(self) -> Differentiable:
        """The same with gradients, made when it is first asked for. UnsupportedError: see `Differentiable`."""
        from twcodec.models.differentiable import Differentiable  # only some encodings need it

        with torch.inference_mode(False):
            return Differentiable(self)

    @property
    def qualities(self) -> tuple[float, float]:
        """Lowest and highest quality. They are the same for a model of one quality."""
        return (self._only, self._only) if self._only else (1.0, float(self.family.rows))

    def check_quality(self, quality: float | None) -> float:
        """The quality as the file will hold it, to a thousandth; None: the model's only one, or 4.

        UsageError: out of range.
        """
        low, high = self.qualities
        if quality is None:
            return min(max(low, DEFAULT_QUALITY), high)
        if not low <= quality <= high:
            has = f"{low:g} to {high:g}" if low < high else f"{low:g} only"
            raise UsageError(f"quality {quality:g} is out of range; the model {self.name} has {has}")
        return _in_thousandths(quality)

    def lambda_(self, quality: float) -> float:
        """The trade-off the model was trained with: loss = bits a pixel + lambda 255^2 MSE, MSE of values in 0 .. 1."""
        if self._only:
            return self._lambdas[0]
        low = min(int(quality), self.family.rows - 1)
        a, b = math.log(self._lambdas[low - 1]), math.log(self._lambdas[low])
        return math.exp(a + (b - a) * (quality - low))


def _with_base(parsed: model_file.ModelFile) -> model_file.ModelFile:
    """The file with the tensors of the model that it builds on. UnsupportedError: that one is not at hand."""
    if "base" not in parsed.metadata:
        return parsed
    try:
        digest = bytes.fromhex(parsed.metadata["base"])
    except (TypeError, ValueError):
        raise UnsupportedError("the model file's base is no digest; it is damaged") from None
    base = model_file.parse(catalogue.read_by_digest(digest)[1])
    if base.digest != digest or "base" in base.metadata:
        raise UnsupportedError("the model file's base is not what it should be; it is damaged")
    return model_file.on_base(parsed, base)


def _check_arithmetic(device: torch.device) -> None:
    try:
        right = known_answer.passes(str(device))
    except RuntimeError as error:
        what = str(error).partition("\n")[0]
        raise MissingError(f"the device {device} cannot be used ({what}); use --device cpu") from None
    if not right:
        raise MissingError(f"the device {device} does not compute the exact arithmetic right; use --device cpu")


def _in_thousandths(quality: float) -> float:
    return round(quality * QUALITY_STEPS) / QUALITY_STEPS


def _quality(found: object) -> float:
    """The quality of a model that has one only."""
    in_range = isinstance(found, (int, float)) and not isinstance(found, bool) and 1 <= found <= MOST_QUALITY
    if not in_range or _in_thousandths(float(found)) != found:  # type: ignore[arg-type]
        raise UnsupportedError(f"the model file's quality is no number of thousandths from 1 to {MOST_QUALITY}")
    return float(found)


def _lambdas(found: object, rows: int) -> list[float]:
    values = found if isinstance(found, list) else []
    if len(values) != rows or not all(type(v) in (int, float) and 0 < v < model_file.MOST_LAMBDA for v in values):
        raise UnsupportedError("the model file's lambdas do not match its quality rows")
    return [float(v) for v in values]
