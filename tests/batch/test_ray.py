"""Ray: clusters of two nodes on this machine, nodes that die, actors that die, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twcodec.batch import on_ray
from twcodec.batch.on_ray import RayEngine
from twcodec.batch.tasks import Job, Task
from twcodec.errors import ExitCode, MissingError, TwcError

ray = pytest.importorskip("ray")

SMALL_STORE = 80 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """The head of a cluster, with one processor, to which this process is connected."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "object_store_memory": SMALL_STORE, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def folder(astronaut, tmp_path) -> Path:
    """18 pictures that take 50 ms each."""
    from PIL import Image

    (tmp_path / "in" / "sub").mkdir(parents=True)
    for i in range(18):
        name = f"sub/{i:02}.png" if i % 2 else f"{i:02}.png"
        Image.fromarray(astronaut[i * 8 :, i * 8 :][:176, :240]).save(tmp_path / "in" / name)
    return tmp_path


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    """`twc batch encode in -r --seed 7` in this folder, in a process group as a shell makes it."""
    command = [sys.executable, "-m", "twcodec", "batch", "encode", "in", "-r", "--seed", "7", *args]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def items(process: subprocess.Popen[str], count: int) -> None:
    """Wait until so many pictures are done."""
    assert process.stdout is not None
    for _ in range(count):
        event = json.loads(process.stdout.readline())
        assert event["event"] == "item", event
        assert event["status"] == "done", event


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix == ".twc"}


