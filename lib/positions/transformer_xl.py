"""Relative positions of Transformer-XL (Dai et al., 2019).

With absolute positions, (x_i + p_i) W_Q · (x_j + p_j) W_K has four terms. Transformer-XL keeps the
four, and makes each depend on the distance i - j alone: r is a sinusoid of the distance, projected
by a matrix of its own, and a query's own position gives way to two learned vectors, u and v.

    scores_ij = (q_i · k_j + q_i · r_{i-j} + u · k_j + v · r_{i-j}) / √head_dim
              = ((q_i + u) · k_j + (q_i + v) · r_{i-j}) / √head_dim

So that a segment can look back into the one before it, kept in memory, without re-numbering.
"""

from math import sqrt

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lib.memory.sizes import check_sizes
from lib.positions.sinusoidal import sinusoidal_table


def transformer_xl_scores(
    q: Float[Tensor, "*batch heads queries head_dim"],
    k: Float[Tensor, "*batch heads keys head_dim"],
    relative: Float[Tensor, "heads keys head_dim"],
    content_bias: Float[Tensor, "heads head_dim"],
    position_bias: Float[Tensor, "heads head_dim"],
) -> Float[Tensor, "*batch heads queries keys"]:
    """Scaled scores for causal attention; the last query stands at the last key.

    `relative[h, s]` is r of the distance s, `content_bias` is u and `position_bias` is v. Above the
    diagonal, where a causal mask hides them, the scores are those of the content alone.
    """
    content = (q + content_bias[:, None]) @ k.mT
    position = (q + position_bias[:, None]) @ relative.flip(-2).mT
    return (content + relative_shift(position)) / sqrt(q.shape[-1])


def transformer_xl_scores_loop(
    q: Float[Tensor, "queries head_dim"],
    k: Float[Tensor, "keys head_dim"],
    relative: Float[Tensor, "keys head_dim"],
    content_bias: Float[Tensor, " head_dim"],
    position_bias: Float[Tensor, " head_dim"],
) -> Float[Tensor, "queries keys"]:
    """The four terms of one head as the paper writes them, one pair after the other."""
    scores = q.new_zeros(len(q), len(k))
    for i, query in enumerate(q):
        for j, key in enumerate(k):
            scores[i, j] = query @ key + content_bias @ key
            distance = len(k) - len(q) + i - j
            if distance >= 0:
                r = relative[distance]
                scores[i, j] += query @ r + position_bias @ r
    return scores / sqrt(q.shape[-1])


def relative_shift(
    by_distance: Float[Tensor, "*batch queries keys"],
) -> Float[Tensor, "*batch queries keys"]:
    """From products with distances keys - 1, ..., 1, 0 in this order to products with the keys.

    Row i needs its entries moved left by queries - 1 - i. One column of zeros before the first and
    reading the whole in rows of another length does it for all of them at once. What belongs to no
    key, above the diagonal, is zero.
    """
    *batch, queries, keys = by_distance.shape
    padded = nn.functional.pad(by_distance, (1, 0))
    shifted = padded.reshape(*batch, keys + 1, queries)[..., 1:, :].reshape(by_distance.shape)
    return shifted.tril(keys - queries)


class TransformerXLPositions(nn.Module):
    """The vectors u and v of each head, and the projection of the sinusoids.

    Called with queries and keys it gives the scaled scores: `attend(positions(q, k), v, mask)` with
    a causal mask is attention as in Transformer-XL.
    """

    def __init__(
        self,
        num_attention_heads: int,
        head_dim: int,
        hidden_size: int,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        check_sizes(
            num_attention_heads=num_attention_heads, head_dim=head_dim, hidden_size=hidden_size
        )
        super().__init__()
        self.content_bias = nn.Parameter(torch.empty(num_attention_heads, head_dim))
        self.position_bias = nn.Parameter(torch.empty(num_attention_heads, head_dim))
        self.projection = nn.Parameter(torch.empty(num_attention_heads * head_dim, hidden_size))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02, generator=generator)

    def forward(
        self,
        q: Float[Tensor, "*batch heads queries head_dim"],
        k: Float[Tensor, "*batch heads keys head_dim"],
    ) -> Float[Tensor, "*batch heads queries keys"]:
        """`transformer_xl_scores` with as many distances as there are keys."""
        relative = self.relative(k.shape[-2])
        return transformer_xl_scores(q, k, relative, self.content_bias, self.position_bias)

    def relative(self, keys: int) -> Float[Tensor, "heads {keys} head_dim"]:
        """r of the distances 0 to keys - 1: their sinusoids, projected for each head."""
        table = sinusoidal_table(keys, self.projection.shape[1], dtype=self.projection.dtype)
        projected = table.to(self.projection.device) @ self.projection.mT
        heads = len(self.content_bias)
        return rearrange(projected, "keys (heads head_dim) -> heads keys head_dim", heads=heads)
