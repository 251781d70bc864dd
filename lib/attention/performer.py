"""Performer (Choromanski et al., 2021): random features whose products are softmax's weights.

For w drawn from a normal distribution, exp(w · q - |q|²/2) exp(w · k - |k|²/2) is exp(q · k) on
average. So the mean over many w is linear attention that estimates softmax attention: without bias
in the scores, and with positive features, so that no weight is ever negative.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lib.attention.linear import causal_linear_attention, linear_attention
from lib.memory.sizes import check_sizes


def random_directions(
    num_features: int,
    head_dim: int,
    *,
    generator: torch.Generator,
    orthogonal: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "{num_features} {head_dim}"]:
    """Rows drawn from a normal distribution; `orthogonal`, each `head_dim` of them at right angles.

    Each row is distributed as before, so the estimate stays unbiased; but rows that point apart
    make it vary less.
    """
    check_sizes(num_features=num_features, head_dim=head_dim)
    drawn = torch.randn(num_features, head_dim, generator=generator, dtype=torch.float64)
    if orthogonal:
        squares = torch.randn(
            -(-num_features // head_dim), head_dim, head_dim, generator=generator, dtype=drawn.dtype
        )
        # The sign makes the distribution uniform: QR alone prefers a positive diagonal.
        q, r = torch.linalg.qr(squares)
        rotations = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]
        directions = rotations.mT.flatten(end_dim=1)[:num_features]
        drawn = directions * drawn.norm(dim=-1, keepdim=True)
    return drawn.to(dtype)


def softmax_features(
    x: Float[Tensor, "*batch tokens head_dim"],
    directions: Float[Tensor, "features head_dim"],
    *,
    shared_shift: bool,
) -> Float[Tensor, "*batch tokens features"]:
    """exp(w · x - |x|²/2) / √features for each direction w, with x scaled by head_dim^(-1/4).

    Exponents are shifted so that none overflows. A shift cancels in the normalisation if it is one
    a query, or one for all keys: `shared_shift`.
    """
    x = x * x.shape[-1] ** -0.25
    exponents = x @ directions.mT - x.square().sum(dim=-1, keepdim=True) / 2
    over = (-2, -1) if shared_shift else (-1,)
    return (exponents - exponents.amax(dim=over, keepdim=True)).exp() * len(directions) ** -0.5


def performer_attention(
    q: Float[Tensor, "*batch queries head_dim"],
    k: Float[Tensor, "*batch keys head_dim"],
    v: Float[Tensor, "*batch keys value_dim"],
    directions: Float[Tensor, "features head_dim"],
    *,
    is_causal: bool = False,
) -> Float[Tensor, "*batch queries value_dim"]:
    """An estimate of softmax attention in time linear in the length."""
    q = softmax_features(q, directions, shared_shift=False)
    k = softmax_features(k, directions, shared_shift=True)
    return causal_linear_attention(q, k, v) if is_causal else linear_attention(q, k, v)
