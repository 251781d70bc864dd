"""T5's relative positions (Raffel et al., 2020): a number per head and bucket of distances.

Near distances have a bucket each. Farther ones share buckets that grow with the logarithm of the
distance, and all from `max_distance` on are in the last one. The number is learned, and added to
the scores, which T5 does not scale.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.masks import relative_positions
from lib.memory.sizes import check_sizes


def t5_bucket(
    relative_position: Int[Tensor, "*shape"],
    *,
    bidirectional: bool = True,
    num_buckets: int = 32,
    max_distance: int = 128,
) -> Int[Tensor, "*shape"]:
    """The bucket of each relative position, key minus query: below 0 for keys in the past.

    Bidirectional, the lower half of the buckets is for the past and the present, the upper for the
    future. Causal, all are for the past, and the future shares bucket 0 with the present.

    Raises `ValueError` for an odd number of buckets, fewer than 2 per direction, or a
    `max_distance` that does not lie beyond those with a bucket of their own.
    """
    buckets = _check_buckets(num_buckets, bidirectional, max_distance)
    if bidirectional:
        first = (relative_position > 0) * buckets
        distance = relative_position.abs()
    else:
        first = torch.zeros_like(relative_position)
        distance = (-relative_position).clamp(min=0)
    exact = buckets // 2
    return first + torch.where(
        distance < exact, distance, _logarithmic(distance, exact, buckets, max_distance)
    )


class T5RelativeBias(nn.Module):
    """The learned numbers, (num_buckets, num_attention_heads); T5's layers share one such table."""

    def __init__(
        self,
        num_attention_heads: int,
        *,
        bidirectional: bool = True,
        num_buckets: int = 32,
        max_distance: int = 128,
        generator: torch.Generator | None = None,
    ) -> None:
        check_sizes(num_attention_heads=num_attention_heads)
        _check_buckets(num_buckets, bidirectional, max_distance)
        super().__init__()
        self.bidirectional = bidirectional
        self.max_distance = max_distance
        self.weight = nn.Parameter(torch.empty(num_buckets, num_attention_heads))
        nn.init.normal_(self.weight, generator=generator)

    def forward(
        self, queries: int, keys: int | None = None
    ) -> Float[Tensor, "num_attention_heads queries keys"]:
        """What to add to the scores of each head; the last query stands at the last key."""
        buckets = t5_bucket(
            relative_positions(queries, keys).to(self.weight.device),
            bidirectional=self.bidirectional,
            num_buckets=len(self.weight),
            max_distance=self.max_distance,
        )
        return self.weight[buckets].movedim(-1, 0)


def _logarithmic(distance: Tensor, exact: int, buckets: int, max_distance: int) -> Tensor:
    """From `exact` on: how far, in logarithms, the distance is on its way to `max_distance`.

    In float32, as in the published models: a distance at the edge of two buckets then falls into
    the same one as there.
    """
    way = torch.log(distance.float() / exact) / math.log(max_distance / exact)
    # Distance 0 has an exact bucket, and here a logarithm of minus infinity.
    way = way.clamp(min=0)
    return (exact + (way * (buckets - exact)).long()).clamp(max=buckets - 1)


def _check_buckets(num_buckets: int, bidirectional: bool, max_distance: int) -> int:
    """How many buckets a direction has."""
    check_sizes(num_buckets=num_buckets, max_distance=max_distance)
    buckets = num_buckets // 2 if bidirectional else num_buckets
    if num_buckets % 2 or buckets < 2:
        raise ValueError(
            f"num_buckets must be even, with at least 2 per direction, got {num_buckets}"
        )
    if max_distance <= buckets // 2:
        raise ValueError(
            f"max_distance must be above {buckets // 2}, the number of distances with a bucket "
            f"of their own, got {max_distance}"
        )
    return buckets
