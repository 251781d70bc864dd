"""Relative positions as vectors in keys and values (Shaw et al., 2018).

Between query i and key j stands the distance j - i, clipped to ±max_distance. Each of these
2 max_distance + 1 distances has a vector that is added to the key, and one that is added to the
value:

    scores_ij = q_i · (k_j + key_table[j - i]) / √head_dim
    output_i  = Σ_j weights_ij (v_j + value_table[j - i])

Written like that there are queries × keys vectors. Since there are few different ones, each query
meets each of them once, and the products are handed to the keys that they belong to.
"""

from math import sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.masks import relative_positions
from lib.memory.sizes import check_sizes


def clipped_distances(
    queries: int, keys: int | None = None, *, max_distance: int
) -> Int[Tensor, "queries keys"]:
    """The row of the tables for each query and key: 0 far before, max_distance at the same place.

    The last query stands at the last key.
    """
    check_sizes(max_distance=max_distance)
    distance = relative_positions(queries, keys)
    return distance.clamp(-max_distance, max_distance) + max_distance


def shaw_scores(
    q: Float[Tensor, "*batch queries head_dim"],
    k: Float[Tensor, "*batch keys head_dim"],
    key_table: Float[Tensor, "distances head_dim"],
) -> Float[Tensor, "*batch queries keys"]:
    """q_i · (k_j + key_table[j - i]) / √head_dim."""
    content, by_distance = q @ k.mT, q @ key_table.mT
    rows = _table_rows(content, key_table)
    position = by_distance.gather(-1, rows.expand(content.shape))
    return (content + position) / sqrt(q.shape[-1])


def shaw_scores_loop(
    q: Float[Tensor, "queries head_dim"],
    k: Float[Tensor, "keys head_dim"],
    key_table: Float[Tensor, "distances head_dim"],
) -> Float[Tensor, "queries keys"]:
    """`shaw_scores` as the paper writes it, one pair after the other."""
    scores = q.new_zeros(len(q), len(k))
    rows = _table_rows(scores, key_table)
    for i, query in enumerate(q):
        for j, key in enumerate(k):
            scores[i, j] = query @ (key + key_table[rows[i, j]]) / sqrt(len(query))
    return scores


def shaw_values(
    weights: Float[Tensor, "*batch queries keys"],
    value_table: Float[Tensor, "distances value_dim"],
) -> Float[Tensor, "*batch queries value_dim"]:
    """What the distances add to the output: Σ_j weights_ij value_table[j - i].

    The weights of all keys at one distance are added up before they meet its vector.
    """
    rows = _table_rows(weights, value_table).expand(weights.shape)
    by_distance = weights.new_zeros(*weights.shape[:-1], len(value_table))
    return by_distance.scatter_add(-1, rows, weights) @ value_table


def shaw_values_loop(
    weights: Float[Tensor, "queries keys"], value_table: Float[Tensor, "distances value_dim"]
) -> Float[Tensor, "queries value_dim"]:
    """`shaw_values` as the paper writes it, one pair after the other."""
    output = weights.new_zeros(len(weights), value_table.shape[-1])
    rows = _table_rows(weights, value_table)
    for i, row in enumerate(weights):
        for j, weight in enumerate(row):
            output[i] += weight * value_table[rows[i, j]]
    return output


class ShawPositions(nn.Module):
    """The two tables, shared by all heads. Attention with them, for `attend` of `lib.attention`:

    output, weights = attend(positions.scores(q, k), v, mask)
    output = output + positions.values(weights)
    """

    def __init__(
        self, max_distance: int, head_dim: int, *, generator: torch.Generator | None = None
    ) -> None:
        check_sizes(max_distance=max_distance, head_dim=head_dim)
        super().__init__()
        self.key_table = nn.Parameter(torch.empty(2 * max_distance + 1, head_dim))
        self.value_table = nn.Parameter(torch.empty(2 * max_distance + 1, head_dim))
        for table in (self.key_table, self.value_table):
            nn.init.xavier_uniform_(table, generator=generator)

    def scores(
        self,
        q: Float[Tensor, "*batch queries head_dim"],
        k: Float[Tensor, "*batch keys head_dim"],
    ) -> Float[Tensor, "*batch queries keys"]:
        """The scaled scores, `shaw_scores` with these keys."""
        return shaw_scores(q, k, self.key_table)

    def values(
        self, weights: Float[Tensor, "*batch queries keys"]
    ) -> Float[Tensor, "*batch queries head_dim"]:
        """What to add to the output, `shaw_values` with these values."""
        return shaw_values(weights, self.value_table)


def _table_rows(scores: Tensor, table: Tensor) -> Tensor:
    """The row for each pair of these scores; a table has as many distances before as after."""
    if len(table) % 2 == 0 or len(table) < 3:
        raise ValueError(
            f"a table of distances -m to m has 2 m + 1 rows, an odd number from 3, got {len(table)}"
        )
    rows = clipped_distances(*scores.shape[-2:], max_distance=len(table) // 2)
    return rows.to(scores.device)
