"""The cache that stays small: the last tokens, and the very first ones (Xiao et al., 2024).

A window alone breaks a model that was trained without one: much of the softmax goes to the first
tokens, whatever they are, and when they leave the window the output collapses. StreamingLLM keeps
a few of them for good, the attention sinks.
"""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lib.kv_cache.cache import Keys, KVCache, Seen, Values
from lib.memory.sizes import check_sizes


class SlidingWindowCache(KVCache):
    """The first `num_sinks` tokens, and the last `window` in a ring: the new replaces the oldest.

    Equal to attention over all tokens in which a query sees itself, the `window - 1` before it and
    the sinks. With as many tokens as one likes it holds `num_sinks + window` of each sequence.
    Keys are stored as they come; `positions` says whose they are, for positions inside the cache.

    Raises `ValueError` for a window below 1 or a number of sinks below 0.
    """

    def __init__(self, *, window: int, num_sinks: int = 0, **sizes):
        super().__init__(**sizes)
        check_sizes(window=window)
        if type(num_sinks) is not int or num_sinks < 0:
            raise ValueError(f"num_sinks must be a whole number, 0 or more, got {num_sinks!r}")
        self.window, self.num_sinks, self.capacity = window, num_sinks, num_sinks + window
        self.keys = self._zeros(self.capacity, self.key_dim)
        self.values = self._zeros(self.capacity, self.value_dim)

    def append(self, keys: Keys, values: Values) -> Seen:
        """One token: written in place, and views are returned. Several: a copy of all they may see.

        For the first of several still sees tokens which the last of them replaces.
        """
        self._check_block(keys, values)
        old, self._length = self.length, self.length + keys.shape[-2]
        seen = [self._append_to(self.keys, keys, old), self._append_to(self.values, values, old)]
        return seen[0], seen[1]

    def _append_to(self, ring: Tensor, block: Tensor, old: int) -> Tensor:
        single = block.shape[-2] == 1
        before = None if single else torch.cat([self._used(ring, old), block], dim=-2)
        position = torch.arange(old, self.length, device=self.device)
        kept = position[(position < self.num_sinks) | (position >= self.length - self.window)]
        ring[..., self._slots(kept), :] = block[..., kept - old, :]
        return self._used(ring, self.length) if single else before

    def _used(self, ring: Tensor, length: int) -> Tensor:
        return ring[..., : min(length, self.capacity), :]

    def _slots(self, position: Tensor) -> Tensor:
        """Where in its tensors a token is kept."""
        behind = position - self.num_sinks
        return torch.where(behind < 0, position, self.num_sinks + behind % self.window)

    def positions(self, num_queries: int = 1) -> Int64[Tensor, " keys"]:
        """Which token each of the keys belongs to that the last `append`, of so many, returned."""
        self._check_queries(num_queries)
        old = self.length if num_queries == 1 else self.length - num_queries
        slot = torch.arange(min(old, self.capacity), device=self.device)
        # The latest token below `old` that has this slot.
        turns = (old - 1 - slot) // self.window
        held = torch.where(slot < self.num_sinks, slot, slot + turns * self.window)
        return torch.cat([held, torch.arange(old, self.length, device=self.device)])

    def mask(self, num_queries: int) -> Bool[Tensor, "queries keys"] | None:
        """Sinks or window, and not the future; None for one query, which may see all."""
        if num_queries == 1:
            return super().mask(1)
        key = self.positions(num_queries)
        query = torch.arange(self.length - num_queries, self.length, device=self.device)[:, None]
        return (key <= query) & ((key < self.num_sinks) | (query - key < self.window))

    def truncate(self, length: int) -> None:
        """Forget the tokens behind the first `length`.

        Raises `ValueError` once the ring has gone round: what they replaced is lost.
        """
        self._check_length(length)
        if length < self.length and self.length > self.capacity:
            raise ValueError(
                f"cannot go back from {self.length} tokens to {length}: those that the last ones "
                f"replaced are gone (num_sinks {self.num_sinks}, window {self.window})"
            )
        self._length = length

    def reset(self) -> None:
        """Forget all tokens; the memory stays."""
        self._length = 0
