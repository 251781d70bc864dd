"""Attention, once the scores are known: softmax over the keys, then the average of the values.

However the scores come about (see `scores`), this is the rest of it.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.dropout import drop
from lib.masks import check_mask


def attend(
    scores: Float[Tensor, "*batch queries keys"],
    values: Float[Tensor, "*#batch keys value_dim"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"]]:
    """The values averaged for each query, and the weights it gave them.

    A query's weights are 0 or more and add up to 1, or to 0 if its mask lets no key through. With
    `dropout` the average is taken with some weights left out (Vaswani et al., 2017); the weights
    returned are whole.

    Raises `ValueError` for a mask that is not boolean or does not broadcast to the scores, and for
    a dropout outside [0, 1).
    """
    weights = masked_softmax(scores, mask)
    return drop(weights, dropout, generator) @ values, weights


def attend_loop(
    scores: Float[Tensor, "queries keys"], values: Float[Tensor, "keys value_dim"]
) -> Float[Tensor, "queries value_dim"]:
    """`attend` as its definition reads, one query after the other."""
    outputs = []
    for row in scores:
        weights = (row - row.max()).exp()  # the largest is 1, so that nothing overflows
        total = sum(weight * value for weight, value in zip(weights, values, strict=True))
        outputs.append(total / weights.sum())
    return torch.stack(outputs)


def masked_softmax(
    scores: Float[Tensor, "*batch queries keys"], mask: Bool[Tensor, "..."] | None = None
) -> Float[Tensor, "*batch queries keys"]:
    """Softmax over the keys that each query may attend to; a row of zeros where there are none.

    Raises `ValueError` for a mask that is not boolean or does not broadcast to the scores.
    """
    if mask is None:
        return scores.softmax(dim=-1)
    check_mask(mask, scores.shape)
    # The lowest finite number: minus infinity would make NaN of a row that is masked throughout.
    lowest = torch.finfo(scores.dtype).min
    sees_any = mask.any(dim=-1, keepdim=True)
    return torch.where(mask, scores, lowest).softmax(dim=-1) * sees_any
