"""Why scores are scaled: large ones saturate the softmax, and then no gradient comes back.

The dot product of two vectors of head_dim entries of variance 1 has variance head_dim. Softmax of
scores that far apart puts nearly all weight on one key, and its derivative there is nearly zero
(Vaswani et al., 2017, section 3.2.1 and its footnote).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.attention.attend import masked_softmax
from lib.attention.scores import scaled_dot_scores
from lib.memory.sizes import check_positive, check_sizes


class Saturation(NamedTuple):
    """What a scale does to random queries and keys, on average over the queries."""

    score_variance: float
    """Of the scores: head_dim scale²."""
    largest_weight: float
    """The weight of the key that gets most, between 1 / keys (uniform) and 1 (saturated)."""
    gradient: float
    """The sum of the softmax's own derivatives ∂w_i / ∂s_i, from (1 - 1 / keys) down to 0."""


def softmax_jacobian(
    weights: Float[Tensor, "*batch keys"],
) -> Float[Tensor, "*batch keys keys"]:
    """∂ weights_i / ∂ scores_j of a softmax, from its weights: w_i (1 if i = j else 0) - w_i w_j.

    Each row adds up to 0, as the weights always add up to 1. One weight of 1, the others 0, makes
    every entry 0: a saturated softmax learns nothing.
    """
    return torch.diag_embed(weights) - weights[..., :, None] * weights[..., None, :]


def saturation(
    head_dim: int,
    *,
    keys: int,
    scale: float,
    generator: torch.Generator,
    queries: int = 1000,
) -> Saturation:
    """Draw queries and keys with entries of variance 1, and see what `scale` makes of them.

    Compare `scale=1` with `scale=head_dim ** -0.5`. Raises `ValueError` for sizes that are not
    positive whole numbers and a scale that is not above zero.
    """
    check_sizes(head_dim=head_dim, keys=keys, queries=queries)
    check_positive(scale=scale)
    # Keys of its own for each query, so that the averages are over independent draws.
    q = torch.randn(queries, 1, head_dim, generator=generator)
    k = torch.randn(queries, keys, head_dim, generator=generator)
    scores = scaled_dot_scores(q, k, scale=scale)
    weights = masked_softmax(scores)
    trace = softmax_jacobian(weights).diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    return Saturation(scores.var().item(), weights.amax(dim=-1).mean().item(), trace.mean().item())
