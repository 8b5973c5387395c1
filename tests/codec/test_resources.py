"""What the process may use of the machine: read from kernels of our own making, and from this one under real limits."""

import concurrent.futures
import os
import resource
import subprocess
import sys
import textwrap
import threading

import pytest
import torch
from PIL import Image

import twcodec
from twcodec.codec import control_groups, resources, runtime
from twcodec.codec.allocator import give_back_freed_memory
from twcodec.errors import LimitError, UsageError

G, M, K = 1 << 30, 1 << 20, 1 << 10
CPU = torch.device("cpu")
PAGE = os.sysconf("SC_PAGE_SIZE")
UNLIMITED_1 = str(9223372036854771712)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 processors with 100 GB free, and other files as given: machine({"proc/self/cgroup": "0::/"})."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))

    def make(files=(), free=100 * G):
        whole = {
            "proc/meminfo": f"MemTotal: 134217728 kB\nMemFree: 1 kB\nMemAvailable: {free // K} kB\nBuffers: 1 kB\n",
            "proc/self/statm": "300000 100000 20000 1 0 200000 0\n",
            **dict(files),
        }
        for name, text in whole.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(tmp_path)

    return make


def version_2(path, **groups):
    """Files of a hierarchy of version 2; groups: "" is the mount point."""
    files = {"proc/self/cgroup": f"0::{path}\n", "sys/fs/cgroup/cgroup.controllers": "cpu memory\n"}
    for group, contents in groups.items():
        for name, text in contents.items():
            files[f"sys/fs/cgroup/{group.replace('__', '/')}/{name}"] = text + "\n"
    return files


# processors


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("150000 100000", 2),
        ("200000 100000", 2),
        ("200001 100000", 3),
        ("1000 100000", 1),
        ("max 100000", 64),
        ("99999999999 100000", 64),
        ("", 64),
        ("0 100000", 64),
        ("100000 0", 64),
        ("-1 100000", 64),
        ("100000", 64),
        ("lots 100000", 64),
        ("1e5 1e5", 64),
        ("1" * 5000 + " 100000", 64),
    ],
)
def test_a_quota_is_rounded_up_and_nonsense_is_none(machine, quota, count):
    root = machine(version_2("/app", app={"cpu.max": quota}))
    assert resources.processors(root) == count


def test_the_lowest_quota_on_the_way_to_the_root_counts(machine):
    files = version_2("/a/b/c", a={"cpu.max": "300000 100000"}, a__b={"cpu.max": "max 100000"}, a__b__c={"cpu.max": "800000 100000"})  # fmt: skip
    assert resources.processors(machine(files)) == 3


def test_a_neighbours_quota_does_not_count(machine):
    files = version_2("/ab", a={"cpu.max": "100000 100000"}, ab={"cpu.max": "max 100000"}, ab__x={"cpu.max": "100000 100000"})  # fmt: skip
    assert resources.processors(machine(files)) == 64


@pytest.mark.parametrize("path", ["/", "/docker/1234", "/../../system.slice", "/gone (deleted)", "//", ""])
def test_in_a_container_the_mount_point_is_the_own_group(machine, path):
    files = version_2(path) | {"sys/fs/cgroup/cpu.max": "250000 100000"}
    files |= {"sys/system.slice/cpu.max": "100000 100000"}  # where the dots would lead
    assert resources.processors(machine(files)) == 3


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_version_1_has_a_folder_for_each_controller(machine, folder):
    files = {
        "proc/self/cgroup": "5:memory:/m\n4:cpu,cpuacct:/job\n3:cpuset:/set\n1:name=systemd:/x\n0::/y\n",
        f"sys/fs/cgroup/{folder}/cpu.cfs_quota_us": "-1\n",
        f"sys/fs/cgroup/{folder}/cpu.cfs_period_us": "100000\n",
        f"sys/fs/cgroup/{folder}/job/cpu.cfs_quota_us": "350000\n",
        f"sys/fs/cgroup/{folder}/job/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpuset/set/cpu.cfs_quota_us": "100000\n",
        "sys/fs/cgroup/unified/cgroup.controllers": "\n",
    }
    assert resources.processors(machine(files)) == 4


