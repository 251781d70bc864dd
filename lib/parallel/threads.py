"""Ranks as threads of one process: no start-up time, and functions of a notebook will do.

They share the memory of the process but not their tensors: what is sent is copied. Nothing runs
faster for it. The processes of `launch` are the real thing; both run the same code.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

from torch import Tensor

from lib.parallel.group import RankGroup, RankLost

Lines = dict[tuple[int, int], SimpleQueue]


class ThreadGroup(RankGroup):
    """Threads, joined by one queue from each rank to each other."""

    def __init__(
        self, ranks: Sequence[int], own_rank: int, lines: Lines, over: threading.Event
    ) -> None:
        super().__init__(ranks, own_rank)
        self._lines, self._over = lines, over

    def _send(self, tensor: Tensor, rank: int) -> Callable[[], None]:
        self._lines[self._own_rank, rank].put(tensor.clone())
        return lambda: None

    def _receive(self, into: Tensor, rank: int) -> None:
        while True:
            try:
                into.copy_(self._lines[rank, self._own_rank].get(timeout=0.05))
                return
            except Empty:
                if self._over.is_set():
                    raise RankLost(f"rank {rank} has ended and sends nothing more") from None


def run_on_threads(worker: Callable[..., Any], num_ranks: int, *arguments: Any) -> list[Any]:
    """`worker(group, *arguments)` on each of `num_ranks` threads; what they return, in their order.

    If one raises, the others, which would wait for it for ever, are told to stop, and its
    exception is raised here. Raises `ValueError` for fewer than two ranks.
    """
    over, failures = threading.Event(), []
    lines = {(a, b): SimpleQueue() for a in range(num_ranks) for b in range(num_ranks) if a != b}
    groups = [ThreadGroup(range(num_ranks), rank, lines, over) for rank in range(num_ranks)]

    def run(group: RankGroup) -> Any:
        try:
            return worker(group, *arguments)
        except BaseException as error:
            failures.append(error)
            over.set()

    with ThreadPoolExecutor(max_workers=max(num_ranks, 1)) as pool:
        results = list(pool.map(run, groups))
    if failures:
        raise failures[0]
    return results
