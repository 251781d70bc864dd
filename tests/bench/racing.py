"""How a race is shown: rivals that took turns, each with its ratio to the first."""

import time
from collections.abc import Callable, Mapping
from statistics import median

from lib.memory.contention import Race


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


def processor_seconds(run: Callable[[], object]) -> float:
    """How long this process computes, waiting not counted."""
    start = time.process_time()
    run()
    return time.process_time() - start


def clock_seconds(run: Callable[[], object]) -> float:
    """How long it takes by the clock."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def show_speeds(
    title: str,
    rivals: Mapping[str, Callable[[], object]],
    tokens: int,
    rounds: int = 5,
    seconds_of: Callable[[Callable[[], object]], float] = processor_seconds,
) -> dict[str, float]:
    """Race rivals, taking turns; print how much faster each is than the first.

    For runs of seconds, on a machine that is shared: one thread's processor time does not count
    what others use, though they slow memory down. The ratio is the median of the rounds' ratios.
    Returns each rival's median seconds.
    """
    for run in rivals.values():
        run()
    turns = [{name: seconds_of(run) for name, run in rivals.items()} for _ in range(rounds)]
    first = next(iter(rivals))
    medians = {name: median(turn[name] for turn in turns) for name in rivals}
    print(title)
    for name, seconds in medians.items():
        faster = median(turn[first] / turn[name] for turn in turns)
        each, rate = seconds / tokens * 1e3, tokens / seconds
        print(f"  {name:14}{each:10.3f} ms a token {rate:10,.0f} tokens/s {faster:8.2f} x as fast")
    return medians
