"""How long a kernel takes: four models, from the roofline to one that knows the machine better.

The last adds up what the first leaves out or takes for overlapped:

    seconds = call + product FLOPs / rate(rows) + bytes / bandwidth(working set)
              + elements x seconds per element

Every constant is measured on shapes of its own, none is fitted to the kernels that are predicted:
`fit_kernel_model` takes one timing per unknown, `lib.memory.kernels` supplies them.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from lib.memory.cost import Cost
from lib.memory.sizes import check_not_negative, check_positive

SHORT_SUM = 512
"""Terms: 2 KiB in float32, half a page of memory."""

WAYS = ("stream", "one row", "one row, short sums", "many rows")
"""The ways in which kernels meet their bytes."""


@dataclass(frozen=True)
class Work:
    """What one call of a kernel has to do, as the models see it.

    `rows` is the number of rows of its matrix product, 0 without one, and `product_flops` are the
    FLOPs of that product, `terms` how many products each of its sums adds up. `elements` go
    through what no product does: exponentials, means.
    `family` names the routine: "linear", "scores", "weighted sum", "fused attention", "softmax",
    "layer norm", "gelu", "sum".
    """

    name: str
    family: str
    cost: Cost
    rows: int = 0
    product_flops: int = 0
    terms: int = 0
    elements: int = 0

    def __post_init__(self) -> None:
        product = {"rows": self.rows, "product_flops": self.product_flops, "terms": self.terms}
        check_not_negative(**product, elements=self.elements)
        if len({size > 0 for size in product.values()}) > 1:
            raise ValueError(
                f"a product has rows, FLOPs and terms, or none of them; {self.name} has {product}"
            )

    @property
    def moves(self) -> str:
        """How it meets its bytes, a key of `KernelModel.byte_seconds`.

        A stream reads and writes from one end to the other. A product of one row sweeps over its
        matrix, in sums long enough to know what to fetch next or too short for that. A product of
        more rows first copies the matrix into the order in which it will want it (Goto and van
        de Geijn, 2008), so that each byte travels more than once.
        """
        if self.rows == 0:
            return "stream"
        if self.rows > 1:
            return "many rows"
        return "one row, short sums" if self.terms <= SHORT_SUM else "one row"


@dataclass(frozen=True)
class TimedWork:
    """A kernel's work, the seconds that one call took, and the samples that this was taken from."""

    work: Work
    seconds: float
    samples: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_positive(seconds=self.seconds)


@dataclass(frozen=True)
class KernelModel:
    """A machine as the models see it.

    `call_seconds` passes whatever the size. `product_rates` are FLOP/s by rows, from a cache;
    `byte_seconds` are seconds per byte by bytes moved, one ladder for each way of moving;
    `element_seconds` are seconds per element by family.
    """

    call_seconds: float
    product_rates: Mapping[int, float]
    byte_seconds: Mapping[str, Mapping[int, float]]
    element_seconds: Mapping[str, float]

    @property
    def peak(self) -> float:
        """The best rate of a product, in FLOP/s."""
        return max(self.product_rates.values())

    @property
    def bandwidth(self) -> float:
        """Bytes/s of a stream that fits no cache."""
        ladder = self.byte_seconds["stream"]
        return 1 / ladder[max(ladder)]

    def roofline(self, work: Work) -> float:
        """The longer of computing and moving, at the two best rates (Williams et al., 2009)."""
        return max(work.cost.flops / self.peak, work.cost.bytes / self.bandwidth)

    def added(self, work: Work) -> float:
        """Computing and moving one after the other, and the call."""
        computing, moving = work.cost.flops / self.peak, work.cost.bytes / self.bandwidth
        return self.call_seconds + computing + moving

    def cached(self, work: Work) -> float:
        """`added`, with the bandwidth of the level that the operands fit in."""
        return self.call_seconds + work.cost.flops / self.peak + self._moving(work, "stream")

    def parts(self, work: Work) -> dict[str, float]:
        """The whole model, part by part: the call, the product, the bytes, the elements."""
        rate = _between(self.product_rates, work.rows) if work.rows else math.inf
        each = self.element_seconds[work.family] if work.elements else 0.0
        return {
            "call": self.call_seconds,
            "product": work.product_flops / rate,
            "bytes": self._moving(work, work.moves),
            "elements": work.elements * each,
        }

    def seconds(self, work: Work) -> float:
        """The sum of the `parts`."""
        return sum(self.parts(work).values())

    def _moving(self, work: Work, moves: str) -> float:
        return work.cost.bytes * _between(self.byte_seconds[moves], work.cost.bytes)


