"""Ranks as threads of one process: no start-up time, and functions of a notebook will do.

They share the memory of the process but not their tensors: what is sent is copied. Nothing runs
faster for it. The processes of `launch` are the real thing; both run the same code.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

from torch import Tensor

from lib.parallel.group import RankGroup, RankLost


class ThreadLines:
    """One queue from each rank to each other, and who has ended."""

    def __init__(self, num_ranks: int, timeout: int | float) -> None:
        pairs = [(a, b) for a in range(num_ranks) for b in range(num_ranks) if a != b]
        self.queues = {pair: SimpleQueue() for pair in pairs}
        self.ended: set[int] = set()
        self.timeout = timeout

    def take(self, source: int, to: int) -> Tensor:
        """The next tensor from one rank to another; `RankLost` if none will come."""
        give_up = time.monotonic() + self.timeout
        while True:
            none_to_come = source in self.ended
            try:
                return self.queues[source, to].get(block=not none_to_come, timeout=0.05)
            except Empty:
                if none_to_come:
                    raise RankLost(f"rank {source} has ended and sends nothing more") from None
            if time.monotonic() > give_up:
                raise RankLost(f"rank {source} has sent nothing for {self.timeout} seconds")


class ThreadGroup(RankGroup):
    """Threads, joined by `ThreadLines`."""

    def __init__(self, own_rank: int, num_ranks: int, lines: ThreadLines) -> None:
        super().__init__(range(num_ranks), own_rank)
        self._lines = lines

    def _send(self, tensor: Tensor, rank: int) -> Callable[[], None]:
        self._lines.queues[self._own_rank, rank].put(tensor.clone())
        return lambda: None

    def _receive(self, into: Tensor, rank: int) -> None:
        into.copy_(self._lines.take(rank, self._own_rank))


def run_on_threads(
    worker: Callable[..., Any], num_ranks: int, *arguments: Any, timeout: int | float = 60
) -> list[Any]:
    """`worker(group, *arguments)` on each of `num_ranks` threads; what they return, in their order.

    If one raises, the others, which would wait for it for ever, stop, and its exception is raised
    here. A rank that has waited `timeout` seconds for another gives up. Raises `ValueError` for
    fewer than two ranks.
    """
    if num_ranks < 2:
        raise ValueError(f"num_ranks must be 2 or more, got {num_ranks!r}")
    lines, failures = ThreadLines(num_ranks, timeout), []
    groups = [ThreadGroup(rank, num_ranks, lines) for rank in range(num_ranks)]

    def run(rank: int) -> Any:
        try:
            return worker(groups[rank], *arguments)
        except BaseException as error:
            failures.append(error)
        finally:
            lines.ended.add(rank)

    with ThreadPoolExecutor(max_workers=num_ranks) as pool:
        results = list(pool.map(run, range(num_ranks)))
    if failures:
        raise failures[0]
    return results
