"""What is measured, on made-up times: no test waits for a clock or depends on the machine."""

import json
import math
import os
import socket
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lib.memory import measure, speeds
from lib.memory.contention import Race, Timing
from lib.memory.cost import Cost
from lib.memory.devices import Device, MemoryLevel
from lib.memory.json_file import write_json
from lib.memory.machine import Cache, cpu_caches, memory_bytes, processor_name
from lib.memory.measure import Comparison, predict_and_measure

REFERENCE = Path(measure.__file__).with_name("reference_cpu.json")


class FakeTimer:
    """Runs each operation once, keeps what it returned, says that it took the next of `seconds`."""

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.results = list(seconds), []

    def __call__(self, operation) -> Timing:
        self.results.append(operation())
        seconds = self.seconds.pop(0)
        return Timing(2 * seconds, (2 * seconds, seconds, 3 * seconds), clean=True)


def fake_race(operations) -> Race:
    timer = FakeTimer(1.0, 2.0)
    return Race({name: timer(run) for name, run in operations.items()})


@pytest.mark.parametrize("num_bytes", [4, 4096, 3 * 2**20, 2**25, 2**26])
def test_read_bandwidth_counts_every_byte_that_is_summed(num_bytes):
    timer = FakeTimer(0.5)
    rate = speeds.read_bandwidth(num_bytes, timer=timer)
    sums = timer.results[0]
    assert sums.sum(dtype=torch.float64) * 4 / 0.5 == rate
    assert rate * 0.5 >= 2**25
    assert sums.unique().tolist() == [num_bytes / 4]


def test_read_bandwidth_of_an_odd_size_covers_it():
    timer = FakeTimer(1.0)
    speeds.read_bandwidth(1001, timer=timer)
    assert timer.results[0][0] == 251


def test_copy_bandwidth_counts_both_directions():
    timer = FakeTimer(0.25)
    assert speeds.copy_bandwidth(1000, timer=timer) == 8000
    assert timer.results[0].tolist() == [1] * 1000


def test_cache_ladder_has_a_rung_for_each_size():
    ladder = speeds.cache_ladder([2**25, 2**26], timer=FakeTimer(1.0, 4.0))
    assert ladder == {2**25: 2**25, 2**26: 2**24}


@pytest.mark.parametrize("dtype", ["float32", torch.bfloat16])
def test_matmul_peak_is_flops_over_the_best_time(dtype):
    timer = FakeTimer(0.5)
    assert speeds.matmul_peak(dtype, 8, timer=timer) == 2 * 8**3 / 0.5
    assert timer.results[0].shape == (8, 8)
    assert str(timer.results[0].dtype).endswith(str(dtype).removeprefix("torch."))


@pytest.mark.parametrize("dtype", ["float33", "int32", "nn"])
def test_matmul_peak_refuses_what_is_no_floating_point_type(dtype):
    with pytest.raises(ValueError, match=f"floating-point type.*got '{dtype}'"):
        speeds.matmul_peak(dtype, 8, timer=FakeTimer(1.0))


def test_operation_overhead_is_the_usual_time_not_the_best():
    assert speeds.operation_overhead(timer=FakeTimer(1e-6)) == 2e-6


