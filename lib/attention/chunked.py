"""Attention in blocks of queries: the scores of one block at a time (Rabe and Staats, 2021).

Of n² scores only chunk · n exist at any moment. A block still needs whole rows; `flash` cuts those
as well.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lib.attention.dot_product import scaled_dot_product_attention
from lib.masks import causal, check_mask
from lib.memory.sizes import check_sizes
from lib.memory.tiling import blocks


def chunked_attention(
    q: Float[Tensor, "*batch queries head_dim"],
    k: Float[Tensor, "*batch keys head_dim"],
    v: Float[Tensor, "*batch keys value_dim"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    chunk: int,
    is_causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "*batch queries value_dim"]:
    """`scaled_dot_product_attention`, `chunk` queries at a time. The last block may be shorter.

    The backward pass computes each block's scores again, so that they are not kept either. Causal,
    a block meets only the keys up to its last query.

    Raises `ValueError` for a chunk below 1 and for a mask that does not fit.
    """
    check_sizes(chunk=chunk)
    queries, keys = q.shape[-2], k.shape[-2]
    if mask is not None:
        check_mask(mask, (*q.shape[:-1], keys))
        mask = mask.expand(*q.shape[:-1], keys)
    outputs = []
    for rows in blocks(queries, chunk):
        end = keys - queries + rows.stop if is_causal else keys
        seen = None if mask is None else mask[..., rows, :end]
        if is_causal:
            last_rows = causal(rows.stop - rows.start, end).to(q.device)
            seen = last_rows if seen is None else seen & last_rows
        operands = q[..., rows, :], k[..., :end, :], v[..., :end, :], seen
        attend = scaled_dot_product_attention
        outputs.append(checkpoint(attend, *operands, scale=scale, use_reentrant=False))
    return torch.cat(outputs, dim=-2)
