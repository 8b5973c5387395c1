"""The family `lapped-dct`: as `residual-dct`, with overlapping blocks, more channels, and context in two steps.

What it changed, and what each change gained, is in docs/training.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twcodec.models import serial, two_step
from twcodec.models.block_transform import BlockTransform
from twcodec.models.integer_layers import UP, IntegerLayers

if TYPE_CHECKING:
    import torch

    from twcodec.models.file import ModelFile

NAME = "lapped-dct"
SERIAL_NAME = "lapped-dct-serial"


class LappedDCT(BlockTransform):
    """The float transforms and the exact entropy path of a model file."""

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        """UnsupportedError: the file does not hold this family."""
        super().__init__(file, device)
        self.entropy = two_step.from_file(file, self.n, self.m, device)
        self.features = IntegerLayers(file, device).width("h_s.1")


class SerialLappedDCT(BlockTransform):
    """The same transforms with a serial context, as Minnen et al. 2018 have it: fewer bits, more time."""

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        """UnsupportedError: the file does not hold this family."""
        super().__init__(file, device)
        layers = IntegerLayers(file, device)
        features = self.features = layers.width("h_s.1")
        h_s = [
            layers.convolution("h_s.0", self.n, self.n, UP, leaky=True),
            layers.convolution("h_s.1", features, self.n, UP, leaky=True),
        ]
        self.entropy = serial.from_file(file, h_s, features, self.m, self.n, device)
