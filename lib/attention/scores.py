"""Score functions: how well each query matches each key.

All take queries (..., queries, query_dim) and keys (..., keys, key_dim) and return scores
(..., queries, keys). They differ in what lies between the two; `attend` does the rest.
"""

from math import sqrt

from jaxtyping import Float
from torch import Tensor


def dot_scores(
    q: Float[Tensor, "*batch queries head_dim"], k: Float[Tensor, "*batch keys head_dim"]
) -> Float[Tensor, "*batch queries keys"]:
    """q · k (Luong et al., 2015). For entries of variance 1 the score has variance head_dim."""
    return q @ k.mT


def scaled_dot_scores(
    q: Float[Tensor, "*batch queries head_dim"],
    k: Float[Tensor, "*batch keys head_dim"],
    *,
    scale: float | None = None,
) -> Float[Tensor, "*batch queries keys"]:
    """q · k / √head_dim (Vaswani et al., 2017): variance 1 for entries of variance 1.

    `scale` replaces 1 / √head_dim; T5 uses 1.
    """
    return dot_scores(q, k) * (1 / sqrt(q.shape[-1]) if scale is None else scale)
