"""Sparse patterns as tiles: small rectangles of the matrix of scores that hold all that is seen.

A list of keys for every query (`neighbours`) says what a pattern is, but gathers each key again for
every query that sees it. Queries that see nearly the same keys are better taken together: those of
a block for a window, those of one remainder for a stride. Each tile is then one matrix product.
The masks of the same patterns are in `lib.masks`; a pattern is a list of `Tiles` in which no pair
of query and key is seen twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lib.memory.sizes import check_sizes


@dataclass(frozen=True)
class Tiles:
    """Tiles of one size: the positions of their queries and keys, and which pairs are seen."""

    seq_len: int
    queries: Int[Tensor, "tiles rows"]
    keys: Int[Tensor, "tiles cols"]
    seen: Bool[Tensor, "tiles rows cols"]


def dilated_tiles(
    seq_len: int, *, window: int, dilation: int = 1, is_causal: bool = True
) -> list[Tiles]:
    """`masks.dilated`: among every `dilation`-th token, an ordinary window. `masks.sliding_window`
    for dilation 1.

    A tile is as many queries as the window is long, and the keys of two or three such blocks.
    """
    check_sizes(seq_len=seq_len, window=window, dilation=dilation)
    dilation = min(dilation, seq_len)
    length = -(-seq_len // dilation)
    window = min(window, length)
    start = torch.arange(0, length, window)[:, None]
    query = start + torch.arange(window)
    key = start + torch.arange(1 - window, window if is_causal else 2 * window - 1)
    distance = query[:, :, None] - key[:, None, :]
    near = (distance < window) & (distance > (-1 if is_causal else -window))
    first = torch.arange(dilation)[:, None, None]
    queries, keys = ((first + dilation * x).flatten(0, 1) for x in (query, key))
    return [_within(seq_len, queries, keys, near.repeat(dilation, 1, 1))]


def sparse_transformer_strided_tiles(seq_len: int, *, stride: int) -> list[Tiles]:
    """`masks.sparse_transformer_strided`: a window, and for each remainder of the stride, before
    the window, the tokens that share it.
    """
    check_sizes(seq_len=seq_len, stride=stride)
    stride = min(stride, seq_len)
    recent = dilated_tiles(seq_len, window=stride)
    column = torch.arange(stride)[:, None] + torch.arange(0, seq_len, stride)
    # The own position is in the window already.
    earlier = torch.ones(column.shape[1], column.shape[1], dtype=torch.bool).tril(-1)
    return [*recent, _within(seq_len, column, column, earlier.expand(stride, -1, -1))]


def sparse_transformer_fixed_tiles(
    seq_len: int, *, block_size: int, summary: int = 1
) -> list[Tiles]:
    """`masks.sparse_transformer_fixed`: a triangle on the diagonal for each block, and one tile of
    all queries and the summaries of the blocks before theirs.
    """
    check_sizes(seq_len=seq_len, block_size=block_size, summary=summary)
    if summary > block_size:
        raise ValueError(f"a block of {block_size} keys has no summary of {summary}")
    block_size = min(block_size, seq_len)
    everything = torch.arange(seq_len)
    own = torch.arange(0, seq_len, block_size)[:, None] + torch.arange(block_size)
    so_far = torch.ones(block_size, block_size, dtype=torch.bool).tril()
    summaries = everything[everything % block_size >= block_size - summary]
    before = summaries // block_size < everything[:, None] // block_size
    return [
        _within(seq_len, own, own, so_far.expand(len(own), -1, -1)),
        _within(seq_len, everything[None], summaries[None], before[None]),
    ]


def longformer_tiles(
    seq_len: int, *, window: int, dilation: int = 1, positions: Sequence[int] = ()
) -> list[Tiles]:
    """`masks.longformer`: windows, one tile of the global tokens' rows, one of their columns."""
    (local,) = dilated_tiles(seq_len, window=window, dilation=dilation, is_causal=False)
    everything = torch.arange(seq_len)
    is_global = torch.isin(everything, torch.tensor(sorted(set(positions)), dtype=torch.int64))
    chosen, others = everything[is_global][None], everything[~is_global][None]
    apart = ~is_global[local.queries][:, :, None] & ~is_global[local.keys][:, None, :]
    return [
        Tiles(seq_len, local.queries, local.keys, local.seen & apart),
        _full(seq_len, others, chosen),
        _full(seq_len, chosen, everything[None]),
    ]


def _full(seq_len: int, queries: Tensor, keys: Tensor) -> Tiles:
    shape = (len(queries), queries.shape[1], keys.shape[1])
    return Tiles(seq_len, queries, keys, torch.ones(shape, dtype=torch.bool))


def _within(seq_len: int, queries: Tensor, keys: Tensor, seen: Tensor) -> Tiles:
    """Positions beyond the ends of the sequence hidden, and replaced by others that exist."""
    real_queries, real_keys = ((x >= 0) & (x < seq_len) for x in (queries, keys))
    seen = seen & real_queries[:, :, None] & real_keys[:, None, :]
    return Tiles(seq_len, *(x.clamp(0, seq_len - 1) for x in (queries, keys)), seen)
