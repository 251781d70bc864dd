"""Score functions: how well each query matches each key.

All take queries (..., queries, query_size) and keys (..., keys, key_size) and return scores
(..., queries, keys). They differ in what lies between the two; `attend` does the rest.
"""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.memory.sizes import check_sizes


def dot_scores(
    q: Float[Tensor, "*batch queries head_dim"], k: Float[Tensor, "*batch keys head_dim"]
) -> Float[Tensor, "*batch queries keys"]:
    """q · k (Luong et al., 2015). For entries of variance 1 the score has variance head_dim."""
    return q @ k.mT


def dot_scores_loop(
    q: Float[Tensor, "queries head_dim"], k: Float[Tensor, "keys head_dim"]
) -> Float[Tensor, "queries keys"]:
    """`dot_scores` as its definition reads, one query and one key at a time."""
    scores = q.new_empty(len(q), len(k))
    for i, query in enumerate(q):
        for j, key in enumerate(k):
            scores[i, j] = (query * key).sum()
    return scores


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


class GeneralScores(nn.Module):
    """q · W k, the general or multiplicative score (Luong et al., 2015).

    W takes the keys to the size of the queries, so the two need not be of one size. With W the
    identity it is `dot_scores`. Raises `ValueError` for sizes that are not positive.
    """

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        check_sizes(query_size=query_size, key_size=key_size)
        self.W = nn.Linear(key_size, query_size, bias=False)

    def forward(
        self,
        q: Float[Tensor, "*batch queries query_size"],
        k: Float[Tensor, "*batch keys key_size"],
    ) -> Float[Tensor, "*batch queries keys"]:
        """The score of every query with every key."""
        return dot_scores(q, self.W(k))

    def loop(
        self, q: Float[Tensor, "queries query_size"], k: Float[Tensor, "keys key_size"]
    ) -> Float[Tensor, "queries keys"]:
        """The same, one query and one key at a time."""
        rows = [torch.stack([query @ self.W.weight @ key for key in k]) for query in q]
        return torch.stack(rows)


class AdditiveScores(nn.Module):
    """v · tanh(W_q q + W_k k), the additive score (Bahdanau et al., 2015).

    A network with one hidden layer of `attention_size` units looks at each pair; queries and keys
    may differ in size. For n queries and m keys it holds n m attention_size numbers, where a dot
    product holds n m. Raises `ValueError` for sizes that are not positive.
    """

    def __init__(self, query_size: int, key_size: int, attention_size: int) -> None:
        super().__init__()
        check_sizes(query_size=query_size, key_size=key_size, attention_size=attention_size)
        self.W_q = nn.Linear(query_size, attention_size, bias=False)
        self.W_k = nn.Linear(key_size, attention_size, bias=False)
        self.v = nn.Linear(attention_size, 1, bias=False)

    def forward(
        self,
        q: Float[Tensor, "*batch queries query_size"],
        k: Float[Tensor, "*batch keys key_size"],
    ) -> Float[Tensor, "*batch queries keys"]:
        """The score of every query with every key: the two projections broadcast."""
        pairs = self.W_q(q)[..., :, None, :] + self.W_k(k)[..., None, :, :]
        return self.v(torch.tanh(pairs)).squeeze(-1)

    def loop(
        self, q: Float[Tensor, "queries query_size"], k: Float[Tensor, "keys key_size"]
    ) -> Float[Tensor, "queries keys"]:
        """The same, one query and one key at a time."""
        scores = q.new_empty(len(q), len(k))
        for i, query in enumerate(q):
            for j, key in enumerate(k):
                scores[i, j] = self.v(torch.tanh(self.W_q(query) + self.W_k(key)))
        return scores