def test_both_versions_at_once(machine):
    files = {
        "proc/self/cgroup": "1:name=systemd:/x\n0::/y:z\n",
        "sys/fs/cgroup/unified/y:z/cpu.max": "500000 100000",
        "sys/fs/cgroup/y:z/cpu.max": "100000 100000",
    }
    assert resources.processors(machine(files)) == 5


def test_affinity_counts_and_processors_do_where_there_is_none(machine, monkeypatch):
    root = machine(version_2("/app", app={"cpu.max": "800000 100000"}))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 7})
    assert resources.processors(root) == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert resources.processors(root) == 1


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe\n::\n0\n:\n0::/\xe9\n", b"0::" + b"/x" * 3000, b"0::/a\0b\n"])
def test_what_cannot_be_read_limits_nothing(machine, junk):
    root = machine({"proc/self/cgroup": junk, "sys/fs/cgroup/cgroup.controllers": ""})
    assert (resources.processors(root), resources.available_memory(root)) == (64, 100 * G)


def test_a_folder_where_a_file_should_be_limits_nothing(machine):
    root = machine(version_2("/app") | {"sys/fs/cgroup/app/cpu.max/x": "", "sys/fs/cgroup/app/memory.max/x": ""})
    assert (resources.processors(root), resources.available_memory(root)) == (64, 100 * G)


def test_the_users_word_on_threads_is_final(machine, monkeypatch):
    root = machine(version_2("/app", app={"cpu.max": "400000 100000"}))
    assert [resources.threads(own, root) for own in (1, 3, 64)] == [1, 3, 4]  # torch.set_num_threads may be lower
    for word in ("64", "64,2", " 64 "):
        monkeypatch.setenv("OMP_NUM_THREADS", word)
        assert resources.threads(64, root) == 64
    for nonsense in ("", "many", "0", "-2", ","):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert resources.threads(64, root) == 4


# memory


def test_what_the_machine_has_free_is_available(machine):
    assert resources.available_memory(machine(free=5 * G)) == 5 * G


def test_a_group_leaves_its_limit_less_its_use_but_for_idle_file_cache(machine):
    stat = "anon 5\nfile 900\ninactive_file 104857600\nactive_file 7\n"
    files = version_2("/app", app={"memory.max": str(2 * G), "memory.current": str(G), "memory.stat": stat})
    assert resources.available_memory(machine(files)) == G + 100 * M


def test_where_a_group_begins_to_be_slowed_down_it_is_full(machine):
    files = version_2("/app", app={"memory.max": "max", "memory.high": str(2 * G), "memory.current": str(G)})
    assert resources.available_memory(machine(files)) == G


def test_a_group_above_may_have_less(machine):
    files = version_2(
        "/a/b",
        a={"memory.max": str(3 * G), "memory.current": str(2 * G), "memory.stat": "inactive_file 0"},
        a__b={"memory.max": str(2 * G), "memory.current": str(M)},
    )
    assert resources.available_memory(machine(files)) == G


def test_version_1_counts_the_cache_of_the_children_too(machine):
    memory = "sys/fs/cgroup/memory"
    files = {
        "proc/self/cgroup": "4:memory:/job\n",
        f"{memory}/memory.limit_in_bytes": UNLIMITED_1,
        f"{memory}/memory.usage_in_bytes": str(90 * G),
        f"{memory}/job/memory.limit_in_bytes": str(3 * G),
        f"{memory}/job/memory.usage_in_bytes": str(2 * G),
        f"{memory}/job/memory.stat": f"inactive_file 1\ntotal_inactive_file {G}\n",
    }
    assert resources.available_memory(machine(files)) == 2 * G


@pytest.mark.parametrize(
    ("contents", "available"),
    [
        ({"memory.max": "max", "memory.current": str(G)}, 100 * G),
        ({"memory.max": "-1", "memory.current": str(G)}, 100 * G),
        ({"memory.max": "2 GB", "memory.current": str(G)}, 100 * G),
        ({"memory.max": str(G)}, G - 100000 * PAGE),
        ({"memory.max": str(G), "memory.current": "?", "memory.stat": "inactive_file"}, G - 100000 * PAGE),
        ({"memory.max": str(G), "memory.current": "5", "memory.stat": "inactive_file 99\n\nx\n"}, G),
        ({"memory.max": str(G), "memory.current": str(2 * G)}, 0),
        ({"memory.max": "0", "memory.current": "0"}, 0),
    ],
)
def test_odd_groups(machine, contents, available):
    assert resources.available_memory(machine(version_2("/app", app=contents))) == available


