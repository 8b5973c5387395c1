"""Things that a newcomer types, right and wrong, and what comes back: python benchmarks/newcomer.py

Runs the real command line in an empty folder with one photograph in it, and writes results/newcomer.txt, which is read
line by line before a release: is each answer what somebody who has never seen twc can go on from? Takes two minutes.
The exit code is 1 where one of the commands ends in another way than it should.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import skimage.data
from kodak import HERE
from PIL import Image

RESULTS = HERE / "results" / "newcomer.txt"
_ROOT = HERE.parent

TYPED: tuple[tuple[int, str], ...] = (
    (2, "twc"),
    (0, "twc --help"),
    (0, "twc --version"),
    (2, "twc photo.jpg"),
    (2, "twc encode photo.jpg"),
    (0, "twc encode photo.jpg photo.twc"),
    (7, "twc encode photo.jpg photo.twc"),
    (0, "twc encode -f photo.jpg photo.twc"),
    (0, "twc info photo.twc"),
    (0, "twc decode photo.twc photo.png"),
    (0, "twc decode photo.twc back.jpg"),
    (2, "twc decode photo.twc back.xyz"),
    (3, "twc decode photo.jpg x.png"),
    (3, "twc encode photo.twc again.twc"),
    (3, "twc encode nothing.jpg x.twc"),
    (3, "twc encode . x.twc"),
    (7, "twc encode photo.jpg nowhere/x.twc"),
    (2, "twc encode -q 11 photo.jpg x.twc"),
    (2, "twc encode -q high photo.jpg x.twc"),
    (2, "twc encode --qualty 5 photo.jpg x.twc"),
    (2, "twc encdoe photo.jpg x.twc"),
    (0, "twc encode -q 6.5 --ways 4 -v -f photo.jpg photo.twc"),
    (0, "twc encode --target-size 20K photo.jpg small.twc"),
    (6, "twc encode --target-size 100 photo.jpg tiny.twc"),
    (0, "twc compare photo.jpg small.twc"),
    (0, "twc verify photo.twc small.twc"),
    (4, "head -c 3000 photo.twc > cut.twc; twc decode cut.twc x.png"),
    (4, "twc verify cut.twc"),
    (3, "twc info photo.jpg"),
    (0, "cat photo.jpg | twc encode - - | twc decode - - | file -"),
    (0, "twc encode - - < photo.jpg > pipe.twc"),
    (3, "twc encode - - < /dev/null > x.twc"),
    (5, "twc encode --model best photo.jpg y.twc"),
    (8, "twc encode --device cuda photo.jpg y.twc"),
    (0, "twc decode --crop 10,10,64,64 --scale 1/2 photo.twc part.png"),
    (2, "twc decode --crop 10,10,9999,64 photo.twc x.png"),
    (2, "twc batch encode ."),
    (1, "twc batch encode . -o out"),
    (0, "mkdir photographs; cp photo.jpg photographs; twc batch encode photographs -o compressed"),
    (0, "twc batch encode photographs -o compressed"),
    (0, "twc models list"),
    (2, "twc models pull mbt"),
    (7, "twc encode photo.jpg photo.jpg -f"),
)
"""Exit code and command."""


def prepared(folder: Path) -> dict[str, str]:
    """A photograph, and the environment in which `twc` is found and no model of the user's."""
    Image.fromarray(skimage.data.astronaut()[:384, 64:448]).save(folder / "photo.jpg", quality=92)
    bin_ = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "TWC_MODEL_DIR": str(folder / ".models"),
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }


def answer(command: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Exit code, and both outputs as a terminal would show them."""
    script = ["bash", "-o", "pipefail", "-c", command]
    done = subprocess.run(
        script, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout.decode(errors="replace").replace(str(folder), "~")


def main() -> None:
    wrong, parts = [], []
    with tempfile.TemporaryDirectory() as name:
        environment = prepared(Path(name))
        for wanted, command in TYPED:
            code, text = answer(command, Path(name), environment)
            parts.append(f"$ {command}\n{text.rstrip()}\n[{code}]\n")
            print(parts[-1], flush=True)
            if code != wanted or "Traceback" in text:
                wrong.append(f"{command}: {code}, not {wanted}")
    RESULTS.write_text("\n".join(parts))
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