MODELS: Mapping[str, Callable[[KernelModel, Work], float]] = {
    "roofline": KernelModel.roofline,
    "added up": KernelModel.added,
    "caches": KernelModel.cached,
    "caches, rows, elements": KernelModel.seconds,
}
"""Each model has what the one before it has, and more."""


@dataclass(frozen=True)
class Spread:
    """How ratios of predicted to measured lie: their median, and their geometric spread.

    The spread is the exponential of the standard deviation of the logarithms around their mean:
    1.25 says that a ratio is typically off by a factor of 1.25 either way. `within` is the share
    of ratios from 1/1.3 to 1.3.
    """

    median: float
    geometric_spread: float
    within: float


def spread_of(ratios: Iterable[float]) -> Spread:
    """The spread of ratios above zero. Raises `ValueError` for fewer than two."""
    logs = sorted(math.log(ratio) for ratio in ratios)
    if len(logs) < 2:
        raise ValueError(f"a spread needs at least two ratios, got {len(logs)}")
    middle = (logs[(len(logs) - 1) // 2] + logs[len(logs) // 2]) / 2
    mean = sum(logs) / len(logs)
    deviation = math.sqrt(sum((log - mean) ** 2 for log in logs) / (len(logs) - 1))
    within = sum(abs(log) <= math.log(1.3) for log in logs) / len(logs)
    return Spread(math.exp(middle), math.exp(deviation), within)


def fit_kernel_model(calibration: Mapping[str, Iterable[TimedWork]]) -> KernelModel:
    """Solve for the constants one after the other, each from timings in which it alone is unknown.

    `calibration` has "call", a product so small that nothing else counts; "rows", products of
    different rows on matrices that stay in a cache; one list of different sizes for each of the
    `WAYS`; and "elements", one kernel for each family that has elements. Raises `ValueError` if
    one of them is missing.
    """
    needed = ("call", "rows", *WAYS, "elements")
    missing = [name for name in needed if not calibration.get(name)]
    if missing:
        raise ValueError(f"the calibration lacks {', '.join(missing)}")
    timed = {name: list(calibration[name]) for name in needed}
    call = min(each.seconds for each in timed["call"])
    rates = {each.work.rows: _rate(each, call) for each in timed["rows"]}
    families = dict.fromkeys((each.work.family for each in timed["elements"]), 0.0)
    # The rates were measured on operands in a cache: up to that size bytes are paid for already.
    paid = {min(each.work.cost.bytes for each in timed["rows"]): 0.0}
    start = {way: {} if way == "stream" else paid for way in WAYS}
    model = KernelModel(call, rates, {way: {1: 0.0} for way in WAYS}, families)
    ladders = {way: start[way] | _ladder(timed[way], model) for way in WAYS}
    model = KernelModel(call, rates, ladders, families)
    elements = {
        each.work.family: _left(each, model) / each.work.elements for each in timed["elements"]
    }
    return KernelModel(call, rates, ladders, elements)


def _rate(timed: TimedWork, call: float) -> float:
    return timed.work.product_flops / max(timed.seconds - call, timed.seconds / 10)


def _ladder(timed: Iterable[TimedWork], model: KernelModel) -> dict[int, float]:
    """Seconds per byte for each number of bytes."""
    return {each.work.cost.bytes: _left(each, model) / each.work.cost.bytes for each in timed}


def _left(timed: TimedWork, model: KernelModel) -> float:
    """Seconds that the model does not explain yet; none where it explains more than there are."""
    return max(timed.seconds - model.seconds(timed.work), 0.0)


def _between(ladder: Mapping[int, float], at: int) -> float:
    """The value at a place between the rungs, in a straight line over the logarithm of the place.

    Below the first rung and above the last, theirs.
    """
    rungs = sorted(ladder)
    if at <= rungs[0]:
        return ladder[rungs[0]]
    for low, high in pairwise(rungs):
        if at <= high:
            share = math.log(at / low) / math.log(high / low)
            return ladder[low] + share * (ladder[high] - ladder[low])
    return ladder[rungs[-1]]
