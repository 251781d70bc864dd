"""Ranks that send tensors to one another, and count every byte that they send.

All of this room is built on two calls, `send` and `receive`. What carries the tensors is one
subclass: processes joined by gloo here, threads of one process in `threads`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class RankLost(RuntimeError):
    """Another rank does not answer: it has ended, or is waiting for something else."""


@dataclass
class Sent:
    """What one rank has sent so far."""

    bytes: int = 0
    messages: int = 0


class RankGroup(ABC):
    """Some of the ranks of a run, as one of them sees them.

    A rank is a process (or a thread) with a number. `ranks` are the numbers of those in the group;
    within it they are called by their place there, from 0 to size - 1, and `index` is one's own.
    `sent` counts what this rank sends, in this group and in all `subgroup`s of it.

    Raises `ValueError` for a group of fewer than two ranks, for a rank that is in it twice, and
    for one's own rank missing.
    """

    def __init__(self, ranks: Sequence[int], own_rank: int) -> None:
        self.sent = Sent()
        self._own_rank = own_rank
        self._enter(ranks)

    def _enter(self, ranks: Sequence[int]) -> None:
        if len(ranks) < 2:
            raise ValueError(
                f"a group needs at least 2 ranks to have anything to send, got {list(ranks)}"
            )
        if len(set(ranks)) < len(ranks) or self._own_rank not in ranks:
            raise ValueError(
                f"a group has each rank once and one's own rank, {self._own_rank}, among them; "
                f"got {list(ranks)}"
            )
        self.ranks = tuple(ranks)

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return len(self.ranks)

    @property
    def index(self) -> int:
        """The place of this rank among them."""
        return self.ranks.index(self._own_rank)

    def subgroup(self, *indices: int) -> RankGroup:
        """The ranks at these places, this one among them, as a group of their own."""
        smaller = copy.copy(self)
        smaller._enter([self.ranks[index] for index in indices])
        return smaller

    def send(self, tensor: Tensor, to: int) -> Callable[[], None]:
        """Start to send a tensor to the rank at place `to`; return what waits until it has gone.

        The tensor must not change until then. Nothing is sent for a tensor without elements.
        """
        if not tensor.numel():
            return lambda: None
        self.sent.bytes += tensor.nbytes
        self.sent.messages += 1
        return self._send(tensor.detach().contiguous(), self.ranks[to])

    def receive(self, into: Tensor, source: int) -> Tensor:
        """Wait for a tensor from the rank at place `source` and write it into `into`."""
        if into.numel():
            self._receive(into, self.ranks[source])
        return into

    def receive_new(self, like: Tensor, source: int) -> Tensor:
        """The same, into a new tensor of the shape and dtype of `like`."""
        return self.receive(torch.empty_like(like), source)

    @abstractmethod
    def _send(self, tensor: Tensor, rank: int) -> Callable[[], None]:
        """Carry a contiguous tensor to a rank of the run."""

    @abstractmethod
    def _receive(self, into: Tensor, rank: int) -> None:
        """Fill a contiguous tensor with what a rank of the run sends next."""


class GlooGroup(RankGroup):
    """All processes of `torch.distributed`, which must have been initialised with gloo.

    `run_on_processes` makes one in each process that it starts; under `torchrun` call
    `torch.distributed.init_process_group("gloo")` first. A rank that has waited `timeout` seconds
    for another gives up, with `RankLost`.
    """

    def __init__(self, timeout: int | float = 60) -> None:
        super().__init__(range(dist.get_world_size()), dist.get_rank())
        self._timeout = timedelta(seconds=timeout)

    def _send(self, tensor: Tensor, rank: int) -> Callable[[], None]:
        work = _carry(dist.isend, tensor, rank)
        return lambda: _carry(work.wait, self._timeout)

    def _receive(self, into: Tensor, rank: int) -> None:
        _carry(_carry(dist.irecv, into, rank).wait, self._timeout)


def _carry(call: Callable, *arguments: object) -> Any:
    """Call gloo, whose errors all say that the other side is gone or silent."""
    try:
        return call(*arguments)
    except RuntimeError as error:
        raise RankLost(f"another rank does not answer: {error}") from None
