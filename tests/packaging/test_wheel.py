"""What is published: the wheel and the sdist build, hold what they should, and work in an environment of their own.

Nothing is downloaded: the build runs with this environment's setuptools, and the new environment borrows this one's libraries.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ("pyproject.toml", "README.md", "LICENSE")
MODELS = ("default-1", "default-2", "default-3", "default-context")
PICTURE = ROOT / "formats" / "vectors" / "valid" / "rgb-63x65.png"

if int(pytest.importorskip("setuptools").__version__.split(".")[0]) < 77:
    pytest.skip("setuptools is older than pyproject.toml asks for", allow_module_level=True)


def built(kind: str, tree: Path, into: Path) -> Path:
    """What the build backend makes of a source tree."""
    code = f"from setuptools import build_meta; import sys; print(build_meta.build_{kind}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, into], cwd=tree, check=True, capture_output=True, text=True)
    return into / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    tree = tmp_path_factory.mktemp("source")
    for name in SOURCE:
        shutil.copy2(ROOT / name, tree)
    shutil.copytree(ROOT / "twcodec", tree / "twcodec", ignore=shutil.ignore_patterns("__pycache__"))
    return built("sdist", tree, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """From the sdist, as `pip install` of one would make it."""
    tree = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(tree, filter="data")
    return built("wheel", next(tree.iterdir()), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def names(wheel) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def modules() -> set[str]:
    return {str(path.relative_to(ROOT)) for path in (ROOT / "twcodec").rglob("*.py")}


def test_the_wheel_holds_every_module_and_model_and_nothing_else(names):
    within = {name for name in names if not name.startswith("twcodec-")}
    data = {f"twcodec/models/weights/{model}.safetensors" for model in MODELS}
    data |= {"twcodec/models/weights/catalogue.json", "twcodec/py.typed"}
    data |= {f"twcodec/robustness/page.{kind}" for kind in ("html", "css", "js")}
    assert within == modules() | data


def test_the_wheel_is_small_and_for_every_machine(wheel, sdist):
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < 40_000_000
    assert sdist.stat().st_size < 40_000_000


def test_the_licence_and_the_readme_are_in_both(wheel, sdist, names):
    metadata = next(name for name in names if name.endswith("/METADATA"))
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "License-Expression: BSD-3-Clause" in text
    assert "# twc" in text
    with tarfile.open(sdist) as archive:
        assert {"LICENSE", "README.md", "pyproject.toml"} <= {name.split("/", 1)[-1] for name in archive.getnames()}


@pytest.fixture(scope="module")
def twc(wheel, tmp_path_factory):
    """`twc` as it is installed from the wheel in a new environment, run where none of the sources is in sight."""
    pytest.importorskip("pip")
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
    python = place / "venv" / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", wheel]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-I", "-c", asked], text=True).strip())
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*arguments: str | Path) -> str:
        command = [python.with_name("twc"), *arguments]
        return subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True, text=True).stdout

    found = subprocess.check_output([python, "-c", "import twcodec; print(twcodec.__file__)"], cwd=place, text=True)
    assert found.startswith(str(packages)), "the sources were imported, not what was installed"
    return run, place


def test_what_is_installed_from_the_wheel_encodes_verifies_and_decodes(twc):
    run, _ = twc
    run("encode", "-q", "4", PICTURE, "picture.twc")
    run("verify", "picture.twc")
    run("decode", "picture.twc", "back.png")
    compared = json.loads(run("compare", "--json", PICTURE, "back.png"))
    assert compared["psnr"] > 30
    assert json.loads(run("info", "--json", "picture.twc"))["width"] == 63


def test_every_embedded_model_is_listed_where_the_wheel_is_installed(twc):
    run, _ = twc
    listed = run("models", "list")
    assert all(model in listed for model in MODELS)
