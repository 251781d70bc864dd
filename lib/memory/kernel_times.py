"""Kernels raced, and the models of `prediction` held against the race.

`python -m lib.memory.kernel_times` prints predicted over measured, `--json PATH` keeps the timings
in a file. On a CPU everything runs in one thread and the clock is that thread's processor time, so
that other programs do not count, as long as they leave the caches alone.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.resources import files
from pathlib import Path

import torch

from lib.memory.contention import Meters, race
from lib.memory.cost import Cost
from lib.memory.json_file import write_json
from lib.memory.kernels import calibration_kernels, transformer_kernels
from lib.memory.machine import processor_name
from lib.memory.prediction import (
    MODELS,
    KernelModel,
    Spread,
    TimedWork,
    Work,
    fit_kernel_model,
    spread_of,
)
from lib.memory.speeds import Racer


@dataclass(frozen=True)
class KernelTimes:
    """What was measured: the timings that calibrate the model, and those that it has to predict."""

    calibration: Mapping[str, Sequence[TimedWork]]
    predicted: Sequence[TimedWork]

    @property
    def model(self) -> KernelModel:
        """The machine, from the calibration alone."""
        return fit_kernel_model(self.calibration)

    def ratios(self, model: str = "caches, rows, elements") -> dict[str, float]:
        """Predicted over measured for each kernel, by one of the `MODELS`."""
        predict, machine = MODELS[model], self.model
        return {
            each.work.name: predict(machine, each.work) / each.seconds for each in self.predicted
        }

    def spread(self, model: str = "caches, rows, elements") -> Spread:
        """How these ratios lie."""
        return spread_of(self.ratios(model).values())


def measure_kernels(*, quick: bool = False, racer: Racer | None = None) -> KernelTimes:
    """Race the kernels of the calibration and of a Transformer, all in turns, in one thread.

    The best sample counts: what else runs on the machine can only make one longer. Takes about
    a minute on an idle machine, a quarter of that if `quick`.
    """
    racer = racer or partial(
        race, rounds=1 if quick else 3, tries=1 if quick else 6, meters=thread_meters()
    )
    sections = {**calibration_kernels(quick=quick), "predicted": transformer_kernels(quick=quick)}
    numbered = {(name, i): k for name, kernels in sections.items() for i, k in enumerate(kernels)}
    with one_thread():
        timings = racer({str(key): kernel.run for key, kernel in numbered.items()}).timings
    timed = {name: [] for name in sections}
    for key, kernel in numbered.items():
        timing = timings[str(key)]
        timed[key[0]].append(TimedWork(kernel.work, timing.best, timing.samples))
    return KernelTimes(timed, timed.pop("predicted"))


def thread_meters() -> Meters:
    """The thread's own time on a CPU; a GPU has none, so there the clock counts."""
    return Meters() if torch.cuda.is_available() else Meters(clock=time.process_time)


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch in one thread for the length of a `with` block, whatever happens in it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def kernel_times_record(times: KernelTimes) -> dict[str, object]:
    """What `reference_kernels.json` holds: every timing, and on what and how it was taken."""
    sections = {**times.calibration, "predicted": times.predicted}
    return {
        "cpu": processor_name(),
        "method": "one thread; all kernels in turns; best of the samples, in processor time",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "command": "python -m lib.memory.kernel_times --json PATH",
        "date": date.today().isoformat(),
        "seconds": {name: [_entry(each) for each in timed] for name, timed in sections.items()},
    }


def kernel_times_from_record(record: Mapping) -> KernelTimes:
    """The timings that a record holds. Raises `ValueError` for one without predicted kernels."""
    timed = {name: [_timed(each) for each in rows] for name, rows in record["seconds"].items()}
    if not timed.get("predicted"):
        raise ValueError(f"the record predicts nothing, it has {', '.join(timed)}")
    return KernelTimes(timed, timed.pop("predicted"))


def reference_kernels() -> KernelTimes:
    """The timings that the book was made with, from `reference_kernels.json`."""
    text = files("lib.memory").joinpath("reference_kernels.json").read_text(encoding="utf-8")
    return kernel_times_from_record(json.loads(text))


def _entry(timed: TimedWork) -> dict[str, object]:
    work = {**vars(timed.work), "cost": vars(timed.work.cost)}
    return {"work": work, "seconds": timed.seconds, "samples": list(timed.samples)}


def _timed(entry: Mapping) -> TimedWork:
    work = Work(**entry["work"] | {"cost": Cost(**entry["work"]["cost"])})
    return TimedWork(work, entry["seconds"], tuple(entry["samples"]))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: measure, print the ratios and how they lie, write the timings to a file."""
    parser = argparse.ArgumentParser(prog="python -m lib.memory.kernel_times", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the timings there")
    parser.add_argument("--quick", action="store_true", help="fewer kernels and samples")
    options = parser.parse_args(arguments)
    times = measure_kernels(quick=options.quick)
    for name, ratio in times.ratios().items():
        print(f"{name:34}{ratio:6.2f}")
    for model in MODELS:
        print(f"{model:24}{times.spread(model)}")
    if options.json:
        write_json(kernel_times_record(times), options.json)


if __name__ == "__main__":
    main()
