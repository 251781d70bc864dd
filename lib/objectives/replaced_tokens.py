"""Replaced-token detection (Clark et al., ELECTRA, 2020): which of these words are not the text's?

A small model fills in masked tokens; a larger one reads the result and says of each token whether
it is the original. It learns from every place, not only from the 15 % that were masked, and never
meets [MASK]. Then the small one is thrown away.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from lib.memory.sizes import check_not_negative


class ReplacedTokens(NamedTuple):
    """What the discriminator reads, and whether each token has been replaced."""

    inputs: Int[Tensor, "batch seq_len"]
    replaced: Bool[Tensor, "batch seq_len"]


def replace_tokens(
    ids: Int[Tensor, "batch seq_len"],
    chosen: Bool[Tensor, "batch seq_len"],
    logits: Float[Tensor, "places vocab"],
    *,
    generator: torch.Generator,
) -> ReplacedTokens:
    """The chosen tokens as the small model would fill them in, drawn from its softmax.

    `logits` are those of the chosen places alone, row by row. Where the draw hits the original, the
    token counts as original. The draw has no derivative: the small model learns from its own loss.

    Raises `ValueError` for as many logits as there are not chosen places.
    """
    if len(logits) != int(chosen.sum()):
        raise ValueError(
            f"{int(chosen.sum())} places are chosen, but there are {len(logits)} logits"
        )
    drawn = logits.detach().softmax(dim=-1).multinomial(1, generator=generator)[:, 0]
    inputs = ids.clone()
    inputs[chosen] = drawn.to(ids.dtype)
    return ReplacedTokens(inputs, inputs != ids)


def replaced_token_loss(
    logits: Float[Tensor, "batch seq_len"],
    replaced: Bool[Tensor, "batch seq_len"],
    is_token: Bool[Tensor, "batch seq_len"] | None = None,
) -> Float[Tensor, ""]:
    """−log sigmoid(logit) where replaced, −log(1 − sigmoid(logit)) elsewhere; the mean.

    As training needs it: log(1 + exp(logit)) − logit × replaced, which does not overflow. Padding
    does not count: `is_token` is False there. Raises `ValueError` for a batch of padding alone.
    """
    losses = functional.softplus(logits) - logits * replaced
    if is_token is None:
        return losses.mean()
    if not is_token.any():
        raise ValueError("no place holds a token: all is padding")
    return losses[is_token].mean()


def electra_loss(
    masked_lm_loss: Float[Tensor, ""],
    detection_loss: Float[Tensor, ""],
    *,
    detection_weight: float = 50.0,
) -> Float[Tensor, ""]:
    """The small model's loss plus 50 times the discriminator's, trained at once.

    A yes or no costs at most 0.69 nats to a guesser, a word ten times that; the weight makes up for
    it. Raises `ValueError` for a weight below 0.
    """
    check_not_negative(detection_weight=detection_weight)
    return masked_lm_loss + detection_weight * detection_loss
