"""Connecting to a Ray cluster, or starting one, without a word on the terminal and without minutes of waiting."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from twcodec.codec import resources
from twcodec.errors import MissingError

_OBJECT_STORE = 100 << 20
"""Bytes of shared memory on a cluster that is started here: only names and records are sent. Ray's least is 75 MB."""

_CONNECT = 5.0
"""Seconds for a cluster to answer. Ray itself waits for minutes, and prints lines of its own meanwhile."""


def ray_itself() -> Any:
    """The library. MissingError: it is not there."""
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "3")  # before the import; for what is there, but not Ray
    try:
        import ray
    except ImportError:
        raise MissingError("--engine ray needs Ray: pip install 'twcodec[batch]'") from None
    return ray


def connect(ray: Any, address: str) -> None:
    """MissingError: in one line, and soon. address: "local" starts a cluster here, "auto" takes one that was."""
    own: dict[str, Any] = {}
    if address == "local":
        own = {"num_cpus": resources.processors(), "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
        own["_temp_dir"] = _folder(ray)
    where = "this machine" if address in ("local", "auto") else address
    _silence(ray)
    try:
        _probe(ray, address)
        with _own_signals(defer=address == "local"):
            ray.init(address=address, log_to_driver=False, logging_level="critical", **own)
    except (OSError, ValueError, RuntimeError, OverflowError, ray.exceptions.RayError) as error:
        raise MissingError(f"no Ray cluster can be reached at {where}: {line(error)}") from None


def _folder(ray: Any) -> str:
    """Of a cluster started here, which ends with this process: in Ray's own, "auto" would find it ever after.

    There are sockets in it, whose paths may have 107 characters, of which Ray takes 70.
    """
    short = tempfile.gettempdir() if len(tempfile.gettempdir()) < 20 else "/tmp"
    folder = tempfile.mkdtemp(prefix="twc-ray-", dir=short)

    def end() -> None:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return folder


def _silence(ray: Any) -> None:
    """Nothing on the user's terminal, or in the events on standard output, when a machine dies or a message is new."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # some come before `init` has read its argument
    with contextlib.suppress(AttributeError):
        ray._private.worker._worker_logs_enabled = False  # as in Ray's debugger; no argument of `init` does it


def _probe(ray: Any, address: str) -> None:
    """OSError where nothing listens at host:port. Ray means the machine's own address where it is told 127.0.0.1."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdecimal():
        return
    host = host.strip("[]")
    if host in ("127.0.0.1", "localhost", "::1"):
        host = ray.util.get_node_ip_address()
    socket.create_connection((host, int(port)), _CONNECT).close()


@contextlib.contextmanager
def _own_signals(defer: bool) -> Iterator[None]:
    """Keep the handlers: Ray has its own for SIGTERM, but a run ends by itself.

    defer: Ctrl-C comes into effect afterwards; of a cluster that is half started, processes would stay.
    """
    if threading.current_thread() is not threading.main_thread():  # others have no handlers, and Ray sets none
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    seen: list[int] = []
    try:
        if defer:
            signal.signal(signal.SIGINT, lambda number, _frame: seen.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for again in seen:
        signal.raise_signal(again)


def line(error: Exception) -> str:
    """What Ray says, in one line: the end of a trace, where there is one."""
    text = str(getattr(error, "cause", None) or getattr(error, "strerror", None) or error)
    lines = text.rstrip().splitlines() or [type(error).__name__]
    raised = re.match(r"[\w.]+(Error|Exception|Exit): ", lines[-1])
    return " ".join((lines[-1] if raised else text).split())[:300]
