"""Sparse attention, computed as sparsely as it is: only scores that are seen, or nearly so.

`gathered_attention` takes any list of keys for each query (`neighbours`) and reads like the
definition; but it gathers a key anew for every query, with a product of one row each. Where groups
of queries share keys, tiles of the matrix of scores (`sparse_tiles`) are products that hardware
likes better. Where whole blocks share whole blocks, a layout of blocks says it all.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lib.attention.dot_product import scaled_dot_product_attention
from lib.attention.neighbours import Neighbours
from lib.attention.scores import scaled_dot_scores
from lib.attention.sparse_tiles import Tiles, longformer_tiles
from lib.memory.sizes import check_sizes
from lib.memory.tiling import blocks


def gathered_attention(
    q: Float[Tensor, "*batch seq_len head_dim"],
    k: Float[Tensor, "*batch seq_len head_dim"],
    v: Float[Tensor, "*batch seq_len value_dim"],
    neighbours: Neighbours,
    *,
    scale: float | None = None,
    chunk: int = 256,
) -> Float[Tensor, "*batch seq_len value_dim"]:
    """Each query attends to its own list of keys. `chunk` queries are gathered for at a time.

    Raises `ValueError` for lists for another number of queries, and for a chunk below 1.
    """
    check_sizes(chunk=chunk)
    if len(neighbours.index) != q.shape[-2]:
        raise ValueError(f"neighbours of {len(neighbours.index)} queries for {q.shape[-2]} of them")
    outputs = []
    for rows in blocks(q.shape[-2], chunk):
        index, seen = neighbours.index[rows], neighbours.seen[rows, None]
        # Each query is a sequence of one, with keys of its own.
        one = scaled_dot_product_attention(
            q[..., rows, None, :], k[..., index, :], v[..., index, :], seen, scale=scale
        )
        outputs.append(one.squeeze(-2))
    return torch.cat(outputs, dim=-2)


def sparse_attention(
    q: Float[Tensor, "*batch seq_len head_dim"],
    k: Float[Tensor, "*batch seq_len head_dim"],
    v: Float[Tensor, "*batch seq_len value_dim"],
    pattern: Sequence[Tiles],
    *,
    scale: float | None = None,
) -> Float[Tensor, "*batch seq_len value_dim"]:
    """Attention to what the tiles of `pattern` show, with one softmax over all tiles of a query.

    As softmax is a sum over a sum, each tile adds its share to both: the values times the weights,
    and the weights. Raises `ValueError` for a pattern of another length.
    """
    for tiles in pattern:
        if tiles.seq_len != q.shape[-2]:
            raise ValueError(f"a pattern for {tiles.seq_len} tokens, but there are {q.shape[-2]}")
    scores = [_tile_scores(q, k, tiles, scale) for tiles in pattern]
    highest = _highest(q, pattern, scores)
    output, total = torch.zeros_like(v), torch.zeros_like(highest)
    for tiles, tile_scores in zip(pattern, scores, strict=True):
        weights = (tile_scores - _take(highest, tiles.queries)).exp()
        rows = tiles.queries.flatten().to(q.device)
        output = output.index_add(-2, rows, (weights @ _take(v, tiles.keys)).flatten(-3, -2))
        total = total.index_add(-2, rows, weights.sum(dim=-1, keepdim=True).flatten(-3, -2))
    # A query that sees a key has a total of at least 1, from its highest score.
    return output / total.clamp(min=1)


def longformer_attention(
    q: Float[Tensor, "*batch seq_len head_dim"],
    k: Float[Tensor, "*batch seq_len head_dim"],
    v: Float[Tensor, "*batch seq_len value_dim"],
    *,
    window: int,
    dilation: int = 1,
    positions: Sequence[int] = (),
    scale: float | None = None,
) -> Float[Tensor, "*batch seq_len value_dim"]:
    """Window and global tokens (Beltagy et al., 2020), equal to attention with `masks.longformer`.

    The paper gives the global tokens projections of their own; here q, k and v are what they are.
    """
    pattern = longformer_tiles(q.shape[-2], window=window, dilation=dilation, positions=positions)
    return sparse_attention(q, k, v, pattern, scale=scale)


def block_sparse_attention(
    q: Float[Tensor, "*batch seq_len head_dim"],
    k: Float[Tensor, "*batch seq_len head_dim"],
    v: Float[Tensor, "*batch seq_len value_dim"],
    layout: Bool[Tensor, "blocks blocks"],
    *,
    scale: float | None = None,
) -> Float[Tensor, "*batch seq_len value_dim"]:
    """Each block of queries attends to the blocks of keys that `layout` turns on for it.

    Equal to attention with `masks.block_sparse(layout, block_size)`; BigBird is `bigbird_layout`.
    Raises `ValueError` for a layout that is not square or does not divide the sequence.
    """
    count, seq_len = len(layout), q.shape[-2]
    if layout.shape != (count, count) or not count or seq_len % count:
        raise ValueError(
            f"a layout {tuple(layout.shape)} does not cut {seq_len} tokens into equal blocks"
        )
    q, k, v = (x.unflatten(-2, (count, -1)) for x in (q, k, v))
    outputs = []
    for row, seen in enumerate(layout):
        keys, values = (x[..., seen, :, :].flatten(-3, -2) for x in (k, v))
        outputs.append(_attend_block(q[..., row, :, :], keys, values, scale))
    return torch.cat(outputs, dim=-2)


def _attend_block(q: Tensor, keys: Tensor, values: Tensor, scale: float | None) -> Tensor:
    if not keys.shape[-2]:
        return q.new_zeros(*q.shape[:-1], values.shape[-1])
    return functional.scaled_dot_product_attention(q, keys, values, scale=scale)


def _tile_scores(q: Tensor, k: Tensor, tiles: Tiles, scale: float | None) -> Tensor:
    """(..., tiles, rows, cols), minus infinity where nothing is seen."""
    scores = scaled_dot_scores(_take(q, tiles.queries), _take(k, tiles.keys), scale=scale)
    return scores.masked_fill(~tiles.seen.to(q.device), float("-inf"))


@torch.no_grad()
def _highest(q: Tensor, pattern: Sequence[Tiles], scores: Sequence[Tensor]) -> Tensor:
    """The highest score of each query in any tile, as a column: softmax is the same less it."""
    highest = q.new_full((*q.shape[:-1], 1), torch.finfo(q.dtype).min)
    for tiles, tile_scores in zip(pattern, scores, strict=True):
        if tile_scores.shape[-1]:
            largest = tile_scores.amax(dim=-1, keepdim=True).flatten(-3, -2)
            rows = tiles.queries.flatten().to(q.device)[:, None].expand_as(largest)
            highest.scatter_reduce_(-2, rows, largest, "amax")
    return highest


def _take(x: Tensor, positions: Tensor) -> Tensor:
    """(..., seq_len, dim) at positions (tiles, rows): (..., tiles, rows, dim)."""
    taken = x.index_select(-2, positions.flatten().to(x.device))
    return taken.unflatten(-2, positions.shape)
