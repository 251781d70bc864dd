"""Problem 3: times, bounds, and the batch at which decoding turns compute-bound."""

import math
from collections.abc import Callable
from fractions import Fraction

from exercises.checks import Case, Draw, check
from exercises.hidden.task2_memory.arithmetic_intensity import ONE_FLOP, UNITS_FIXED
from lib.memory import compute_bound_batch

AT_THE_RIDGE = "an operator that takes equally long both ways, at the ridge, is compute-bound"
AT_THE_RIDGE_DRAW = 6


def check_roofline(function: Callable) -> None:
    check(function, "roofline", _roofline, draws=40)


def check_sequence_time(function: Callable) -> None:
    check(function, "sequence_time", _sequence, draws=40)


def check_compute_bound_batch(function: Callable) -> None:
    check(function, "compute_bound_batch", _batch, draws=60)


def _device(draw: Draw) -> tuple[float, float]:
    """FLOP/s and bytes/s, at times tiny; in one draw powers of two, with which a tie is exact."""
    if draw.index == AT_THE_RIDGE_DRAW:
        return 2.0**40, 2.0**32
    if draw.index % 8 == 7:
        return draw.spread(10, 1000), draw.spread(10, 1000)
    return draw.spread(1e12, 2e15), draw.spread(1e11, 8e12)


def _roofline(draw: Draw) -> Case:
    peak, bandwidth = _device(draw)
    moved = draw.size(10**6, 10**10) if peak > 1e6 else draw.size(100, 10_000)
    times_ridge = draw.one_of(0.2, 5.0, 0.9, 1.1, 0.02, 50.0) * (1 + 0.05 * draw.chance())
    flops = round(moved * peak / bandwidth * times_ridge)
    if draw.index == AT_THE_RIDGE_DRAW:
        flops, moved = 2**28, 2**20
    computing, moving = flops / peak, moved / bandwidth
    seconds, intensity = max(computing, moving), flops / moved
    bound, other = ("compute", "memory") if computing >= moving else ("memory", "compute")

    def taking(seconds: float, bound: str = bound) -> dict[str, float | str]:
        return {"seconds": seconds, "flops_per_second": flops / seconds, "bound": bound}

    def speed(flops_per_second: float) -> dict[str, float]:
        return {"flops_per_second": flops_per_second}

    return Case(
        inputs={
            "flops": flops, "bytes_moved": moved, "peak_flops": peak, "bandwidth": bandwidth,
        },
        expected=taking(seconds),
        mistakes={
            "computing and moving overlap: the slower of the two decides, not their sum":
                taking(computing + moving),
            "computing and moving overlap: the slower of the two decides, not their mean":
                taking((computing + moving) / 2),
            "the slower of the two decides, not the faster":
                taking(min(computing, moving), other),
            "moving takes time too: only the FLOPs are counted": taking(computing, "compute"),
            "computing takes time too: only the bytes are counted": taking(moving, "memory"),
            "FLOPs go through the peak and bytes through the bandwidth, not the other way round":
                taking(max(flops / bandwidth, moved / peak), "compute"),
            "these are milliseconds": {"seconds": 1000 * seconds},
            "these are microseconds": {"seconds": 1e6 * seconds},
            "work divided by speed is a time, not speed divided by work":
                {"seconds": max(1 / computing, 1 / moving)},
            "compute and memory have changed places": {"bound": other},
            AT_THE_RIDGE: {"bound": "compute" if computing > moving else "memory"},
            "compare the intensity with the ridge, peak_flops / bandwidth, not with 1":
                {"bound": "compute" if intensity >= 1 else "memory"},
            "the words are 'compute' and 'memory'": {"bound": f"{bound}-bound"},
            "the words are 'compute' and 'memory', in small letters": {"bound": bound.upper()},
            "an operator reaches the peak only where it is compute-bound": speed(peak),
            "a compute-bound operator reaches the peak and not more":
                speed(intensity * bandwidth),
            "that is intensity times peak; the slanted roof is intensity times bandwidth":
                speed(intensity * peak),
            "that is the higher of the two roofs; the lower one counts":
                speed(max(peak, intensity * bandwidth)),
            "that is the intensity; FLOP/s are FLOPs over seconds": speed(intensity),
            "that is a share of the peak; FLOP/s are FLOPs over seconds":
                speed(flops / seconds / peak),
            "these are bytes per second; FLOP/s are FLOPs over seconds": speed(moved / seconds),
        },
    )  # fmt: skip