class StridesOfSums(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.strides = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if operator.overloadpacket is torch.ops.aten.sum:
            self.strides.append(args[0].stride())
        return operator(*args, **(kwargs or {}))


def test_strided_read_sums_the_same_columns_stored_in_two_ways():
    with StridesOfSums() as seen:
        result = speeds.strided_read(5, 3, racer=fake_race)
    assert seen.strides == [(1,)] * 3 + [(3,)] * 3
    assert result.ratio("strided", to="contiguous") == 2.0


def test_a_random_chain_is_one_ring_through_every_cache_line():
    chain, here, seen = speeds.random_chain(100 * 64).tolist(), 0, []
    for _ in range(100):
        seen.append(here)
        here = chain[here]
    assert here == 0
    assert sorted(seen) == list(range(0, 800, 8))
    assert seen != sorted(seen)


def test_load_latency_takes_off_the_interpreter():
    steps = speeds.STEPS_PER_CALL
    timer = FakeTimer(30e-9 * steps, 230e-9 * steps)
    assert math.isclose(speeds.load_latency(2**16, timer=timer), 200e-9)


def test_a_latency_that_the_interpreter_hides_is_not_given():
    steps = speeds.STEPS_PER_CALL
    assert speeds.load_latency(2**16, timer=FakeTimer(30e-9 * steps, 55e-9 * steps)) is None


def test_a_chase_goes_on_where_it_stopped(monkeypatch):
    monkeypatch.setattr(speeds, "STEPS_PER_CALL", 3)
    looked_up = []

    class Chain(list):
        def __getitem__(self, index):
            looked_up.append(index)
            return super().__getitem__(index)

    monkeypatch.setattr(speeds, "memoryview", lambda array: Chain(array.tolist()), raising=False)
    chase = speeds._chase(6 * 64)
    chase()
    chase()
    assert sorted(looked_up) == [0, 8, 16, 24, 32, 40]


def test_rotate_makes_enough_operands_to_fill_the_last_cache_twice(monkeypatch):
    monkeypatch.setattr(speeds, "caches", lambda: (Cache("L1", 10, 2), Cache("L2", 500, 2)))
    made = []

    def make():
        made.append(len(made))
        return partial(int, made[-1])

    operation = speeds.rotate(make, 700)
    assert made == [0, 1, 2, 3]
    assert [operation() for _ in range(6)] == [0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize(
    "function", [speeds.read_bandwidth, speeds.copy_bandwidth, speeds.load_latency]
)
def test_sizes_that_are_not_positive_are_refused(function):
    with pytest.raises(ValueError, match=r"num_bytes must be a positive whole number.*got 0"):
        function(0, timer=FakeTimer(1.0))


def make_system_caches(root: Path, cores: dict[str, list[tuple[str, str, str, str]]]) -> None:
    for core, indices in cores.items():
        for number, (level, kind, size, shared) in enumerate(indices):
            folder = root / core / "cache" / f"index{number}"
            folder.mkdir(parents=True)
            fields = {"level": level, "type": kind, "size": size, "shared_cpu_list": shared}
            for name, text in fields.items():
                (folder / name).write_text(text + "\n")


def test_caches_of_the_system_are_counted_once_per_instance(tmp_path):
    make_system_caches(
        tmp_path,
        {
            f"cpu{core}": [
                ("1", "Data", "48K", str(core)),
                ("1", "Instruction", "32K", str(core)),
                ("2", "Unified", "2048K", str(core)),
                ("3", "Unified", "32768K", "0-1"),
            ]
            for core in (0, 1)
        },
    )
    (tmp_path / "cpufreq").mkdir()
    found = cpu_caches(tmp_path)
    assert found == (
        Cache("L1", 48 * 1024, 2),
        Cache("L2", 2 * 2**20, 2),
        Cache("L3", 32 * 2**20, 1),
    )
    assert found[0].capacity_bytes == 96 * 1024


def test_a_system_that_says_nothing_has_no_known_caches(tmp_path):
    assert cpu_caches(tmp_path / "missing") == ()


def test_the_machine_has_a_processor_and_memory():
    assert processor_name().strip()
    assert memory_bytes() > 0


def test_predicted_and_measured_times_stand_side_by_side():
    machine = Device("made up", {"float32": 100.0}, bandwidth=10.0, memory_bytes=1e9)
    operations = {
        "compute": (Cost(1000, 10, 0), lambda: None),
        "memory": (Cost(10, 60, 40), lambda: None),
    }
    rows = predict_and_measure(operations, device=machine, timer=FakeTimer(10.0, 2.5), overhead=1.0)
    assert rows == [
        Comparison("compute", 11.0, 20.0, clean=True),
        Comparison("memory", 11.0, 5.0, clean=True),
    ]
    assert [row.ratio for row in rows] == [0.55, 2.2]


@pytest.fixture
def fake_speeds(monkeypatch):
    """A machine of two caches on which every measurement has its answer ready."""
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(measure, "caches", lambda: (Cache("L1", 2**16, 4), Cache("L2", 2**24, 1)))
    monkeypatch.setattr(measure, "memory_bytes", lambda: 2**33)

    def matmul_peak(dtype, size, *, timer):
        calls.append((dtype, size))
        return {"float32": 1e9, "bfloat16": 4e9, "float16": 5e9}[dtype] - abs(size - 1024)

    monkeypatch.setattr(measure, "matmul_peak", matmul_peak)
    monkeypatch.setattr(measure, "read_bandwidth", lambda num_bytes, *, timer: 2.0**60 / num_bytes)
    monkeypatch.setattr(measure, "load_latency", lambda num_bytes, *, timer: num_bytes * 1e-15)
    return calls


def expected_machine(beyond: int) -> Device:
    levels = (
        MemoryLevel("L1", 2**18, 2.0**60 / 2**15, None),
        MemoryLevel("L2", 2**24, 2.0**60 / 2**20, 2**20 * 1e-15),
        MemoryLevel("global memory", 2**33, 2.0**60 / beyond, beyond * 1e-15),
    )
    peaks = {"float32": 1e9, "bfloat16": 4e9}
    return Device("this machine", peaks, 2.0**60 / beyond, 2**33, levels)


@pytest.mark.parametrize(("quick", "beyond"), [(True, 2**28), (False, 2**30)])
def test_this_machine_as_a_device(fake_speeds, quick, beyond):
    assert measure.measure_device(quick=quick, timer=FakeTimer()) == expected_machine(beyond)
    sizes = [1024] if quick else [256, 512, 1024, 2048, 4096]
    assert fake_speeds == [(dtype, n) for dtype in ("float32", "bfloat16") for n in sizes]


def test_a_gpu_has_float16_too_and_is_not_asked_for_latencies(fake_speeds, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    machine = measure.measure_device(timer=FakeTimer())
    assert fake_speeds == [("float32", 4096), ("bfloat16", 4096), ("float16", 4096)]
    assert list(machine.peak_flops) == ["float32", "bfloat16", "float16"]
    assert [level.latency_seconds for level in machine.levels] == [None] * 3
    assert machine.bandwidth == 2.0**60 / 2**30


def test_it_is_silent_unless_asked(fake_speeds, capsys):
    measure.measure_device(timer=FakeTimer())
    assert capsys.readouterr().out == ""
    measure.measure_device(timer=FakeTimer(), verbose=True)
    assert len(capsys.readouterr().out.splitlines()) == 2 + 3


def test_the_command_writes_what_it_measured(fake_speeds, tmp_path, capsys):
    path = tmp_path / "machine.json"
    measure.main(["--quick", "--json", str(path), "--name", "reference CPU: made up"])
    written, machine = json.loads(path.read_text()), expected_machine(2**28)
    assert written["name"] == "reference CPU: made up"
    assert written["dtypes"] == {"float32": 1e9, "bfloat16": 4e9}
    assert written["bandwidth"] == machine.bandwidth
    assert [MemoryLevel(**level) for level in written["levels"]] == list(machine.levels)
    assert str(tmp_path) not in path.read_text()
    assert "0 of 0 quantities" in written["method"]
    assert "GFLOP/s" in capsys.readouterr().out


def test_the_method_counts_the_clean_timings():
    timings = iter([Timing(1.0, (1.0,), clean=True), Timing(1.0, (1.0,), clean=False)])
    logbook = measure._Logbook(lambda operation: next(timings))
    assert logbook(int).clean and not logbook(int).clean
    assert "under 5% of the cores; 1 of 2 quantities" in logbook.method


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "machine.json"
    write_json({"bandwidth": 1.0}, path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"bandwidth": math.nan}, path)
    assert json.loads(path.read_text()) == {"bandwidth": 1.0}
    assert [entry.name for entry in tmp_path.iterdir()] == ["machine.json"]


def test_a_file_is_replaced_not_written_over(tmp_path):
    """Whoever has the old file open, or linked, keeps the whole of it."""
    path, link = tmp_path / "machine.json", tmp_path / "link.json"
    write_json({"bandwidth": 1.0}, path)
    os.link(path, link)
    write_json({"bandwidth": 2.0}, path)
    assert json.loads(path.read_text()) == {"bandwidth": 2.0}
    assert json.loads(link.read_text()) == {"bandwidth": 1.0}


def test_the_committed_reference_is_complete_and_says_nothing_of_its_host():
    text = REFERENCE.read_text()
    reference = json.loads(text)
    assert reference["name"].startswith("reference CPU")
    assert set(reference["dtypes"]) == {"float32", "bfloat16"}
    assert reference["levels"][-1]["name"] == "global memory"
    assert reference["levels"][-1]["bandwidth"] == reference["bandwidth"]
    bandwidths = [level["bandwidth"] for level in reference["levels"]]
    assert bandwidths == sorted(bandwidths, reverse=True)
    assert {"cpu", "cores", "method", "versions", "command", "date"} <= set(reference)
    assert socket.gethostname() not in text
    assert "/" not in text
