"""The Dockerfile's steps without an engine: each runs in a bare Debian tree, and the result encodes a picture.

    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm base
    python benchmarks/dockerfile.py base work [--torch-index INDEX] [--wheels FOLDER]

As root. `base` stands for the image that FROM names: the same Debian, with Debian's own Python 3.11 in place of that
image's. Each stage is a copy of it under `work`; ARG, ENV, WORKDIR, COPY, RUN and USER do what they say, RUN in a
chroot with mounts of its own. INDEX goes where TORCH_INDEX does: where PyTorch's own is out of reach, a folder's wheels
(--wheels) and any other index. Then, without network, as the image's user, its entry point encodes and decodes a
photograph. Writes results/dockerfile.json: what ran, and what the tree weighs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "dockerfile.json"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
STRANGER = 4711
"""A user whom the image does not know, as `docker run --user` gives it."""

TOOLS = ("gcc", "cc", "g++", "make", "git", "curl", "pip", "apt-get")


@dataclass
class Stage:
    """One stage: its tree, and what instructions so far have set."""

    tree: Path
    variables: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"}
    )
    folder: str = "/"
    user: str = "root"
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        return self.tree / str(Path(self.folder) / name).lstrip("/")


def instructions(text: str) -> list[tuple[str, str]]:
    """(keyword, rest) of each instruction; comments dropped, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(maxsplit=1)[0].upper(), line.split(maxsplit=1)[1]) for line in joined.splitlines()]


