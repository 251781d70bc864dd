"""Scaled dot-product attention, softmax(Q Kᵀ / √head_dim) V (Vaswani et al., 2017)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from lib.attention.attend import attend
from lib.attention.scores import scaled_dot_scores
from lib.masks import causal, check_mask


def scaled_dot_product_attention(
    q: Float[Tensor, "*batch queries head_dim"],
    k: Float[Tensor, "*batch keys head_dim"],
    v: Float[Tensor, "*batch keys value_dim"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    bias: Float[Tensor, "..."] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "*batch queries value_dim"]:
    """Attend to `v` with the scaled dot products of `q` and `k`, plus a `bias` if there is one.

    The bias is added after scaling; T5's and ALiBi's positions are such biases. `scale` is
    1 / √head_dim unless given. For the weights too, call `attend(scaled_dot_scores(q, k), v)`.

    Raises `ValueError` for a mask that is not boolean or does not broadcast to the scores, and for
    a bias that does not.
    """
    scores = scaled_dot_scores(q, k, scale=scale)
    if bias is not None:
        check_bias(bias, scores.shape)
        scores = scores + bias
    output, _ = attend(scores, v, mask)
    return output


def fused_dot_product_attention(
    q: Float[Tensor, "batch num_attention_heads queries head_dim"],
    k: Float[Tensor, "batch num_key_value_heads keys head_dim"],
    v: Float[Tensor, "batch num_key_value_heads keys value_dim"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    bias: Float[Tensor, "..."] | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch num_attention_heads queries value_dim"]:
    """The same from one kernel of torch, which keeps no scores in memory.

    Key-value heads may be fewer than attention heads: each then serves as many in a row.
    `is_causal` adds the mask `causal`, aligned to the last key, and does not build it where the
    kernel can do without. `dropout` draws from torch's global generator. Raises `ValueError` as
    `scaled_dot_product_attention` does.
    """
    masked = mask is not None or bias is not None
    if is_causal and (masked or q.shape[-2] != k.shape[-2]):
        # The kernel's own causal mask is aligned to the first key.
        mask, is_causal, masked = with_causal(mask, q, k), False, True
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=_kernel_mask(mask, bias, q, k) if masked else None,
        dropout_p=dropout,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def intersect(
    mask: Bool[Tensor, "..."] | None, other: Bool[Tensor, "..."] | None
) -> Bool[Tensor, "..."] | None:
    """What both masks let through. None is the mask that lets everything through.

    Raises `ValueError` for masks that are not boolean or do not broadcast.
    """
    if mask is None or other is None:
        return other if mask is None else mask
    try:
        return mask & other
    except RuntimeError:
        raise ValueError(
            f"masks of shapes {tuple(mask.shape)} and {tuple(other.shape)}, of {mask.dtype} and "
            f"{other.dtype}, do not combine: they must be boolean (True = may attend) and broadcast"
        ) from None


def with_causal(
    mask: Bool[Tensor, "..."] | None,
    q: Float[Tensor, "*batch queries head_dim"],
    k: Float[Tensor, "*groups keys key_dim"],
) -> Bool[Tensor, "..."]:
    """The mask, and causal besides, for these queries and keys."""
    return intersect(mask, causal(q.shape[-2], k.shape[-2]).to(q.device))


def check_bias(bias: Tensor, shape: torch.Size) -> None:
    """Raise `ValueError` unless `bias` has floats and broadcasts to scores of this shape."""
    if not bias.is_floating_point():
        raise ValueError(
            f"a bias is added to the scores and must have floats, got {bias.dtype}; "
            "what a query may see is the mask"
        )
    sides = zip(reversed(bias.shape), reversed(shape), strict=False)
    if bias.ndim > len(shape) or any(mine not in (1, its) for mine, its in sides):
        raise ValueError(
            f"a bias of shape {tuple(bias.shape)} does not fit scores of shape {tuple(shape)} "
            "(..., queries, keys)"
        )


def _kernel_mask(mask: Tensor | None, bias: Tensor | None, q: Tensor, k: Tensor) -> Tensor:
    """Mask and bias in the one tensor that the kernel takes, with two axes or more."""
    shape = torch.Size((*q.shape[:-1], k.shape[-2]))
    if mask is not None:
        check_mask(mask, shape)
    if bias is None:
        return torch.atleast_2d(mask)
    check_bias(bias, shape)
    return torch.atleast_2d(bias if mask is None else bias.masked_fill(~mask, float("-inf")))
