"""`twc` and `python` for a shell, without torch's second at each start: a process that has it forks for each command.

A shell finds the two commands in a folder; each hands its arguments and its streams to the server through a socket,
and ends as its fork does. So the shell, its pipes and its exit codes are real.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import socket
import stat
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

_MOST = 1 << 16
_CLIENT = """#!{python} -SE
import array, json, os, socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect({address!r})
    told = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    s.sendmsg([len(told).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    s.sendall(told)
    code = s.recv(1)
os._exit(code[0] if code else 139)
"""


@contextlib.contextmanager
def commands(folder: Path) -> Iterator[Path]:
    """A folder with `twc` and `python`, which work until the end of this."""
    address, bin_folder = str(folder / "socket"), folder / "bin"
    bin_folder.mkdir()
    for name in ("twc", "python"):
        path = bin_folder / name
        path.write_text(_CLIENT.format(python=sys.executable, address=address, name=name))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    server = subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield bin_folder
    finally:
        server.terminate()
        server.wait()
        if server.stdout:
            server.stdout.close()


def _serve(address: str) -> None:
    import twcodec.cli.main
    import twcodec.codec.codec
    import twcodec.imaging.present
    import twcodec.models.differentiable
    import twcodec.robustness.evaluation
    import twcodec.training.run  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    listening.close()
                    os._exit(_answer(connection))


def _answer(connection: socket.socket) -> int:
    """Be the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # some commands wait for processes of their own
    head, streams, _, _ = socket.recv_fds(connection, 4, 3)
    told = b""
    while len(told) < int.from_bytes(head, "big"):
        told += connection.recv(_MOST)
    name, args, folder, environment = json.loads(told)
    for wanted, given in enumerate(streams):
        os.dup2(given, wanted)
        os.close(given)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    try:
        _run(name, args)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    with contextlib.suppress(OSError):
        connection.sendall(bytes([code % 256]))
    return 0


def _run(name: str, args: list[str]) -> None:
    if name == "twc":
        from twcodec.cli.main import run

        sys.argv = ["twc", *args]
        run()
    elif args[0] == "-m":
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    elif args[0] == "-c":
        sys.argv = ["-c", *args[2:]]
        exec(args[1], {"__name__": "__main__"})  # as python does
    else:
        sys.argv = args
        sys.path.insert(0, str(Path(args[0]).resolve().parent))
        runpy.run_path(args[0], run_name="__main__")


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, which is for the tests
    _serve(sys.argv[1])