def processes_that_mention(text: str) -> list[str]:
    """Their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def test_two_nodes_make_the_bytes_of_the_local_engine_though_one_is_killed_midway(cluster, folder):
    local = start(folder, "-o", "local")
    _, said = local.communicate(timeout=60)
    assert local.returncode == 0, said
    node = cluster.add_node(num_cpus=1, object_store_memory=SMALL_STORE)
    process = start(folder, "-o", "out", "--engine", "ray", "--address", cluster.address, "--json")
    items(process, 4)
    cluster.remove_node(node, allow_graceful=False)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == ""
    events = [json.loads(line) for line in out.splitlines()]  # no line of Ray's among them
    assert events[-1]["done"] == 18
    assert contents(folder / "out") == contents(folder / "local")
    assert len(contents(folder / "out")) == 18


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes")
def test_a_cluster_of_ones_own_ends_with_ctrl_c_and_leaves_nothing(folder):
    process = start(folder, "-o", "out", "--engine", "ray", "--jobs", "1", "--json")
    items(process, 2)
    assert processes_that_mention("/twc-ray-")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "twc: finishing what was begun; Ctrl-C again stops at once\n"
    summary = json.loads(out.splitlines()[-1])
    assert 2 <= summary["done"] < 18
    assert len(contents(folder / "out")) == summary["done"]
    assert processes_that_mention("/twc-ray-") == []
    assert not [p for p in Path("/tmp").glob("twc-ray-*") if p.stat().st_uid == os.getuid() and any(p.iterdir())]


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense"])
def test_a_cluster_that_is_not_there_is_one_line_and_exit_8(folder, address):
    process = start(folder, "-o", "out", "--engine", "ray", "--address", address)
    _, err = process.communicate(timeout=15)
    assert process.returncode == ExitCode.MISSING
    assert err.startswith(f"twc: no Ray cluster can be reached at {address}: ")
    assert err.count("\n") == 1


def engine(monkeypatch, cluster, stand_in: type, count: int = 1) -> RayEngine:
    """On the cluster, with this in place of a worker."""
    monkeypatch.setattr(on_ray, "_Actor", stand_in)
    return RayEngine(Job("encode"), cluster.address, count)


def all_of(engine: RayEngine, *keys: str) -> dict[str, dict[str, Any]]:
    results = list(engine.run(iter([Task(key, f"{key}.png", f"{key}.twc") for key in keys])))
    assert len(results) == len(keys)
    return {task.key: record for task, record in results}


def test_a_picture_that_kills_its_actor_three_times_is_given_up_and_no_other(monkeypatch, cluster, tmp_path):
    log = tmp_path / "log"

    class Deadly:
        def __init__(self, job, of_node):
            pass

        def ready(self):
            return None

        def do(self, task):
            if task["key"] == "deadly":
                with log.open("a") as file:
                    file.write("died\n")
                os._exit(1)
            return {"status": "done", "source": task["source"], "overwrite": task["overwrite"]}

    found = all_of(engine(monkeypatch, cluster, Deadly, 2), "a", "deadly", *"bcdefgh")
    bad = found.pop("deadly")
    assert (bad["status"], bad["code"]) == ("failed", ExitCode.INTERNAL)
    assert bad["error"] == "3 processes that worked on it died"
    assert log.read_text() == 3 * "died\n"
    assert all(record["status"] == "done" for record in found.values())
    assert sum(record["overwrite"] for record in found.values()) <= 1  # waited behind it when it was not suspected yet
    assert found["a"]["source"] == "a.png"  # though it is sent with its whole path


def test_a_suspect_has_an_actor_for_itself():
    def actor() -> Any:
        return SimpleNamespace(do=SimpleNamespace(remote=lambda task: object()), ready=SimpleNamespace(remote=object))

    first, second = seats = [on_ray._Seat(actor(), ready=True), on_ray._Seat(actor(), ready=True)]
    crew = on_ray._Crew(None, list(seats))
    crew._suspects.append(Task("suspect", "s.png", "s.twc"))
    others = iter([Task(key, f"{key}.png", f"{key}.twc") for key in "abcdef"])
    for _ in range(2):
        assert crew.feed(others, 2)
        assert [task.key for task in first.tasks.values()] == ["suspect"]
        assert [task.key for task in second.tasks.values()] == ["a", "b"]
    first.tasks.clear()
    assert crew.feed(others, 2)
    assert [task.key for task in first.tasks.values()] == ["c", "d"]


def test_actors_that_cannot_start_are_one_error(monkeypatch, cluster):
    class Broken:
        def __init__(self, job, of_node):
            raise ImportError("no torch here")

        def ready(self):
            return None

    with pytest.raises(TwcError, match=r"^nothing can be started on the Ray cluster: .*no torch here$") as caught:
        all_of(engine(monkeypatch, cluster, Broken), "a")
    assert caught.value.exit_code == ExitCode.MISSING


def test_an_actor_without_a_model_ends_the_run_with_its_reason(monkeypatch, cluster):
    class Without:
        def __init__(self, job, of_node):
            pass

        def ready(self):
            return {"error": "no such model", "code": 5}

    with pytest.raises(TwcError, match=r"^no such model$") as caught:
        all_of(engine(monkeypatch, cluster, Without), "a")
    assert caught.value.exit_code == ExitCode.UNSUPPORTED


def planned(monkeypatch, nodes: list[dict[str, float]], count: int | None = None, **job: Any) -> RayEngine:
    """The engine as it would be on a cluster of these nodes."""
    alive = [{"Alive": True, "Resources": node} for node in nodes]
    gone = {"Alive": False, "Resources": {"CPU": 99, "GPU": 99}}
    fake = SimpleNamespace(is_initialized=lambda: True, nodes=lambda: [*alive, gone])
    monkeypatch.setattr(on_ray, "ray_itself", lambda: fake)
    return RayEngine(Job("encode", **job), count=count)


GIB = float(1 << 30)
PROCESSORS = [{"CPU": 4.0, "memory": 64 * GIB}, {"CPU": 16.0, "memory": 3 * GIB}]
GPUS = [{"CPU": 8.0}, {"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 4.0}]


@pytest.mark.parametrize(
    ("nodes", "count", "job", "workers", "share", "of_node"),
    [
        (PROCESSORS, None, {}, 4 + 4, (1, 0), 4),  # the second machine has memory for four
        (PROCESSORS, None, {"threads": 2}, 2 + 4, (2, 0), 4),
        (PROCESSORS, 20, {}, 20, (0.3333, 0), 12),
        (PROCESSORS, 3, {}, 3, (1, 0), 3),
        (GPUS, None, {}, 8, (0, 1), 4),
        (GPUS, 12, {}, 12, (0, 0.5), 8),  # two thirds of a GPU each would leave four without
        (GPUS, 2, {}, 2, (0, 1), 2),
        (GPUS, None, {"device": "cpu"}, 24, (1, 0), 8),
    ],
)
def test_every_actor_has_a_place(monkeypatch, nodes, count, job, workers, share, of_node):
    made = planned(monkeypatch, nodes, count, **job)
    assert made.workers == workers
    assert (made._share["num_cpus"], made._share["num_gpus"]) == share
    assert made._of_node == of_node


def test_an_actor_takes_the_gpu_that_it_is_given(monkeypatch):
    assert planned(monkeypatch, GPUS, device="cuda:3")._job.device == "cuda"
    assert planned(monkeypatch, GPUS)._job.device == "auto"
    assert planned(monkeypatch, GPUS, device="cpu")._job.device == "cpu"
    assert planned(monkeypatch, PROCESSORS)._job.device == "cpu"
    with pytest.raises(MissingError, match="no machine of the Ray cluster has a GPU"):
        planned(monkeypatch, PROCESSORS, device="cuda")


def test_actors_have_one_thread_or_as_many_as_asked_for(monkeypatch):
    assert planned(monkeypatch, PROCESSORS)._job.threads == 1
    assert planned(monkeypatch, PROCESSORS, threads=2)._job.threads == 2
