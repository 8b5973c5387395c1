import numpy as np
import pytest
import torch

from twcodec.codec.settings import Settings
from twcodec.exact.tables import TOTAL, Tables
from twcodec.models import catalogue
from twcodec.models import file as model_file
from twcodec.models.model import Model
from twcodec.training import fit_tables
from twcodec.training.fit_tables import _REACH, PRIOR, fitted

GAUSSIAN = "default-1"


def histogram(**counts: int) -> np.ndarray:
    out = np.zeros((1, 2 * _REACH + 1), np.int64)
    for symbol, count in counts.items():
        out[0, _REACH + int(symbol.replace("m", "-").lstrip("s"))] = count
    return out


OLD = Tables.pack([(-1, np.array([16384, 32768, 16383, 1], np.uint16))])


def test_a_table_follows_what_was_counted():
    new = fitted(OLD, histogram(s0=900_000, s1=90_000, sm1=10_000))
    weight = dict(zip(range(new.first[0], new.first[0] + new.length[0] - 1), new.weight[:-1].tolist(), strict=True))
    assert weight[0] == pytest.approx(0.9 * TOTAL, rel=0.01)
    assert weight[1] == pytest.approx(0.09 * TOTAL, rel=0.01)
    assert weight[-1] == pytest.approx(0.01 * TOTAL, rel=0.05)
    assert int(new.weight.sum()) == TOTAL


def test_a_table_that_was_never_used_stays_as_it_was():
    new = fitted(OLD, histogram())
    start = -1 - int(new.first[0])
    assert np.abs(new.weight[start : start + 3].astype(int) - OLD.weight[:3].astype(int)).max() <= 8


def test_the_prior_counts_as_many_symbols_as_it_says():
    new = fitted(OLD, histogram(s0=int(PRIOR)))
    assert new.weight[-int(new.first[0])] == pytest.approx(0.75 * TOTAL, rel=0.01)


def test_symbols_far_out_get_an_entry_when_they_occur():
    new = fitted(OLD, histogram(s0=1000, s40=50))
    assert new.first[0] + new.length[0] - 2 >= 40


def test_fitting_saves_bits_and_changes_no_pixel(astronaut, crop):
    pictures = [np.ascontiguousarray(astronaut[i * 128 : i * 128 + 128, :256]) for i in range(3)]
    old = catalogue.read(GAUSSIAN)[1]
    new = fit_tables.fit(old, pictures)
    assert model_file.parse(new).metadata["provenance"]["tables_fitted_to"]["pictures"] == 3
    picture = crop(256, 256)
    files = []
    for data in (old, new):
        from twcodec.codec.codec import Codec

        fresh = Codec(Model(data, "x", torch.device("cpu")))
        file, report = fresh.encode_picture(picture, Settings(4, transform="never"))
        files.append((len(file), report.psnr))
        assert fresh.decode_picture(file).samples.shape == picture.samples.shape
    assert files[1][0] < 0.95 * files[0][0]
    assert files[1][1] == files[0][1]
