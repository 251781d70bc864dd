"""The machine this runs on, measured: its roofs, its memory, and the model against it.

`python -m lib.memory.measure` prints the measurement, `--json PATH` keeps it in a file.
"""

import argparse
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path

import torch

from lib.memory.contention import MAX_OTHERS, Operation, Race, Timing, race, time_operation
from lib.memory.cost import Cost
from lib.memory.devices import Device, MemoryLevel
from lib.memory.json_file import write_json
from lib.memory.machine import caches, memory_bytes, processor_name
from lib.memory.speeds import (
    GIB,
    MIB,
    Timer,
    cache_ladder,
    copy_bandwidth,
    load_latency,
    matmul_peak,
    operation_overhead,
    read_bandwidth,
    rotate,
    strided_read,
)

__all__ = [
    "Comparison",
    "Race",
    "Timing",
    "cache_ladder",
    "copy_bandwidth",
    "load_latency",
    "matmul_peak",
    "measure_device",
    "operation_overhead",
    "predict_and_measure",
    "race",
    "read_bandwidth",
    "rotate",
    "strided_read",
    "time_operation",
]


@dataclass(frozen=True)
class Comparison:
    """What the model says that an operation takes, and what it took; `clean` as in `Timing`."""

    name: str
    predicted_seconds: float
    measured_seconds: float
    clean: bool

    @property
    def ratio(self) -> float:
        """Predicted over measured: 1 for a model that is right, 0.5 if it takes twice as long."""
        return self.predicted_seconds / self.measured_seconds


def predict_and_measure(
    operations: Mapping[str, tuple[Cost, Operation]],
    *,
    device: Device,
    dtype: str = "float32",
    overhead: float = 0.0,
    timer: Timer = time_operation,
) -> list[Comparison]:
    """Run each operation and set its time beside the roofline's, plus `overhead` per call.

    The operations run here: `device` should be the machine this is, from `measure_device()`.
    """
    rows = []
    for name, (cost, operation) in operations.items():
        timing = timer(operation)
        predicted = cost.time(device, dtype) + overhead
        rows.append(Comparison(name, predicted, timing.seconds, timing.clean))
    return rows


def measure_device(
    *, quick: bool = True, verbose: bool = False, timer: Timer | None = None
) -> Device:
    """This machine as a `Device`: its roofs and the levels of its memory.

    Takes about ten seconds if `quick`; otherwise it tries more sizes, and each more often.
    `verbose` prints a line per step.
    """
    timer = timer or _timer(quick)
    peaks = {}
    for dtype in _dtypes():
        peaks[dtype] = max(matmul_peak(dtype, size, timer=timer) for size in _matmul_sizes(quick))
        if verbose:
            print(f"{dtype:12} {peaks[dtype] / 1e9:8,.0f} GFLOP/s")
    levels = []
    for name, capacity_bytes, working_set in _levels(quick):
        levels.append(_measure_level(name, capacity_bytes, working_set, timer))
        if verbose:
            print(f"{name:12} {levels[-1].bandwidth / 1e9:8,.0f} GB/s")
    return Device(
        name="this machine",
        peak_flops=peaks,
        bandwidth=levels[-1].bandwidth,
        memory_bytes=levels[-1].capacity_bytes,
        levels=tuple(levels),
    )


def describe(device: Device, name: str, method: str) -> dict[str, object]:
    """What `reference_cpu.json` holds: a measured device, on what and how it was measured."""
    return {
        "name": name,
        "cpu": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "dtypes": dict(device.peak_flops),
        "bandwidth": device.bandwidth,
        "memory_bytes": device.memory_bytes,
        "levels": [asdict(level) for level in device.levels],
        "method": method,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "command": "python -m lib.memory.measure --json PATH",
        "date": date.today().isoformat(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: measure this machine, print it, and write it to a file if asked to."""
    parser = argparse.ArgumentParser(prog="python -m lib.memory.measure", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the measurement there")
    parser.add_argument("--name", help="what to call the machine (the model of its processor)")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and samples")
    options = parser.parse_args(arguments)
    timer = _Logbook(_timer(options.quick))
    device = measure_device(quick=options.quick, verbose=True, timer=timer)
    print(timer.method)
    if options.json:
        name = options.name or f"{os.cpu_count()} cores of {processor_name()}"
        write_json(describe(device, name, timer.method), options.json)


class _Logbook:
    """A timer that remembers how many of its timings were clean."""

    def __init__(self, timer: Timer) -> None:
        self.timer, self.timings = timer, []

    def __call__(self, operation: Operation) -> Timing:
        self.timings.append(self.timer(operation))
        return self.timings[-1]

    @property
    def method(self) -> str:
        clean = sum(timing.clean for timing in self.timings)
        return (
            "best of the samples during which other processes used under "
            f"{MAX_OTHERS:.0%} of the cores; {clean} of {len(self.timings)} quantities had such "
            "samples, the others give the best of all samples"
        )


def _measure_level(name: str, capacity_bytes: int, working_set: int, timer: Timer) -> MemoryLevel:
    bandwidth = read_bandwidth(working_set, timer=timer)
    # The first caches answer faster than the interpreter asks, and a GPU is not asked at all.
    asks = working_set >= MIB and not torch.cuda.is_available()
    latency = load_latency(working_set, timer=timer) if asks else None
    return MemoryLevel(name, capacity_bytes, bandwidth, latency)


def _levels(quick: bool) -> list[tuple[str, int, int]]:
    """Name, capacity and a working set that lives there, of each level, fastest first.

    A working set lives in a cache when it is well within it and well beyond the one before.
    """
    levels, before = [], 0
    for cache in caches():
        working_set = math.isqrt(before * cache.bytes_each) or cache.bytes_each // 2
        levels.append((cache.name, cache.capacity_bytes, working_set))
        before = cache.bytes_each
    beyond = 256 * MIB if quick and not torch.cuda.is_available() else GIB
    return [*levels, ("global memory", memory_bytes(), beyond)]


def _dtypes() -> tuple[str, ...]:
    return ("float32", "bfloat16", "float16")[: 3 if torch.cuda.is_available() else 2]


def _matmul_sizes(quick: bool) -> tuple[int, ...]:
    if torch.cuda.is_available():
        return (4096,) if quick else (2048, 4096, 8192)
    return (1024,) if quick else (256, 512, 1024, 2048, 4096)


def _timer(quick: bool) -> Timer:
    if quick:
        return partial(time_operation, samples=3, tries=5)
    return partial(time_operation, samples=7, tries=60)


if __name__ == "__main__":
    main()
