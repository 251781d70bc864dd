"""How a race is shown: rivals that took turns, each with its ratio to the first."""

import time
from collections.abc import Callable, Mapping
from statistics import median

from lib.memory.contention import Race

Clock = Callable[[], float]


def show(title: str, result: Race, work: Mapping[str, int], unit: str = "GB/s") -> None:
    """A table of the rivals: time, ratio to the first one, and rate."""
    print(title)
    for name, timing in result.timings.items():
        ratio = result.ratio(name, to=next(iter(work)))
        rate = work[name] / timing.seconds / 1e9
        taken = f"{timing.seconds * 1e3:10.3f} ms{mark(timing.clean)}"
        print(f"  {name:12}{taken} {ratio:8.2f} x {rate:10,.1f} {unit}")
    print()


def mark(clean: bool) -> str:
    return " " if clean else "*"


def seconds_of(run: Callable[[], object], clock: Clock = time.process_time) -> float:
    """How long `run` takes: this process computing, waiting not counted, or by another clock."""
    start = clock()
    run()
    return clock() - start


def show_speeds(
    title: str,
    rivals: Mapping[str, Callable[[], object]],
    tokens: int,
    rounds: int = 5,
    clock: Clock = time.process_time,
) -> dict[str, float]:
    """Race rivals, taking turns; print how much faster each is than the first.

    For runs of seconds, on a machine that is shared: one thread's processor time does not count
    what others use, though they slow memory down. The ratio is the median of the rounds' ratios.
    Returns each rival's median seconds.
    """
    for run in rivals.values():
        run()
    turns = [{name: seconds_of(run, clock) for name, run in rivals.items()} for _ in range(rounds)]
    first = next(iter(rivals))
    medians = {name: median(turn[name] for turn in turns) for name in rivals}
    print(title)
    for name, seconds in medians.items():
        faster = median(turn[first] / turn[name] for turn in turns)
        each, rate = seconds / tokens * 1e3, tokens / seconds
        print(f"  {name:14}{each:10.3f} ms a token {rate:10,.0f} tokens/s {faster:8.2f} x as fast")
    return medians