def chroot(
    stage: Stage, command: list[str], wheels: Path | None, network: bool = True, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run in the stage's tree with mounts of its own, which end with it."""
    script = f"""
        cd {stage.tree}
        mount -t proc proc proc; mount --bind /dev dev
        [ -z "$WHEELS" ] || {{ mkdir -p mnt/wheels; mount --bind "$WHEELS" mnt/wheels; }}
        [ "$NETWORK" = 0 ] || for file in {CERTIFICATES} /etc/resolv.conf; do
            touch ".$file"; mount --bind "$file" ".$file"; done
        exec chroot --userspec={stage.user}:{stage.user} . /usr/bin/env -i "$@"
    """
    home = {"root": "/root", "twc": "/home/twc"}.get(stage.user, "/")
    environment = {**stage.environment, **stage.variables, "HOME": home}
    if wheels:
        environment["PIP_FIND_LINKS"] = "/mnt/wheels"
    within = ["sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", stage.folder, *command]
    outer = {**os.environ, "WHEELS": str(wheels or ""), "NETWORK": str(int(network))}
    isolation = ["unshare", "--mount", *([] if network else ["--net"]), "sh", "-ec", script, "sh"]
    return subprocess.run([*isolation, *(f"{k}={v}" for k, v in environment.items()), *within], env=outer, **options)


def allowed(name: str) -> bool:
    """Whether .dockerignore, which is a list of exceptions to `*`, lets a name at the top through."""
    return f"!{name}" in (ROOT / ".dockerignore").read_text().split()


def copy(stage: Stage, rest: str, stages: dict[str, Stage]) -> None:
    *sources, target = shlex.split(rest)
    source_tree = stages[sources.pop(0).removeprefix("--from=")].tree if sources[0].startswith("--from=") else None
    for source in sources:
        if source_tree is None and not allowed(source.removeprefix("./")):
            sys.exit(f"COPY {source}: .dockerignore hides it")
        origin = ROOT / source if source_tree is None else source_tree / source.lstrip("/")
        place = stage.path(target) / origin.name if target.endswith("/") else stage.path(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            ignored = shutil.ignore_patterns("__pycache__") if source_tree is None else None
            shutil.copytree(origin, place, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(origin, place)


def expanded(text: str, stage: Stage) -> str:
    known = {**stage.variables, **stage.environment}
    return re.sub(r"\$\{?(\w+)\}?", lambda found: known.get(found[1], ""), text)


def carry_out(keyword: str, rest: str, stage: Stage, stages: dict[str, Stage], given: argparse.Namespace) -> None:
    match keyword:
        case "ARG":
            name, _, default = rest.partition("=")
            stage.variables[name] = (given.torch_index or default) if name == "TORCH_INDEX" else default
        case "ENV":
            name, _, value = rest.partition("=")
            stage.environment[name] = expanded(value, stage)
        case "WORKDIR":
            stage.folder = rest
            stage.path(".").mkdir(parents=True, exist_ok=True)
        case "COPY":
            copy(stage, rest, stages)
        case "RUN":
            chroot(stage, ["/bin/sh", "-c", rest], given.wheels, check=True)
        case "USER":
            stage.user = rest
        case "ENTRYPOINT":
            stage.entry = json.loads(rest)
        case "CMD":
            stage.command = json.loads(rest)
        case _:
            sys.exit(f"{keyword}: not an instruction that this script knows")


def build(given: argparse.Namespace) -> tuple[Stage, list[dict[str, object]]]:
    stages: dict[str, Stage] = {}
    stage, steps = Stage(given.work), []
    for keyword, rest in instructions((ROOT / "Dockerfile").read_text()):
        print(f"{keyword} {rest}", flush=True)
        begun = time.perf_counter()
        if keyword == "FROM":
            name = rest.split(" AS ")[1] if " AS " in rest else "last"
            stage = stages[name] = Stage(given.work / name)
            subprocess.run(["cp", "-a", given.base, stage.tree], check=True)
            (stage.tree / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        else:
            carry_out(keyword, rest, stage, stages, given)
        steps.append({"step": f"{keyword} {rest}", "seconds": round(time.perf_counter() - begun, 1)})
    return stage, steps


def tried(stage: Stage) -> dict[str, object]:
    """What the image's user gets from the entry point, without network: by names, by a pipe, without arguments."""
    photo = ROOT / "formats" / "vectors" / "valid" / "rgb-63x65.png"
    import skimage.data
    from PIL import Image

    pictures = stage.path(".")
    Image.fromarray(skimage.data.astronaut()).save(pictures / "photo.png")
    os.chown(pictures, 1000, 1000)

    def twc(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        return chroot(
            stage, [*stage.entry, *arguments], None, network=False, capture_output=True, check=True, **options
        )

    shown = twc(*stage.command).stdout.decode()
    twc("encode", "photo.png", "photo.twc")
    twc("verify", "photo.twc")
    piped = twc("encode", "--seed", "1", "-", "-", input=photo.read_bytes()).stdout
    twc("decode", "photo.twc", "back.png")
    compared = json.loads(twc("compare", "--json", "photo.png", "photo.twc").stdout)
    version = twc("--version").stdout.decode().splitlines()
    owner = (pictures / "photo.twc").stat().st_uid
    os.chown(pictures, STRANGER, STRANGER)
    stage.user = str(STRANGER)
    twc("encode", "photo.png", "stranger.twc")
    return {
        "help": shown.splitlines()[0],
        "version": version,
        "bytes": (pictures / "photo.twc").stat().st_size,
        "psnr": compared["psnr"],
        "piped_bytes": len(piped),
        "owner": owner,
        "owner_with_another_user": (pictures / "stranger.twc").stat().st_uid,
        "tools_found": [tool for tool in TOOLS if _has(stage, tool)],
    }


def _has(stage: Stage, tool: str) -> bool:
    return chroot(stage, ["sh", "-c", f"command -v {tool}"], None, network=False, capture_output=True).returncode == 0


def megabytes(path: Path) -> float:
    return round(int(subprocess.check_output(["du", "-sx", "--block-size=1000", path]).split()[0]) / 1000, 1)


def sizes(stage: Stage, base: Path) -> dict[str, object]:
    (packages,) = stage.tree.glob("opt/twc/lib/python3*/site-packages")
    largest = sorted(((megabytes(p), p.name) for p in packages.iterdir() if p.is_dir()), reverse=True)
    cuda = [p.name for p in stage.tree.rglob("*") if re.search(r"nvidia|libcuda|libcudnn|libcublas|triton", p.name)]
    return {
        "tree": megabytes(stage.tree),
        "base": megabytes(base),
        "venv": megabytes(stage.tree / "opt/twc"),
        "largest": {name: size for size, name in largest[:10]},
        "cuda_libraries": [name for name in cuda if ".so" in name],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--torch-index")
    parser.add_argument("--wheels", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True)
    given.work = given.work.resolve()
    stage, steps = build(given)
    result: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d"),
        "torch": "of a folder" if given.wheels else "of the index",
        "steps": steps,
    }
    result.update(megabytes=sizes(stage, given.base), tried=tried(stage))
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
