"""Every fuzz target on its corpus, and on some thousand mutations of it: a short run without atheris.

`make fuzz` is the long one, guided by coverage.
"""

import random
from pathlib import Path

import fuzz_run as run
import fuzz_targets as targets
import pytest

from twcodec.container import Container

HERE = Path(__file__).parent
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's

COUNTS = {
    "container": 4000,
    "container-repaired": 4000,
    "range-decoder": 300,
    "decode": 300,
    "transforms": 1000,
    "model-file": 40,
    "imaging": 1000,
}


def corpus(name):
    """Small seeds of a target."""
    folders = [HERE / "corpus" / name, *run.VECTORS * (name in ("container", "container-repaired", "decode"))]
    files = [path for folder in folders if folder.exists() for path in sorted(folder.iterdir()) if path.is_file()]
    found = [path.read_bytes() for path in files if path.suffix not in (".md", ".json") or name == "model-file"]
    return [data for data in found if len(data) <= 8192] or [bytes(range(64))]


def mutated(data, rng):
    """Some bytes changed, cut out, doubled, or set to what numbers like to be."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(5):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1:
                out[at : at + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\1\0\0"])
            case 2:
                del out[at : at + rng.choice([1, 4, 64])]
            case 3:
                out[at:at] = out[at : at + rng.choice([1, 12, 64])]
            case _:
                out[at:at] = rng.randbytes(rng.choice([1, 4, 16]))
    return bytes(out)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_target_takes_or_refuses_everything(name):
    rng, seeds = random.Random(name), corpus(name)
    for data in seeds:
        targets.TARGETS[name](data)
    for _ in range(COUNTS[name]):
        targets.TARGETS[name](mutated(rng.choice(seeds), rng))


def test_repairing_leaves_a_sound_file_as_it_is_and_mends_a_changed_one():
    path = next(p for p in sorted(run.VECTORS[0].glob("*.twc")) if p.stat().st_size < 2000)
    data = path.read_bytes()
    assert targets.repaired(data) == data
    changed = bytearray(data)
    changed[30] ^= 1  # in the digest
    with pytest.raises(targets.CorruptError, match="checksum"):
        Container.from_bytes(bytes(changed))
    again = targets.repaired(bytes(changed))
    assert again != data
    assert targets.repaired(again) == again
    found = Container.from_bytes(again)
    assert found.header.digest != Container.from_bytes(data).header.digest


def test_a_target_finds_what_is_planted(monkeypatch):
    """A parser that fails in its own way is a finding."""
    monkeypatch.setattr(targets.Container, "from_bytes", lambda *_: {}["missing"])
    with pytest.raises(KeyError):
        targets.container(b"anything")


def test_the_names_are_those_of_the_targets():
    assert set(run.NAMES) == set(targets.TARGETS) == set(COUNTS)
