"""SpanBERT's boundary objective (Joshi et al., 2020): the two tokens around a span tell all of it.

Each hidden token is predicted from the hidden states just outside its span and from its place in
it. So the boundaries learn to hold what a span says, which helps to pick spans out of a text.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class SpanBoundaries(NamedTuple):
    """For each hidden token, row by row: its row, the places beside its span, how far it is in."""

    rows: Int[Tensor, " places"]
    left: Int[Tensor, " places"]
    """The last place before the span."""
    right: Int[Tensor, " places"]
    """The first place after it."""
    offset: Int[Tensor, " places"]
    """1 for the first token of the span."""
    labels: Int[Tensor, " places"]
    """The token itself."""


def span_boundaries(
    ids: Int[Tensor, "batch seq_len"], chosen: Bool[Tensor, "batch seq_len"]
) -> SpanBoundaries:
    """The boundaries of each chosen token's span; spans that touch are one.

    A head then reads `hidden[rows, left]`, `hidden[rows, right]` and an embedding of `offset`.
    Raises `ValueError` for a span at an end of its sequence, which has a boundary on one side only:
    [CLS] and [SEP] are there to prevent it.
    """
    places = torch.arange(ids.shape[1]).expand_as(ids)
    before = places.masked_fill(chosen, -1).cummax(dim=1).values
    after = places.masked_fill(chosen, ids.shape[1]).flip(1).cummin(dim=1).values.flip(1)
    open_ended = chosen & ((before < 0) | (after == ids.shape[1]))
    if open_ended.any():
        row = int(open_ended.any(dim=1).nonzero()[0])
        raise ValueError(f"a span of sequence {row} has no token beside it on one side")
    rows = chosen.nonzero()[:, 0]
    left = before[chosen]
    return SpanBoundaries(rows, left, after[chosen], places[chosen] - left, ids[chosen])
