"""Timing that knows when other programs were in the way.

A machine is rarely ours alone. A sample counts only if all other processes together used less
than 5 % of the machine's cores while it was taken; the rest is thrown away and taken again.
Who else uses a GPU is not seen.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import psutil
import torch

MAX_OTHERS = 0.05
"""The largest share of the cores that others may use during a sample that counts."""

MIN_SAMPLE_SECONDS = 0.1
"""Systems count processor time in ticks of 10 ms: the use of cores over less cannot be told."""

Operation = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """The seconds that one call takes: the median of `samples`, or the best if none was `clean`.

    `samples` holds what the filter let through; if it let nothing through, all that was taken.
    """

    seconds: float
    samples: tuple[float, ...]
    clean: bool

    @property
    def best(self) -> float:
        """The fastest sample: what the machine can do, where `seconds` is what it usually does."""
        return min(self.samples)


@dataclass(frozen=True)
class Race:
    """The timings of several operations that took turns."""

    timings: Mapping[str, Timing]

    def ratio(self, name: str, to: str) -> float:
        """How many times as long `name` takes as `to`."""
        return self.timings[name].seconds / self.timings[to].seconds


@dataclass(frozen=True)
class Sample:
    """Seconds per call, and the share of the machine's cores that others used meanwhile."""

    seconds: float
    others: float

    @property
    def clean(self) -> bool:
        """Whether others left the machine alone for long enough to count."""
        return self.others < MAX_OTHERS


def machine_seconds() -> float:
    """Core-seconds that all processes have used since the machine started.

    Includes time that a hypervisor gave to other machines ("steal").
    """
    times = psutil.cpu_times()
    fields = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(getattr(times, field, 0.0) for field in fields)


def synchronize() -> None:
    """Wait until a GPU, if there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Meters:
    """What a sample reads before and after. Tests replace all of it."""

    clock: Callable[[], float] = time.perf_counter
    machine: Callable[[], float] = machine_seconds
    own: Callable[[], float] = time.process_time
    synchronize: Callable[[], None] = synchronize
    cores: int = os.cpu_count() or 1

    def read(self) -> tuple[float, float, float]:
        """Clock, core-seconds of the machine, core-seconds of this process."""
        self.synchronize()
        return self.clock(), self.machine(), self.own()


def take_sample(operation: Operation, calls: int, meters: Meters) -> Sample:
    """Time `calls` calls in a row.

    A machine that reports less work than this process did cannot speak for the others (some
    sandboxes report none at all): such a sample counts as contended.
    """
    clock, machine, own = meters.read()
    for _ in range(calls):
        operation()
    elapsed, busy, ours = (
        after - before for after, before in zip(meters.read(), (clock, machine, own), strict=True)
    )
    if busy < ours / 2:
        return Sample(elapsed / calls, others=1.0)
    # A coarse clock may not have moved during a very short sample.
    core_seconds = max(elapsed * meters.cores, 1e-9)
    return Sample(elapsed / calls, max(0.0, busy - ours) / core_seconds)


def time_operation(
    operation: Operation,
    *,
    min_seconds: float = MIN_SAMPLE_SECONDS,
    samples: int = 5,
    tries: int | None = None,
    meters: Meters | None = None,
) -> Timing:
    """Time one call of `operation`, in seconds.

    Takes samples of at least about `min_seconds` each, as many calls as fit, until `samples` of
    them are clean or `tries` (four times as many, by default) have been taken.

    Raises `ValueError` for samples too short to be judged, or fewer tries than samples.
    """
    alone = {"operation": operation}
    result = race(alone, min_seconds=min_seconds, rounds=samples, tries=tries, meters=meters)
    return result.timings["operation"]


def race(
    operations: Mapping[str, Operation],
    *,
    min_seconds: float = MIN_SAMPLE_SECONDS,
    rounds: int = 5,
    tries: int | None = None,
    meters: Meters | None = None,
) -> Race:
    """Time operations that take turns, so that what slows the machine down slows each alike.

    In every round each operation that still lacks clean samples gives one. The race ends when
    each has `rounds` of them or after `tries` rounds (four times as many, by default). Ratios
    of operations in one race can be trusted further than the seconds themselves.

    Raises `ValueError` for an empty race, samples too short to be judged, or fewer tries than
    rounds.
    """
    tries = 4 * rounds if tries is None else tries
    _check_race(operations, min_seconds, rounds, tries)
    meters = meters or Meters()
    calls = {name: _calls_for(run, min_seconds, meters) for name, run in operations.items()}
    taken: dict[str, list[Sample]] = {name: [] for name in operations}
    for _ in range(tries):
        lacking = [name for name in operations if _count_clean(taken[name]) < rounds]
        if not lacking:
            break
        for name in lacking:
            taken[name].append(take_sample(operations[name], calls[name], meters))
    return Race({name: judge(samples) for name, samples in taken.items()})


def judge(samples: Sequence[Sample]) -> Timing:
    """The median of the clean samples; without any, the best of all, marked as not clean."""
    clean = tuple(sample.seconds for sample in samples if sample.clean)
    if clean:
        return Timing(median(clean), clean, clean=True)
    everything = tuple(sample.seconds for sample in samples)
    return Timing(min(everything), everything, clean=False)


def _calls_for(operation: Operation, min_seconds: float, meters: Meters) -> int:
    """How many calls last `min_seconds`. The first call, which may set things up, is not timed."""
    operation()
    calls, seconds = 1, take_sample(operation, 1, meters).seconds
    while calls * seconds < min_seconds:
        # At most ten times as many at once: a first estimate from a very short run is coarse.
        calls = min(10 * calls, math.ceil(1.1 * min_seconds / max(seconds, 1e-9)))
        seconds = take_sample(operation, calls, meters).seconds
    return calls


def _count_clean(samples: Sequence[Sample]) -> int:
    return sum(sample.clean for sample in samples)


def _check_race(
    operations: Mapping[str, Operation], min_seconds: float, rounds: int, tries: int
) -> None:
    if not operations:
        raise ValueError("a race needs at least one operation, got none")
    if min_seconds < MIN_SAMPLE_SECONDS:
        raise ValueError(
            f"min_seconds must be at least {MIN_SAMPLE_SECONDS}, as processor time is counted "
            f"in ticks of 10 ms, got {min_seconds}"
        )
    if not 1 <= rounds <= tries:
        raise ValueError(
            f"there must be at least one sample and as many tries, got {rounds} samples "
            f"in {tries} tries"
        )
