"""Attention masks: which query may attend to which key.

A mask is a boolean tensor whose last two sides are queries and keys; True means *may attend*, the
convention of `torch.nn.functional.scaled_dot_product_attention`. (`torch.nn.MultiheadAttention`
means the opposite.) Masks broadcast against the scores, (batch, heads, queries, keys), and two of
them combine with `&`. A query that may attend to nothing is allowed: its output is zero.

Lengths are positive whole numbers; anything else raises `ValueError`.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.memory.sizes import check_sizes


def causal(queries: int, keys: int | None = None) -> Bool[Tensor, "queries keys"]:
    """No query sees a later key. The last query stands at the last key.

    So that decoding works: one new query against a cache of `keys` sees all of them. Aligned to
    the start, as `is_causal=True` is in PyTorch, it would see the first key alone.

    Raises `ValueError` for more queries than keys: the first ones would have nothing to see.
    """
    queries, keys = _check_lengths(queries, keys)
    return torch.arange(keys) <= _query_positions(queries, keys)


def sliding_window(
    queries: int, keys: int | None = None, *, window: int, causal: bool = True
) -> Bool[Tensor, "queries keys"]:
    """Each query sees the `window` keys up to and with its own position.

    Not causal, it sees as many after itself: 2 window - 1 in all. Aligned to the end, as `causal`.
    """
    queries, keys = _check_lengths(queries, keys)
    check_sizes(window=window)
    distance = _query_positions(queries, keys) - torch.arange(keys)
    return (distance.abs() < window) & (distance >= 0 if causal else True)


def density(mask: Bool[Tensor, "*batch queries keys"]) -> float:
    """The share of query-key pairs that the mask lets through."""
    return mask.float().mean().item()


def to_additive(
    mask: Bool[Tensor, "*batch queries keys"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*batch queries keys"]:
    """The mask as numbers to add to the scores: 0 where True, minus infinity where False.

    A fully masked row is then all minus infinity, of which a plain softmax makes NaN.
    """
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, float("-inf"))


def check_mask(mask: Tensor, shape: torch.Size) -> None:
    """Raise `ValueError` unless `mask` is boolean and broadcasts to scores of this shape."""
    if mask.dtype != torch.bool:
        raise ValueError(
            f"a mask must be boolean (True = may attend), got {mask.dtype}: "
            "write `mask > 0`, or `mask == 0` for an additive one"
        )
    sides = zip(reversed(mask.shape), reversed(shape), strict=False)
    if mask.ndim > len(shape) or any(mine not in (1, its) for mine, its in sides):
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not fit scores of shape {tuple(shape)} "
            "(..., queries, keys)"
        )


def _query_positions(queries: int, keys: int) -> Tensor:
    """Where each query stands among the keys, as a column; the last one at the last key."""
    return torch.arange(keys - queries, keys)[:, None]


def _check_lengths(queries: int, keys: int | None) -> tuple[int, int]:
    keys = queries if keys is None else keys
    check_sizes(queries=queries, keys=keys)
    if queries > keys:
        raise ValueError(f"{queries} queries cannot stand at the end of only {keys} keys")
    return queries, keys
