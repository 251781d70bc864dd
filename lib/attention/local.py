"""Local attention: each query sees a window of keys around it, and no n by n matrix exists.

The sequence is cut into blocks as long as the window. Then all that a block's queries see lies in
their own block and its neighbours, and attention over blocks is attention over a batch of short
sequences. Of a block's scores about half are hidden and computed in vain: that is the price for
doing it in large products.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lib.memory.sizes import check_sizes


def local_attention(
    q: Float[Tensor, "batch num_heads seq_len head_dim"],
    k: Float[Tensor, "batch num_heads seq_len head_dim"],
    v: Float[Tensor, "batch num_heads seq_len value_dim"],
    *,
    window: int,
    is_causal: bool = True,
    padding: Bool[Tensor, "batch 1 1 seq_len"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "batch num_heads seq_len value_dim"]:
    """Equal to attention with `masks.sliding_window(seq_len, window=window, causal=is_causal)`.

    `padding` hides keys, as `masks.padding` makes it. The window need not divide the length.
    Raises `ValueError` for a window below 1.
    """
    check_sizes(window=window)
    batch, num_heads, seq_len, _ = q.shape
    after = 0 if is_causal else window
    missing = -seq_len % window
    q_blocks = _pad(q, 0, missing).unflatten(1, (-1, window))
    k_blocks, v_blocks = (_spans(_pad(x, window, missing + after), window, after) for x in (k, v))
    # Four sides, as the fused kernel wants them; with three, torch would fall back to a slow form.
    mask = _visible(seq_len, window, is_causal).to(q.device)[None]
    if padding is not None:
        seen = functional.pad(padding[:, 0, 0], (window, missing + after))
        spans = seen.unfold(-1, 2 * window + after, window)
        mask = (mask & spans[:, :, None]).repeat_interleave(num_heads, dim=0)
    output = functional.scaled_dot_product_attention(
        q_blocks, k_blocks, v_blocks, attn_mask=mask, scale=scale
    )
    output = output.flatten(start_dim=1, end_dim=2)[:, :seq_len]
    return output.unflatten(0, (batch, num_heads))


def _pad(x: Tensor, before: int, after: int) -> Float[Tensor, "sequences padded_len dim"]:
    """Zeros before and behind each head's sequence; heads and batch in one axis."""
    return functional.pad(x.flatten(end_dim=1), (0, 0, before, after))


def _spans(
    x: Float[Tensor, "sequences padded_len dim"], window: int, after: int
) -> Float[Tensor, "sequences blocks span dim"]:
    """What each block of queries may see: its neighbours' keys and its own. A view, no copy."""
    return x.unfold(1, 2 * window + after, window).mT


def _visible(seq_len: int, window: int, is_causal: bool) -> Bool[Tensor, "blocks queries span"]:
    """The window, and the end of the sequence, inside each block."""
    start = torch.arange(0, seq_len, window)[:, None, None]
    query = start + torch.arange(window)[:, None]
    key = start - window + torch.arange((2 if is_causal else 3) * window)
    distance = query - key
    near = (distance < window) & (distance > (-1 if is_causal else -window))
    return near & (key >= 0) & (key < seq_len)
