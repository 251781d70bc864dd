"""Sparse attention, computed as sparsely as it is: only scores that are seen, or nearly so.

Two mechanisms do for all patterns. Where each query has keys of its own (`neighbours`), they are
gathered for it. Where blocks of queries share blocks of keys, whole blocks are gathered, which
hardware likes better.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lib.attention.dot_product import scaled_dot_product_attention
from lib.attention.neighbours import Neighbours, longformer_neighbours
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
    neighbours = longformer_neighbours(
        q.shape[-2], window=window, dilation=dilation, positions=positions
    )
    output = gathered_attention(q, k, v, neighbours, scale=scale)
    chosen = torch.tensor(sorted(set(positions)), dtype=torch.int64, device=q.device)
    everything = scaled_dot_product_attention(q[..., chosen, :], k, v, scale=scale)
    return output.index_copy(-2, chosen, everything)


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
