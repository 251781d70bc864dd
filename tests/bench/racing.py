"""How a race is shown: rivals that took turns, each with its ratio to the first."""

from collections.abc import Mapping

from lib.memory.contention import Race


def show(title: str, result: Race, work: Mapping[str, int], unit: str = "GB/s") -> None:
    """A table of the rivals: time, ratio to the first one, and rate."""
    print(title)
    for name, timing in result.timings.items():
        ratio = result.ratio(name, to=next(iter(work)))
        rate = work[name] / timing.seconds / 1e9
        time = f"{timing.seconds * 1e3:10.3f} ms{mark(timing.clean)}"
        print(f"  {name:12}{time} {ratio:8.2f} x {rate:10,.1f} {unit}")
    print()


def mark(clean: bool) -> str:
    return " " if clean else "*"
