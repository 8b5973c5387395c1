"""The family `lapped-dct`: as `residual-dct`, with overlapping blocks, more channels, and context in two steps.

What it changed, and what each change gained, is in docs/training.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twcodec.models import two_step
from twcodec.models.block_transform import BlockTransform

if TYPE_CHECKING:
    import torch

    from twcodec.models.file import ModelFile

NAME = "lapped-dct"


class LappedDCT(BlockTransform):
    """The float transforms and the exact entropy path of a model file."""

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        """UnsupportedError: the file does not hold this family."""
        super().__init__(file, device)
        self.entropy = two_step.from_file(file, self.n, self.m, device)
