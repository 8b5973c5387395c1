"""In which floating-point type the networks compute, and where bfloat16 pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from twcodec.errors import MissingError

if TYPE_CHECKING:
    from twcodec.codec.settings import Precision


def for_encoding(precision: Precision, device: torch.device) -> torch.dtype:
    """For analysis and scoring. "auto": bfloat16 where the device computes in it natively: any latent is codable."""
    if precision == "auto":
        return torch.bfloat16 if is_native(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def for_decoding(precision: Precision) -> torch.dtype:
    """For the decoder's synthesis. "auto" is float32: pixels then differ by one level at most between devices."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def is_native(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    onednn: Any = torch.backends.mkldnn
    supported = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return bool(onednn.is_available() and onednn.enabled) and any(getattr(torch.cpu, s, bool)() for s in supported)


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16; every CPU does, some slowly."""
    return device.type != "cuda" or torch.cuda.is_bf16_supported()


def check_bf16(device: torch.device) -> None:
    """MissingError unless `has_bf16`."""
    if not has_bf16(device):
        raise MissingError(f"the device {device} has no bf16; use --precision fp32")
