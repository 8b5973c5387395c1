"""The golden files under other versions of Python and of the libraries, each in a throw-away environment under /tmp.

    python benchmarks/torch_versions.py [NAME ...]     default: all of `environments()`; results/torch_versions.json

In each, vectors.py runs formats/vectors at all three levels with 1 and 2 threads, with oneDNN and without it; and the
same with 2 threads on older processors' instructions, as far as torch, oneDNN and MKL can be told to. Where
there is no CPU build of torch (PyTorch's other builds for x86-64 at PyPI bring several GB of CUDA with them, and are
not taken), what needs no torch is run: the golden files by the decoder in plain Python, headers, and payload kind 1.

Environments are made anew each time. Takes some minutes, most of it pip's; run it with nice.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results" / "torch_versions.json"

LOWEST: tuple[str, ...] = (
    "numpy==1.26.0",
    "pillow==11.3.0",
    "click==8.1.8",
    "construct==2.10.70",
    "constriction==0.4.2",
)
LOWEST += ("safetensors==0.5.0", "platformdirs==4.0.0", "rich==13.0.0", "pytorch-msssim==1.0.0")
"""The lowest that pyproject.toml allows."""

NEWEST = ("numpy<2", "pillow", "click", "construct<3", "constriction<0.6", "safetensors", "platformdirs", "rich")
WITHOUT_TORCH = ("numpy<2", "pillow>=11.3", "click", "construct<3", "platformdirs", "rich")

OLDER = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
PROCESSORS: dict[str, dict[str, str]] = {"this processor": {}, "AVX2": AVX2, "SSE4": OLDER}


@dataclass(frozen=True)
class Environment:
    """python: the interpreter. packages: what pip installs. torch: whether it is among them."""

    name: str
    python: str
    packages: tuple[str, ...]
    torch: bool = True
    flags: tuple[str, ...] = field(default=("--only-binary", ":all:"))


def pythons() -> dict[str, str]:
    """Interpreters of this machine by their version: the one that runs, and pyenv's."""
    found = {platform.python_version(): f"{sys.base_prefix}/bin/python3"}
    for path in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3")):
        found.setdefault(path.parents[1].name, str(path))
    return {version: path for version, path in found.items() if int(version.split(".")[1]) >= 10}


def environments() -> Iterator[Environment]:
    """torch: the one CPU build that pip finds here, for this Python alone."""
    own = platform.python_version()
    torch = ("torch==2.13.0+cpu", "pytorch-msssim>=1.0.0")
    yield Environment("lowest versions", pythons()[own], (torch[0], *LOWEST))
    yield Environment("newest versions", pythons()[own], (*torch, *NEWEST))
    for version, path in pythons().items():
        if version != own:
            yield Environment(f"Python {version}, no torch", path, WITHOUT_TORCH, torch=False)


def made(environment: Environment, folder: Path) -> Path:
    """The environment's interpreter. twcodec is used from the checkout, so its own requirements are not asked for."""
    subprocess.run([environment.python, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *environment.flags]
    subprocess.run([*install, *environment.packages], check=True)
    return python


def versions(python: Path) -> dict[str, str]:
    listed = subprocess.run([str(python), "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
    kept = ("torch", "numpy", "pillow", "constriction", "safetensors", "construct", "click")
    return {package["name"]: package["version"] for package in json.loads(listed.stdout) if package["name"] in kept}


def ran(python: Path, what: str, more: dict[str, str]) -> Any:
    """What this script finds inside, or the last line of why it could not."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    settings = {**inherited, "GOMP_SPINCOUNT": "2000", "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run([str(python), str(HERE / "vectors.py"), what], env=settings, capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {"failed": done.stderr.strip().splitlines()[-1:]}


def tried(environment: Environment) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="twc-versions-"))
    start = time.perf_counter()
    try:
        python = made(environment, folder)
        found: dict[str, Any] = {"python": environment.python, "versions": versions(python)}
        if environment.torch:
            found |= {name: ran(python, "with-torch", more) for name, more in PROCESSORS.items()}
        else:
            found |= {"without torch": ran(python, "without-torch", {})}
    except subprocess.CalledProcessError as error:
        found = {"could not be made": " ".join(map(str, error.cmd[-len(environment.packages) :]))}
    finally:
        shutil.rmtree(folder)
    return {**found, "seconds": round(time.perf_counter() - start)}


def main(names: list[str]) -> None:
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() and names else {}
    for environment in environments():
        if not names or environment.name in names:
            found[environment.name] = {"date": date.today().isoformat(), **tried(environment)}
            print(environment.name, json.dumps(found[environment.name], indent=1), flush=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
