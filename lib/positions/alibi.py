"""ALiBi (Press et al., 2022): each head takes off the scores what is far away, at its own rate.

No parameter and no vector: -slope · |distance| is added to the scaled scores. The steepest head
sees a few tokens, the flattest nearly all.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lib.masks import relative_positions
from lib.memory.sizes import check_sizes


def alibi_slopes(num_attention_heads: int) -> Float[Tensor, " {num_attention_heads}"]:
    """2^(-8 h / n) for the heads h = 1 to n, where n is a power of two; in float64.

    Other counts take the slopes of the largest power of two below them, and then, steepest first,
    those that the next power of two has besides: the paper's code, and BLOOM's.
    """
    check_sizes(num_attention_heads=num_attention_heads)
    power = 2 ** math.floor(math.log2(num_attention_heads))
    besides = _geometric(2 * power)[::2]
    return torch.cat([_geometric(power), besides])[:num_attention_heads]


def alibi_bias(
    num_attention_heads: int,
    queries: int,
    keys: int | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "{num_attention_heads} queries keys"]:
    """What to add to the scores: -slope · |distance|. The last query stands at the last key.

    The paper's models are causal; keys after a query, if a mask lets it see them, lose as much.
    """
    distance = relative_positions(queries, keys).abs()
    return (-alibi_slopes(num_attention_heads)[:, None, None] * distance).to(dtype)


def _geometric(count: int) -> Tensor:
    """2^(-8/n), 2^(-16/n), ..., 2^(-8) for n of them."""
    return 2.0 ** (-8 * torch.arange(1, count + 1).double() / count)