@pytest.mark.parametrize("meminfo", ["", "MemAvailable:\n", "MemAvailable: lots kB\n"])
def test_an_old_kernel_or_none_tells_less(machine, monkeypatch, meminfo):
    root = machine({"proc/meminfo": meminfo, "proc/self/statm": ""})
    assert 0 < resources.available_memory(root) < 1 << 50
    monkeypatch.setattr(os, "sysconf_names", {"SC_PHYS_PAGES": 85})  # macOS
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": PAGE}[name])
    assert resources.available_memory(root) == 500 * PAGE
    monkeypatch.delattr(os, "sysconf")  # Windows
    assert resources.available_memory(root) is None


def test_the_budget_is_a_share_of_what_is_free_and_what_there_is_already(machine):
    assert resources.budget(None, machine(free=10 * G)) == 8 * G + 100000 * PAGE
    assert resources.budget(3 * G, machine(free=10 * G)) == 3 * G


def test_the_budget_where_nothing_can_be_known(machine, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert resources.budget(None, machine({"proc/meminfo": "", "proc/self/statm": ""})) == 4 * G


def test_resident_memory_is_that_of_this_process():
    give_back_freed_memory()  # or what follows may be had from what earlier tests left
    before = resources.resident()
    taken = bytearray(os.urandom(1)) * (64 * M)
    assert 60 * M < resources.resident() - before < 80 * M
    assert len(taken) == 64 * M
    assert before < 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + M


@pytest.mark.parametrize("statm", ["", "1 2 3", "a b c d e f g", "1 2 3 4 5 6 x"])
def test_resident_memory_is_the_peak_where_no_more_is_told(machine, statm):
    root = machine({"proc/self/statm": statm})
    assert abs(resources.resident(root) - 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) < M


def test_this_machine_tells_something():
    assert 1 <= resources.processors() <= os.cpu_count()
    assert 0 < resources.available_memory() < 1 << 50
    assert resources.resident() < resources.budget(None)
    assert all(quota > 0 and period > 0 for quota, period in control_groups.quotas())


@pytest.mark.parametrize(("limit", "column"), [("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")])
def test_a_shells_limit_on_memory_is_seen(limit, column):
    code = f"""
        import resource
        from twcodec.codec import resources
        resource.setrlimit(resource.{limit}, ({1 * G}, resource.RLIM_INFINITY))
        used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("{column}:"))
        print({1 * G} - 1024 * used - resources.available_memory())
    """
    assert abs(int(output(code))) < M


def under(limit, kilobytes, *args):
    """`twc` with these arguments under `ulimit LIMIT`: its exit code and what it says."""
    command = ["bash", "-c", f'ulimit {limit} {kilobytes} && exec "$@"', "-", sys.executable, "-m", "twcodec", *args]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize(("limit", "kilobytes"), [("-v", 150_000), ("-v", 600_000), ("-d", 100_000), ("-d", 220_000)])
def test_too_little_memory_to_begin_is_said_before_anything_can_crash(codec, astronaut, tmp_path, limit, kilobytes):
    """torch ends the process, leaves a traceback, or hangs, as it happens."""
    Image.fromarray(astronaut[:40, :50]).save(tmp_path / "a.png")
    (tmp_path / "a.twc").write_bytes(codec.encode(tmp_path / "a.png"))
    for args in (["encode", "-f", "a.png", "b.twc"], ["decode", "a.twc", "b.png"], ["verify", "a.twc"]):
        args[1:] = [tmp_path / name if "." in name else name for name in args[1:]]
        code, said = under(limit, kilobytes, *args)
        assert (code, said.count("\n")) == (6, 1), said
        assert f"not enough memory to begin: ulimit {limit} leaves" in said
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.twc"}


def test_a_machine_without_memory_is_a_limit_before_torch_is_loaded(machine, monkeypatch):
    resources.check_room_to_load(machine(free=M))  # torch is loaded here
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(LimitError, match="the machine leaves 1M,"):
        resources.check_room_to_load(machine(free=M))
    resources.check_room_to_load(machine(free=G))
    full = version_2("/app", app={"memory.max": str(G), "memory.current": str(G)})
    with pytest.raises(LimitError, match="the machine leaves 0M,"):
        resources.check_room_to_load(machine(full))


def test_a_shells_affinity_is_seen():
    code = """
        import os
        from twcodec.codec import resources
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(resources.processors())
    """
    assert output(code) == "1"


def test_looking_at_the_machine_imports_nothing_heavy():
    code = "import sys; from twcodec.codec import resources; print({'torch', 'numpy', 'decimal'} & set(sys.modules))"
    assert output(code) == "set()"


def output(code):
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


# what a call does with them


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_processors(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(resources, "processors", lambda root="": 2)


def counts(threads):
    """torch's count inside of a call, and after it."""
    with runtime.running(CPU, threads):
        inside = torch.get_num_threads()
    return inside, torch.get_num_threads()


def test_a_call_takes_no_more_threads_than_processors_and_gives_torchs_count_back(four_threads, two_processors):
    assert counts(None) == (2, 4)


def test_a_users_own_count_is_kept_where_it_is_lower_or_was_asked_for(four_threads, two_processors, monkeypatch):
    assert counts(3) == (3, 4)
    torch.set_num_threads(1)
    assert counts(None) == (1, 1)
    torch.set_num_threads(4)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert counts(None) == (4, 4)


def test_a_thread_that_is_new_does_not_inherit_the_count_of_another_threads_call(four_threads, two_processors):
    for threads in (None, 3):
        with runtime.running(CPU, 1), concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert pool.submit(counts, threads).result() == (threads or 2, 4)
        assert torch.get_num_threads() == 4


def test_threads_with_counts_of_their_own_keep_them(four_threads, two_processors):
    """A pool whose threads are set to 1 each, and calls from it and from the main thread that overlap."""
    torch.set_num_threads(2)
    both = threading.Barrier(3)

    def work(threads):
        torch.set_num_threads(1)
        with runtime.running(CPU, threads):
            both.wait(60)
            both.wait(60)
            inside = torch.get_num_threads()
        return inside, torch.get_num_threads()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        done = [pool.submit(work, threads) for threads in (None, 3)]
        both.wait(60)
        with runtime.running(CPU, None):
            assert torch.get_num_threads() == 2
            both.wait(60)
        assert [each.result() for each in done] == [(1, 1), (3, 1)]
    assert torch.get_num_threads() == 2


def test_an_error_gives_the_count_back_too(four_threads, two_processors):
    with pytest.raises(KeyError), runtime.running(CPU, None):
        raise KeyError
    assert torch.get_num_threads() == 4


def test_many_calls_with_many_counts_leave_everything_as_it_was(four_threads, two_processors):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(counts, [None, 1, 2, 3, 5, None, 1, 8] * 100))
        assert {after for _, after in done} == {4}
        assert set(pool.map(lambda _: torch.get_num_threads(), range(50))) == {4}
    assert torch.get_num_threads() == 4
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 4
    assert runtime._threads._held == []


def faults_of_tensors(first, **environment):
    """Page faults of making twenty tensors of 20 MB (5120 pages), one after the other, in a new process, after `first`."""
    code = f"""
        import resource, torch
        from twcodec.codec import allocator
        print({first}, end=" ")
        def make():
            return torch.zeros(5 << 20).add_(1)
        make(), make()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            make()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, env={**os.environ, **environment}
    )
    return done.stdout.split()


def test_memory_that_was_freed_is_kept_where_the_command_line_asks_for_it():
    done, faults = faults_of_tensors("allocator.keep_freed_memory()")
    assert (done, int(faults) < 40_000) == ("True", True), faults
    for environment in ({"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}):
        done, faults = faults_of_tensors("allocator.keep_freed_memory()", **environment)
        assert (done, int(faults) > 80_000) == ("False", True), faults


@pytest.mark.parametrize("wrong", [0, -1, 64 * M - 1, True, 2.5e9, "2G", float("nan")])
def test_a_memory_limit_that_cannot_be_meant_is_refused(wrong):
    with pytest.raises(UsageError, match="memory"):
        twcodec.open_codec(device="cpu", max_memory=wrong)


def test_a_codec_keeps_its_memory_limit():
    assert twcodec.open_codec(device="cpu", max_memory=3 * G)._max_memory == 3 * G
    assert twcodec.open_codec(device="cpu")._max_memory is None
