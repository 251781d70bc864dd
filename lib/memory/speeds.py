"""The single speeds of a machine: bandwidth, arithmetic, overhead and latency, measured.

Everything but the latency runs on the CPU and, unchanged, on a CUDA GPU where PyTorch has one.
Rates are those of the best sample, as a roof is what can be reached; times are the median. All
are taken by a `timer`, which is `contention.time_operation` unless another is given.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import cycle

import torch
from torch.nn.functional import linear

from lib.memory.contention import Operation, Race, Timing, race, time_operation
from lib.memory.machine import caches, compute_device
from lib.memory.sizes import check_sizes

KIB, MIB, GIB = 2**10, 2**20, 2**30

CACHE_LINE = 64
"""Bytes that travel together between memory and the caches of x86 and most Arm processors."""

WORDS_PER_LINE = CACHE_LINE // 8

STEPS_PER_CALL = 10_000
"""How far one call follows a chain of addresses."""

Timer = Callable[[Operation], Timing]
Racer = Callable[[Mapping[str, Operation]], Race]


def read_bandwidth(num_bytes: int, *, timer: Timer = time_operation) -> float:
    """Bytes per second at which a sum reads a working set of `num_bytes`, again and again.

    A small set stays in a cache, and the result is that cache's bandwidth; one several times
    as large as the last cache comes from memory each time. On a CPU each core reads the whole
    set, and from the fastest cache the additions may take longer than the reading.
    """
    check_sizes(num_bytes=num_bytes)
    values = torch.ones(math.ceil(num_bytes / 4), device=compute_device())
    # One call reads the set many times over, or starting the call would be what is timed.
    enough = 32 * MIB if values.device.type == "cpu" else GIB
    passes = values.expand(math.ceil(enough / values.nbytes), -1)
    return passes.shape[0] * values.nbytes / timer(lambda: passes.sum(dim=1)).best


def copy_bandwidth(num_bytes: int, *, timer: Timer = time_operation) -> float:
    """Bytes per second, read plus written, at which a tensor of `num_bytes` is copied."""
    check_sizes(num_bytes=num_bytes)
    source = torch.ones(num_bytes, dtype=torch.uint8, device=compute_device())
    target = torch.empty_like(source)
    return 2 * num_bytes / timer(lambda: target.copy_(source)).best


def cache_ladder(
    sizes: Iterable[int] | None = None, *, timer: Timer = time_operation
) -> dict[int, float]:
    """The read bandwidth for each size of the working set; 8 KiB to 256 MiB by default.

    Each cache shows as a step: the bandwidth falls where the set no longer fits.
    """
    sizes = [8 * KIB * 2**step for step in range(16)] if sizes is None else sizes
    return {size: read_bandwidth(size, timer=timer) for size in sizes}


def strided_read(rows: int, columns: int, *, racer: Racer = race) -> Race:
    """Sum a float32 matrix (rows, columns) a column at a time, stored in two ways.

    `"contiguous"` keeps the elements of a column side by side, `"strided"` those of a row. The
    calls and the sums are the same, but the second fetches a whole cache line per element.
    """
    check_sizes(rows=rows, columns=columns)
    by_column = torch.ones(columns, rows, device=compute_device())
    by_row = torch.ones(rows, columns, device=compute_device())
    return racer(
        {
            "contiguous": lambda: [column.sum() for column in by_column],
            "strided": lambda: [column.sum() for column in by_row.T],
        }
    )


def matmul_peak(dtype: str | torch.dtype, size: int, *, timer: Timer = time_operation) -> float:
    """FLOP/s of the product of two (size, size) matrices.

    `dtype` is a name such as "float32", or torch's own dtype. Raises `ValueError` for one that
    is not a floating-point type of torch.
    """
    check_sizes(size=size)
    kind = getattr(torch, str(dtype).removeprefix("torch."), None)
    if not (isinstance(kind, torch.dtype) and kind.is_floating_point):
        raise ValueError(f"dtype must be a floating-point type such as 'float32', got {dtype!r}")
    left, right = torch.randn(2, size, size, device=compute_device()).to(kind)
    product = torch.empty_like(left)
    return 2 * size**3 / timer(lambda: torch.mm(left, right, out=product)).best


def operation_overhead(*, timer: Timer = time_operation) -> float:
    """Seconds that a call takes whatever its size: the time of an 8 x 8 linear map."""
    weight = torch.ones(8, 8, device=compute_device())
    return timer(lambda: linear(weight, weight)).seconds


def load_latency(num_bytes: int, *, timer: Timer = time_operation) -> float | None:
    """Seconds from asking the CPU for an address to having its content, for a working set.

    Follows a chain through all cache lines in random order: each says where the next one is, so
    that no two loads overlap. The interpreter's own time per step, known from a chain that fits
    the fastest cache, is taken off. It hides latencies shorter than itself, some 30 ns: they
    give None. Beyond a few MiB the walk through the page table is part of the latency.
    """
    check_sizes(num_bytes=num_bytes)
    interpreter = timer(_chase(8 * KIB)).best / STEPS_PER_CALL
    latency = timer(_chase(num_bytes)).best / STEPS_PER_CALL - interpreter
    return latency if latency > interpreter else None


def random_chain(num_bytes: int) -> torch.Tensor:
    """int64 words, one in use per cache line, each the index of the next: a ring through all."""
    lines = max(1, num_bytes // CACHE_LINE)
    order = torch.randperm(lines, generator=torch.Generator().manual_seed(0))
    chain = torch.zeros(lines * WORDS_PER_LINE, dtype=torch.int64)
    chain[order * WORDS_PER_LINE] = order.roll(-1) * WORDS_PER_LINE
    return chain


def _chase(num_bytes: int) -> Operation:
    chain, position = memoryview(random_chain(num_bytes).numpy()), 0

    def chase() -> None:
        # Goes on where it stopped: starting over, it would find its first lines in a cache.
        nonlocal position
        here = position
        for _ in range(STEPS_PER_CALL):
            here = chain[here]
        position = here

    return chase


def rotate(make: Callable[[], Operation], num_bytes: int) -> Operation:
    """An operation that finds its operands in no cache, however often it is called.

    `make()` returns the operation on buffers of its own, `num_bytes` together. As many are made
    as fill the last cache twice, and each call takes the next one.
    """
    check_sizes(num_bytes=num_bytes)
    last_cache = caches()[-1].capacity_bytes if caches() else 32 * MIB
    turns = cycle([make() for _ in range(1 + math.ceil(2 * last_cache / num_bytes))])
    return lambda: next(turns)()
