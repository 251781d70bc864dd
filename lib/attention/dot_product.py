"""Scaled dot-product attention, softmax(Q Kᵀ / √head_dim) V (Vaswani et al., 2017)."""

from jaxtyping import Bool, Float
from torch import Tensor

from lib.attention.attend import attend
from lib.attention.scores import scaled_dot_scores


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

    Raises `ValueError` for a mask that is not boolean or does not broadcast to the scores.
    """
    scores = scaled_dot_scores(q, k, scale=scale)
    output, _ = attend(scores if bias is None else scores + bias, v, mask)
    return output
