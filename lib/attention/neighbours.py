"""Sparse patterns as lists: the keys that each query sees, instead of a mask of all pairs.

`index` (queries, slots) names the keys, `seen` (queries, slots) says which slots are in use. No key
is named twice for a query. The masks of the same patterns are in `lib.masks`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lib.memory.sizes import check_sizes


@dataclass(frozen=True)
class Neighbours:
    """The keys of each query, in slots; slots not in use point to key 0."""

    index: Int[Tensor, "queries slots"]
    seen: Bool[Tensor, "queries slots"]


def dilated_neighbours(
    seq_len: int, *, window: int, dilation: int = 1, is_causal: bool = True
) -> Neighbours:
    """`masks.dilated`: `window` keys, each `dilation` before the next; a window for dilation 1."""
    check_sizes(seq_len=seq_len, window=window, dilation=dilation)
    steps = torch.arange(1 - window, 1 if is_causal else window)
    return _within(torch.arange(seq_len)[:, None] + dilation * steps, seq_len)


def strided_neighbours(seq_len: int, *, stride: int) -> Neighbours:
    """`masks.strided`: every `stride`-th key, counted from the query's own position."""
    check_sizes(seq_len=seq_len, stride=stride)
    first = torch.arange(seq_len)[:, None] % stride
    return _within(first + torch.arange(0, seq_len, stride), seq_len)


def fixed_neighbours(seq_len: int, *, block_size: int, summary: int = 1) -> Neighbours:
    """`masks.fixed`: the last `summary` keys of every block, the same for all queries."""
    keys = _summaries(seq_len, block_size, summary)
    return _within(keys.expand(seq_len, -1), seq_len)


def random_neighbours(seq_len: int, *, count: int, generator: torch.Generator) -> Neighbours:
    """`count` different keys for each query, drawn at random."""
    check_sizes(seq_len=seq_len, count=count)
    if count > seq_len:
        raise ValueError(f"{count} different keys cannot be drawn from {seq_len}")
    draws = [torch.randperm(seq_len, generator=generator)[:count] for _ in range(seq_len)]
    return _within(torch.stack(draws), seq_len)


def sparse_transformer_strided_neighbours(seq_len: int, *, stride: int) -> Neighbours:
    """`masks.sparse_transformer_strided`: the last `stride` keys, then every `stride`-th before."""
    check_sizes(seq_len=seq_len, stride=stride)
    every = torch.arange(stride, max(stride, seq_len), stride)
    back = torch.cat([torch.arange(stride), every])
    return _within(torch.arange(seq_len)[:, None] - back, seq_len)


def sparse_transformer_fixed_neighbours(
    seq_len: int, *, block_size: int, summary: int = 1
) -> Neighbours:
    """`masks.sparse_transformer_fixed`: the own block so far, and the summaries before it."""
    query = torch.arange(seq_len)[:, None]
    block = query // block_size * block_size
    own = block + torch.arange(block_size)
    summaries = _summaries(seq_len, block_size, summary).expand(seq_len, -1)
    own_seen, summary_seen = own <= query, summaries < block
    return _used(torch.cat([own, summaries], dim=1), torch.cat([own_seen, summary_seen], dim=1))


def _summaries(seq_len: int, block_size: int, summary: int) -> Int[Tensor, " keys"]:
    check_sizes(seq_len=seq_len, block_size=block_size, summary=summary)
    if summary > block_size:
        raise ValueError(f"a block of {block_size} keys has no summary of {summary}")
    keys = torch.arange(seq_len)
    return keys[keys % block_size >= block_size - summary]


def _within(index: Int[Tensor, "queries slots"], seq_len: int) -> Neighbours:
    return _used(index, (index >= 0) & (index < seq_len))


def _used(index: Int[Tensor, "queries slots"], seen: Bool[Tensor, "queries slots"]) -> Neighbours:
    return Neighbours(index.masked_fill(~seen, 0), seen)
