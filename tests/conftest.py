"""Fixtures: the shared data (tests skip without it), real pictures that every machine has, one codec for all tests."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

import twcodec
from twcodec.imaging.picture import Picture

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as twcodec/__main__.py: other processes may share the cores

os.environ["TWC_MODEL_DIR"] = tempfile.mkdtemp(prefix="twc-models-")  # nobody's own models

SHARED = Path(os.environ.get("TWC_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def kodak(shared):
    """The 24 Kodak pictures' paths."""
    return sorted((shared / "data" / "kodak").glob("kodim*"))


@pytest.fixture(scope="session")
def codec():
    return twcodec.open_codec(device="cpu")


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """(512, 512, 3) uint8: a photograph that ships with scikit-image."""
    import skimage.data

    return skimage.data.astronaut()


@pytest.fixture(scope="session")
def crop(astronaut):
    """A picture of any size cut out of the photograph: crop(height, width)."""

    def cut(height: int, width: int, channels: int = 3) -> Picture:
        tiled = np.tile(astronaut, (1 + height // 512, 1 + width // 512, 1))
        samples = np.ascontiguousarray(tiled[:height, :width, :channels])
        return Picture(samples, "RGB" if channels == 3 else "L")

    return cut
