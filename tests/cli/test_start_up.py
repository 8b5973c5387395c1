"""What a command imports, in modules, since seconds differ from machine to machine: benchmarks/startup.py has those."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

import pytest

OURS = {"twcodec", "torch", "numpy", "PIL", "click", "construct", "constriction", "safetensors"}
"""What encoding and decoding take, beside the standard library."""

REPORT = "import sys, json\n{code}\nprint('\\n' + json.dumps(sorted(sys.modules)))"


def modules(code: str, *args) -> set[str]:
    """The modules that a fresh interpreter has imported after it ran some code."""
    command = [sys.executable, "-c", REPORT.format(code=code), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


COMMAND = "from twcodec.cli.main import _code_of\nassert _code_of(sys.argv[1:]) == 0"


@pytest.fixture(scope="module")
def of_torch() -> set[str]:
    return modules("import torch")


@pytest.fixture
def imported(photo, coded, tmp_path):
    """The modules of a whole command: imported("encode")."""
    args = {"encode": (photo, tmp_path / "a.twc"), "decode": (coded, tmp_path / "a.png"), "verify": (coded,)}
    return lambda command: modules(COMMAND, command, *args[command])


@pytest.mark.parametrize("command", ["encode", "decode", "verify"])
def test_nothing_is_imported_that_is_not_needed(imported, of_torch, command):
    """No compressai, torchvision, pandas, scipy, matplotlib, rich, platformdirs, pytorch_msssim, ..."""
    packages = {name.partition(".")[0] for name in imported(command) - of_torch}
    assert packages - set(sys.stdlib_module_names) - OURS - _at_every_start() == set()


@pytest.mark.parametrize("command", ["encode", "decode", "verify"])
def test_of_torch_comes_what_import_torch_brings_and_no_more(imported, of_torch, command):
    """Not torch._dynamo, not torch._inductor, and so neither sympy nor networkx."""
    assert [name for name in imported(command) - of_torch if name.partition(".")[0] == "torch"] == []


@pytest.mark.parametrize("command", ["encode", "decode", "verify"])
def test_there_is_a_budget_of_modules_beyond_torchs(imported, of_torch, command):
    """About 150 for a PNG; torch has 1,100 more."""
    assert len(imported(command) - of_torch) <= 184


def _at_every_start() -> set[str]:
    """What an interpreter has before it does anything: site's, an editable installation's, a coverage tool's."""
    return {name.partition(".")[0] for name in modules("")}


def test_the_garbage_collector_does_not_walk_through_torch(photo, tmp_path):
    """While it is imported and when the process ends: a quarter of the time of encoding a Kodak picture."""
    code = f"{COMMAND}\nimport gc; assert gc.isenabled() and gc.get_freeze_count() > 100_000, gc.get_freeze_count()"
    assert "torch" in modules(code, "encode", photo, tmp_path / "a.twc")


def test_a_process_that_has_torch_keeps_its_garbage_collector(twc, photo, tmp_path):
    before = gc.get_freeze_count()
    gc.disable()
    try:
        assert twc("encode", photo, tmp_path / "a.twc").code == 0
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert gc.get_freeze_count() == before
