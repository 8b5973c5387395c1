"""The order of events on CUDA streams, held with a stand-in that records it."""

import contextlib
import dataclasses

import torch

from twcodec.codec.lanes import Lanes


class Recorder:
    """Stands for torch.cuda: every call is a line."""

    def __init__(self):
        self.log, self.active = [], "main"

    def Stream(self, _device):
        return Stream(self, f"stream{sum(line.startswith('new') for line in self.log)}")

    def current_stream(self, _device):
        return Stream(self, self.active, new=False)

    @contextlib.contextmanager
    def stream(self, stream):
        self.active = stream.name
        yield
        self.active = "main"


class Stream:
    def __init__(self, recorder, name, new=True):
        self.recorder, self.name = recorder, name
        if new:
            recorder.log.append(f"new {name}")

    def record_event(self):
        self.recorder.log.append(f"{self.name} records")
        return f"event of {self.name}"

    def wait_event(self, event):
        self.recorder.log.append(f"{self.name} waits for {event}")


class Result:
    def __init__(self, recorder, name):
        self.recorder, self.name = recorder, name

    def record_stream(self, stream):
        self.recorder.log.append(f"{self.name} is used on {stream.name}")


def test_branches_start_after_the_input_and_end_before_the_choice():
    cuda, device = Recorder(), torch.device("cuda")
    lanes = Lanes(device, 2, cuda)
    for i in range(2):
        with lanes[i]:
            cuda.log.append(f"branch {i} runs on {cuda.active}")
    lanes.join([[Result(cuda, "a")], [Result(cuda, "b")]], device)
    assert cuda.log == [
        "new stream0",
        "new stream1",
        "main records",
        "stream0 waits for event of main",
        "stream1 waits for event of main",
        "branch 0 runs on stream0",
        "branch 1 runs on stream1",
        "stream0 records",
        "main waits for event of stream0",
        "a is used on main",
        "stream1 records",
        "main waits for event of stream1",
        "b is used on main",
    ]


def test_every_tensor_of_a_branch_is_handed_over():
    from twcodec.codec.branch import Branch
    from twcodec.exact.symbols import Symbols

    parts = [f for f in dataclasses.fields(Symbols) if f.type == "Tensor"]
    symbols = Symbols(*(torch.zeros(1) + i for i in range(len(parts))))
    branch = Branch(None, symbols, torch.tensor(10.0), torch.tensor(11.0), torch.tensor(12.0))
    held = [v for part in (symbols, branch) for v in vars(part).values() if isinstance(v, torch.Tensor)]
    assert {id(t) for t in branch.tensors()} == {id(t) for t in held}


def test_streams_are_used_again():
    cuda, device = Recorder(), torch.device("cuda")
    Lanes(device, 1, cuda)
    Lanes(device, 3, cuda)
    Lanes(device, 2, cuda)
    assert sum(line.startswith("new") for line in cuda.log) == 3


def test_without_cuda_there_are_no_streams():
    cuda, device = Recorder(), torch.device("cpu")
    lanes = Lanes(device, 2, cuda)
    with lanes[1]:
        pass
    lanes.join([[], []], device)
    assert cuda.log == []
