"""A network small enough to train in a test, photographs to train it on."""

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from twcodec.models.trainable import Config, Network, build

TINY = Config(luma=12, chroma=4, n=8, lap=4, depth=1, hidden=24, features=12, entropy_hidden=16, filter=8)


@pytest.fixture(scope="session")
def tiny_model() -> bytes:
    """A model file of a tiny network that was not trained."""
    torch.manual_seed(1)
    return build(Network(TINY), {})


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder with seven photographs of 160 x 200 pixels."""
    folder = tmp_path_factory.mktemp("photographs")
    for i, source in enumerate((skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee())):
        for j in range(2):
            part = np.ascontiguousarray(source[60 * j : 60 * j + 160, 50 * j : 50 * j + 200])
            Image.fromarray(part).save(folder / f"{i}{j}.png")
    (folder / "sub").mkdir()
    Image.fromarray(skimage.data.rocket()[:160, :200, 0]).save(folder / "sub" / "grey.png")
    return folder
