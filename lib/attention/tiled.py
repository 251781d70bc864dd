"""FlashAttention's forward pass, fast on a CPU: the same tiles, with less work in each.

Three things differ from `flash`. Memory for the scores is taken once and written over and over.
Exponentials have base 2, the logarithm of e being part of the scale, as in FlashAttention's own
kernels. And where no score can be large, nobody looks for the largest: |q · k| is at most |q| |k|,
and while 2 to that power is far from overflowing, sums of powers need no reference.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from lib.attention.flash import FlashFunction, Traffic, Visibility, forward_in_tiles
from lib.memory.tiling import blocks

ROWS, COLS = 256, 2048
"""A tile of float32 scores is then 2 MiB: small beside q, and few steps of Python."""

SAFE_EXPONENT = 60.0
"""2^60 summed over a million keys is 2^80; float32 reaches from 2^-126 to 2^127."""


def tiled_attention(
    q: Float[Tensor, "*batch queries head_dim"],
    k: Float[Tensor, "*batch keys head_dim"],
    v: Float[Tensor, "*batch keys head_dim"],
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "*batch queries head_dim"]:
    """`scaled_dot_product_attention` in O(queries) memory. Causal, the last query is the last key.

    The backward pass is that of `flash`.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    visibility = Visibility(q.shape[-2], k.shape[-2], None, is_causal)
    passes = visibility, scale, (ROWS, ROWS), Traffic(), _forward
    return FlashFunction.apply(q, k, v, *passes)[0]


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visibility: Visibility,
    scale: float,
    tile: int,
    traffic: Traffic,
) -> tuple[Tensor, Tensor]:
    """O and the log-sum-exp, one head at a time, so that its tiles stay in the cache."""
    exponent = scale * math.log2(math.e)
    largest = abs(exponent) * q.norm(dim=-1).max() * k.norm(dim=-1).max()
    if not largest <= SAFE_EXPONENT or q.dtype == torch.float16:
        return forward_in_tiles(q, k, v, visibility, scale, tile, traffic)
    output, lse = torch.empty_like(q), q.new_empty(q.shape[:-1])
    scratch = q.new_empty(tile * COLS)
    heads = (x.flatten(end_dim=-3) if x.ndim > 2 else x[None] for x in (q, k, v, output))
    sums = lse.reshape(-1, lse.shape[-1])
    for q_head, k_head, v_head, output_head, total in zip(*heads, sums, strict=True):
        for rows in blocks(len(q_head), tile):
            q_tile, so_far = q_head[rows] * exponent, output_head[rows].zero_()
            total[rows] = 0
            for cols, diagonal in _spans(rows, visibility):
                weights = scratch[: len(q_tile) * (cols.stop - cols.start)].view(len(q_tile), -1)
                torch.mm(q_tile, k_head[cols].T, out=weights).exp2_()
                if diagonal:
                    weights.tril_()
                total[rows] += weights.sum(dim=-1)
                so_far.addmm_(weights, v_head[cols])
            so_far /= total[rows, None]
    return output, lse.log_()


def _spans(rows: slice, visibility: Visibility) -> Iterator[tuple[slice, bool]]:
    """Tiles of keys that all of `rows` see, and at last the square that the diagonal crosses."""
    if not visibility.is_causal:
        yield from ((cols, False) for cols in blocks(visibility.keys, COLS))
        return
    first = rows.start + visibility.keys - visibility.queries
    yield from ((cols, False) for cols in blocks(first, COLS))
    yield slice(first, first + rows.stop - rows.start), True
