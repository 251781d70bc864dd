"""Hard attention: each query takes the value of one key, where soft attention averages them all.

Which key: the best one, or one drawn with the soft weights as probabilities (Xu et al., "Show,
attend and tell", 2015). The choice has no derivative, so gradients reach the values and never the
scores; that is why soft attention is what models are trained with.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from lib.attention.attend import masked_softmax


def hard_attend(
    scores: Float[Tensor, "*batch queries keys"],
    values: Float[Tensor, "*#batch keys value_dim"],
    mask: Bool[Tensor, "..."] | None = None,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"]]:
    """The value of the key with the highest score, and weights of 1 for that key, 0 elsewhere.

    It is what `attend` tends to as the scores grow. Of equal scores the first wins. A query whose
    mask lets no key through gets zeros. Raises `ValueError` as `attend` does.
    """
    weights = masked_softmax(scores, mask)
    return _take(weights, weights, values)


def sampled_attend(
    scores: Float[Tensor, "*batch queries keys"],
    values: Float[Tensor, "*#batch keys value_dim"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"]]:
    """The value of one key drawn with the weights of `attend`, and a weight of 1 for that key.

    In expectation over the draws, both results are those of `attend`. A query whose mask lets no
    key through gets zeros. Raises `ValueError` as `attend` does.
    """
    weights = masked_softmax(scores, mask)
    # Each key waits for a time with mean 1 / weight; key i is the first with probability weight_i.
    waiting = torch.empty_like(weights, requires_grad=False).exponential_(generator=generator)
    return _take(weights / waiting, weights, values)


def _take(preference: Tensor, weights: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The values of the preferred keys; none where the soft weights are zero throughout."""
    chosen = F.one_hot(preference.argmax(dim=-1), weights.shape[-1]).to(weights.dtype)
    chosen = chosen * (weights.detach() > 0)
    return chosen @ values, chosen