def _sequence(draw: Draw) -> Case:
    peak, bandwidth = _device(draw)
    sizes = [draw.size(10**3, 10**9) for _ in range(draw.one_of(3, 0, 1, 2, 5, 8))]
    operators = [(round(m * peak / bandwidth * draw.spread(0.05, 20)), m) for m in sizes]
    if draw.index == AT_THE_RIDGE_DRAW:
        operators = [(2**28, 2**20), (2**20, 2**20)]
    times = [(flops / peak, moved / bandwidth) for flops, moved in operators]
    right = _in_sequence(times)
    seconds, share = right["seconds"], right["memory_bound_share"]
    waiting = seconds * share
    computing, moving = sum(c for c, _ in times), sum(m for _, m in times)
    slow = [moved for (_, moved), (c, m) in zip(operators, times, strict=True) if m > c]
    at_ridge = sum(max(pair) for pair in times if pair[1] >= pair[0])

    def sharing(part: float, whole: float = seconds) -> dict[str, float]:
        return {"memory_bound_share": part / whole if whole else 0.0}

    return Case(
        inputs={"operators": operators, "peak_flops": peak, "bandwidth": bandwidth},
        expected=right,
        mistakes={
            "each operator takes the slower of its own two times: adding all FLOPs and all bytes "
            "first hides who waits": _in_sequence([(computing, moving)]) if times else right,
            "they run one after the other: add their times, do not take the longest":
                {"seconds": max(map(max, times), default=0.0)},
            "inside an operator computing and moving overlap: take the slower, not the sum": {
                "seconds": computing + moving,
                **sharing(sum(c + m for c, m in times if m > c), computing + moving),
            },
            "only the time for computing is counted": {"seconds": computing},
            "only the time for moving is counted": {"seconds": moving},
            "that is the mean of the operators; their times add up":
                {"seconds": seconds / max(len(times), 1)},
            "in each operator the slower of the two decides, not the faster":
                {"seconds": sum(map(min, times))},
            "these are milliseconds": {"seconds": 1000 * seconds},
            "that is the share of the operators; the share of the time is asked for":
                sharing(len(slow), len(times)),
            "that is the share of the bytes; the share of the time is asked for":
                sharing(sum(slow), sum(moved for _, moved in operators)),
            "that is the share of the compute-bound operators": sharing(seconds - waiting),
            "these are seconds: divide the memory-bound ones by all of them":
                {"memory_bound_share": waiting},
            "that is a percentage; a share goes from 0 to 1": {"memory_bound_share": 100 * share},
            "moving is hidden inside compute-bound operators: count whole operators": {
                **sharing(moving),
            },
            "that is the share of moving in all the work: count whole operators":
                sharing(moving, computing + moving),
            AT_THE_RIDGE: sharing(at_ridge),
            "the last operator is missing": _in_sequence(times[:-1]),
            "the first operator is missing": _in_sequence(times[1:]),
        },
    )  # fmt: skip


def _in_sequence(times: list[tuple[float, float]]) -> dict[str, float]:
    """The answer, from the times for computing and for moving of each operator."""
    seconds = float(sum(map(max, times)))
    waiting = sum(moving for computing, moving in times if moving > computing)
    return {"seconds": seconds, "memory_bound_share": waiting / seconds if seconds else 0.0}


def _batch(draw: Draw) -> Case:
    d_in, d_out, ridge, s = _map_and_ridge(draw)
    bandwidth = draw.spread(2e11, 8e12)
    peak = ridge * bandwidth
    exact_ridge = Fraction(peak) / Fraction(bandwidth)
    right = compute_bound_batch(exact_ridge, d_in=d_in, d_out=d_out, bytes_per_element=s)
    reachable = math.isfinite(right)

    def solved(
        ridge: float = ridge, s: int = s, sides: float = 1 / d_in + 1 / d_out, whole=math.ceil
    ) -> float:
        room = 2 / (s * ridge) - sides
        return whole(1 / room) if room > 0 else math.inf

    return Case(
        inputs={
            "d_in": d_in, "d_out": d_out, "peak_flops": peak, "bandwidth": bandwidth,
            "bytes_per_element": s,
        },
        expected=right,
        mistakes={
            "with one sequence less than needed it is still memory-bound: round up":
                solved(whole=math.floor),
            "rounding to the nearest is one sequence too few half of the time: round up":
                solved(whole=round),
            "one sequence too many: the smallest batch is asked for":
                solved(whole=lambda batch: math.floor(batch) + 2),
            "a batch is a whole number of sequences: round up": solved(whole=float),
            "that is the ridge; only for s = 2 and an infinitely wide matrix is it the batch":
                math.ceil(ridge),
            "X and Y are moved too: 1/d_in and 1/d_out are missing": solved(sides=0),
            "1/d_out is missing: that is what reading X adds":
                solved(sides=1 / d_in),
            "1/d_in is missing: that is what writing Y adds":
                solved(sides=1 / d_out),
            UNITS_FIXED: solved(s=2),
            "bytes_per_element is missing": solved(s=1),
            ONE_FLOP: solved(2 * ridge),
            "a multiply-add has 2 FLOPs, not 4": solved(ridge / 2),
            "the matrix need not be square: d_out is missing": solved(sides=2 / d_in),
            "the matrix need not be square: d_in is missing": solved(sides=2 / d_out),
            "the ridge is upside down: it is peak_flops / bandwidth": solved(1 / ridge),
            "where no batch is enough the answer is math.inf, not a negative number":
                right if reachable else math.ceil(1 / (2 / (s * ridge) - 1 / d_in - 1 / d_out)),
            "where no batch is enough the answer is math.inf, not 0": right if reachable else 0,
            "where no batch is enough the answer is math.inf, not -1": right if reachable else -1,
            "it gives up although a large batch is enough": math.inf,
        },
    )  # fmt: skip


def _map_and_ridge(draw: Draw) -> tuple[int, int, float, int]:
    """A matrix, a ridge and bytes per element whose batch is not nearly a whole number.

    There rounding in the last digit would decide. About one matrix in five is too small.
    """
    while True:
        d_in, d_out = round(draw.spread(200, 20_000)), round(draw.spread(200, 20_000))
        ridge, s = draw.spread(20, 600), draw.one_of(1, 2, 4)
        room = 2 / (s * ridge) - 1 / d_in - 1 / d_out
        wanted = room < 0 if draw.index % 5 == 1 else room > 0
        if wanted and abs(room) > 1e-6 and 0.01 < 1 / room % 1 < 0.99:
            return d_in, d_out, ridge, s
