"""FlashAttention's forward pass, fast on a CPU: the same tiles, with less work in each.

Three things differ from `flash`. Memory for the scores is taken once and written over and over.
Exponentials have base 2, the logarithm of e being part of the scale, as in FlashAttention's own
kernels. And where no score can be large, nobody looks for the largest: |q · k| is at most |q| |k|,
and while 2 to that power is far from overflowing, sums of powers need no reference.
"""

import itertools
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
    passes = visibility, scale, (ROWS, COLS), Traffic(), _forward
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
    """O and the log-sum-exp: as many heads at a time as there are threads, one for each."""
    exponent = scale * math.log2(math.e)
    largest = abs(exponent) * q.norm(dim=-1).max() * k.norm(dim=-1).max()
    if not largest <= SAFE_EXPONENT or q.element_size() < 4:
        return forward_in_tiles(q, k, v, visibility, scale, tile, traffic)
    output, total = torch.empty_like(q), q.new_empty(q.shape[:-1])
    scratch = q.new_empty(torch.get_num_threads() * tile * max(tile, COLS))
    for q_heads, k_heads, v_heads, o_heads, sums in _groups(q, k, v, output, total[..., None]):
        for rows in blocks(q.shape[-2], tile):
            q_tile = q_heads[:, rows] * exponent
            so_far, tile_sums = torch.zeros_like(q_tile), 0
            for cols, diagonal in _spans(rows, visibility):
                shape = *q_tile.shape[:-1], cols.stop - cols.start
                weights = scratch[: math.prod(shape)].view(shape)
                torch.bmm(q_tile, k_heads[:, cols].mT, out=weights).exp2_()
                if diagonal:
                    weights.tril_()
                tile_sums += weights.sum(dim=-1, keepdim=True)
                so_far.baddbmm_(weights, v_heads[:, cols])
            o_heads[:, rows], sums[:, rows] = so_far.div_(tile_sums), tile_sums
    return output, total.log_()


def _groups(*tensors: Tensor) -> Iterator[list[Tensor]]:
    """The same heads of each tensor, as many as threads, as views (heads, length, size).

    Views, however the heads lie in memory: flattened, what a split leaves would become a copy.
    """
    tensors = [x if x.ndim > 2 else x[None] for x in tensors]
    for index in itertools.product(*map(range, tensors[0].shape[:-3])):
        for heads in blocks(tensors[0].shape[-3], torch.get_num_threads()):
            yield [x[index][heads] for x in tensors]


def _spans(rows: slice, visibility: Visibility) -> Iterator[tuple[slice, bool]]:
    """Tiles of keys that all of `rows` see, and at last the square that the diagonal crosses."""
    if not visibility.is_causal:
        yield from ((cols, False) for cols in blocks(visibility.keys, COLS))
        return
    first = rows.start + visibility.keys - visibility.queries
    yield from ((cols, False) for cols in blocks(first, COLS))
    yield slice(first, first + rows.stop - rows.start), True
