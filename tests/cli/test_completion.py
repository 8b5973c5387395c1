"""`twc completion`: its scripts in real shells, as a person types, and the protocol behind them for every shell."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest

from twcodec.errors import UnreadableError
from twcodec.models import store

from .test_start_up import modules

PATIENCE = 20.0

CASES = [
    ("twc enc", "twc encode"),
    ("twc batch dec", "twc batch decode"),
    ("twc encode --metric ms-", "twc encode --metric ms-ssim"),
    ("twc encode --effo", "twc encode --effort"),
    ("twc encode --model default-c", "twc encode --model default-context"),
    ("twc encode pho", "twc encode photo.png"),
    ("twc decode -f 'photo.png' two", r"twc decode -f photo.png two\ words.twc"),
    ("twc encode --metric=ms-ssim --model=default-c", "twc encode --metric=ms-ssim --model=default-context"),
    ("twc --color nev", "twc --color never"),
    ("twc models pull cheng2020-at", "twc models pull cheng2020-attn"),
    ("twc decode --format ti", "twc decode --format tiff"),
    ("twc encode --transforms flip-turn,gr", "twc encode --transforms flip-turn,grid-shift"),
]


@pytest.fixture
def shell(tmp_path):
    """A folder to work in, with two files, and an environment in which `twc` is this one."""
    there, programs = tmp_path / "there", tmp_path / "programs"
    there.mkdir(), programs.mkdir()
    (there / "photo.png").touch(), (there / "two words.twc").touch()
    (programs / "twc").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m twcodec "$@"\n')
    (programs / "twc").chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    kept = {name: os.environ[name] for name in ("TWC_MODEL_DIR", "PYTHONPATH") if name in os.environ}
    return there, {**kept, "PATH": path, "HOME": str(tmp_path), "TERM": "dumb", "LC_ALL": "C.UTF-8"}


def typed(command: list[str], setup: str, lines: list[str], folder, env) -> list[str]:
    """What each line has become after the TAB key, in an interactive shell on a terminal."""
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover
        os.chdir(folder)
        os.execvpe(command[0], command, env)
    try:
        seen = ask(terminal, f"{setup}; echo READY''NOW\n", "READYNOW")
        found = []
        for number, line in enumerate(lines):
            # C-a to the beginning of the line: instead of running it, print it with a mark around it
            seen = ask(terminal, f"{line}\t\x01echo '<''{number}' '\x05' '{number}>'\n", f"{number}>")
            match = re.search(rf"<{number} (.*?) *{number}>", seen, re.DOTALL)
            found.append(match[1].strip() if match else seen)
        return found
    finally:
        os.close(terminal)
        os.kill(child, 9)
        os.waitpid(child, 0)


def ask(terminal: int, text: str, mark: str) -> str:
    """Type something, and read until a line of its output ends with the mark."""
    os.write(terminal, text.encode())
    seen, end = "", time.monotonic() + PATIENCE
    while not re.search(rf"(?<![']){re.escape(mark)}\r?\n", seen):
        ready = select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0]
        assert ready, f"nothing came after {text!r}: {seen!r}"
        seen += os.read(terminal, 65536).decode(errors="replace")
    return seen


@pytest.mark.parametrize(
    ("command", "setup"),
    [
        (["bash", "--norc", "-i"], 'eval "$(twc completion bash)"'),
        (["zsh", "-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$(twc completion zsh)"'),
        (["zsh", "-f", "-i"], "twc completion zsh > ../_twc; fpath+=${PWD:h}; autoload -Uz compinit; compinit -u -D"),
    ],
)
def test_as_a_person_types(shell, command, setup):
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    lines, expected = zip(*CASES, strict=True)
    assert typed(command, setup, list(lines), *shell) == list(expected)


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_in_fish(shell, line, expected):
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    folder, env = shell
    command = ["fish", "--no-config", "-c", 'twc completion fish | source; complete -C "$argv"', "--", line]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True, timeout=PATIENCE)
    offered = [found.split("\t")[0] for found in done.stdout.splitlines()]
    assert expected.replace("\\ ", "_").rpartition(" ")[2] in [word.replace(" ", "_") for word in offered]


def protocol(process, kind: str, words: str, at: int | str):
    """What twc answers to a shell's script."""
    env = {**os.environ, "_TWC_COMPLETE": f"{kind}_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
    return process(env=env)


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_every_shell_is_offered_the_commands_with_what_they_do(process, kind):
    from twcodec.cli.main import COMMANDS

    done = protocol(process, kind, "twc ", "" if kind == "fish" else 1)
    assert (done.code, done.err) == (0, "")
    for name, summary in COMMANDS.items():
        assert name in done.out.decode()
        assert kind == "bash" or summary in done.out.decode()


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_names_of_files_are_left_to_the_shell(process, kind):
    for words in ("twc encode pho", "twc info pho", "twc compare a pho", "twc train pho", "twc batch encode -o pho"):
        done = protocol(process, kind, words, "pho" if kind == "fish" else len(words.split()) - 1)
        assert done.out.decode().startswith("file"), (words, done)


@pytest.mark.parametrize("args", [("encode", "--model", ""), ("decode", "--format", ""), ("attack", "--attack", "")])
def test_completing_imports_no_torch_and_no_numpy(monkeypatch, args):
    monkeypatch.setenv("_TWC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"twc {' '.join(args)}")
    monkeypatch.setenv("COMP_CWORD", str(len(args)))
    code = "from twcodec.cli.main import _code_of\nassert _code_of([]) == 0"
    assert {"torch", "numpy", "PIL.Image"} & modules(code) == set()


def test_the_commands_are_offered_without_importing_one(monkeypatch):
    for name, value in (("_TWC_COMPLETE", "zsh_complete"), ("COMP_WORDS", "twc "), ("COMP_CWORD", "1")):
        monkeypatch.setenv(name, value)
    found = modules("from twcodec.cli.main import _code_of\nassert _code_of([]) == 0")
    assert "twcodec.cli.main" in found
    assert not {"twcodec.cli.encode", "twcodec.cli.info", "twcodec.cli.models"} & found


def test_stored_models_are_offered(process, tmp_path, monkeypatch):
    monkeypatch.setenv("TWC_MODEL_DIR", str(tmp_path))
    (tmp_path / f"night-{'0' * 32}.safetensors").write_bytes(b"x")
    assert b"plain,night" in protocol(process, "bash", "twc encode --model ni", 3).out
    assert b"plain,default-context" in protocol(process, "bash", "twc verify --model def", 3).out


@pytest.mark.parametrize("asked", ["tcsh_complete", "bash_source", "nonsense"])
def test_a_question_that_nobody_understands_is_met_with_silence(process, asked):
    done = process(env={**os.environ, "_TWC_COMPLETE": asked, "COMP_WORDS": "twc ", "COMP_CWORD": "1"})
    assert (done.code, done.out, done.err) == (0, b"", "")


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("given", [{}, {"COMP_WORDS": "twc enc"}, {"COMP_WORDS": "twc '", "COMP_CWORD": "x"}])
def test_a_question_with_parts_missing_is_met_with_silence(process, kind, given):
    env = {name: value for name, value in os.environ.items() if not name.startswith("COMP_")}
    done = process(env={**env, "_TWC_COMPLETE": f"{kind}_complete", **given})
    assert (done.code, done.err) == (0, "")
    assert b"internal" not in done.out


def test_a_damaged_store_of_models_says_nothing_in_the_prompt(twc, monkeypatch):
    def damaged():
        raise UnreadableError("the store cannot be read")

    monkeypatch.setattr(store, "entries", damaged)
    for name, value in {
        "_TWC_COMPLETE": "bash_complete",
        "COMP_WORDS": "twc encode --model ni",
        "COMP_CWORD": "3",
    }.items():
        monkeypatch.setenv(name, value)
    done = twc()
    assert (done.code, done.out, done.err) == (0, b"", "")


def test_the_scripts_are_whole_and_nothing_else(twc):
    for kind in ("bash", "zsh", "fish"):
        done = twc("completion", kind)
        assert (done.code, done.err) == (0, "")
        assert b"_TWC_COMPLETE" in done.out
    twc("completion", "csh").misused("csh", "bash", "zsh", "fish")
