"""Causal language modelling (Radford et al., 2018): the next token, at every place.

The labels are the text itself, one place to the left. Many documents are packed into one row, so
that no place is padding: either with a token between them and nothing else, as GPT-2 was trained,
or with a mask and positions that keep them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lib import masks
from lib.memory.sizes import check_sizes
from lib.objectives.ids import IGNORE_INDEX


class NextTokens(NamedTuple):
    """What the model reads, and at each place the token that comes next."""

    inputs: Int[Tensor, "batch seq_len"]
    labels: Int[Tensor, "batch seq_len"]


def next_tokens(ids: Int[Tensor, "batch tokens"]) -> NextTokens:
    """All tokens but the last as inputs, all but the first as labels: one shorter than `ids`.

    This is the shift; a model that shifts labels itself (Hugging Face's do) must be given `ids` for
    both, or it learns to look two tokens ahead. Raises `ValueError` for fewer than 2 tokens.
    """
    if ids.shape[1] < 2:
        raise ValueError(f"a text needs 2 tokens for one to come next, got {ids.shape[1]}")
    return NextTokens(ids[:, :-1], ids[:, 1:])


@dataclass(frozen=True)
class PackedBatch:
    """Documents end to end in rows of one length.

    `document_ids` count the documents from 0; what fills up the last row has the number after
    them. `positions` count from the beginning of each document's part in its row.
    """

    inputs: Int[Tensor, "batch seq_len"]
    labels: Int[Tensor, "batch seq_len"]
    document_ids: Int[Tensor, "batch seq_len"]
    positions: Int[Tensor, "batch seq_len"]

    def mask(self) -> Bool[Tensor, "batch 1 seq_len seq_len"]:
        """Causal, and no document sees another: a triangle for each on the diagonal."""
        return masks.causal(self.inputs.shape[1]) & masks.documents(self.document_ids)


def pack_documents(
    documents: Sequence[Sequence[int]], seq_len: int, *, end: int, across: bool = False
) -> PackedBatch:
    """Documents one after the other, `end` after each, cut into rows of `seq_len`.

    A row goes on where the one before it stopped, so every token is a label once. With `across`
    also the first token of a document is, to be guessed from the end of the one before, as in
    GPT-2; without, that place is ignored. The last row is filled up with `end`, not asked for.

    Raises `ValueError` for no documents, an empty one, one that holds `end`.
    """
    check_sizes(seq_len=seq_len)
    stream, numbers = _one_after_the_other(documents, end)
    # Rows of inputs, and the last token, which is a label only.
    missing = -(len(stream) - 1) % seq_len
    ids = torch.tensor(stream + [end] * missing)
    document_ids = torch.tensor(numbers + [len(documents)] * missing)
    asked = document_ids[1:] < len(documents)
    if not across:
        asked &= document_ids[1:] == document_ids[:-1]
    rows = document_ids[:-1].view(-1, seq_len)
    return PackedBatch(
        inputs=ids[:-1].view(-1, seq_len),
        labels=ids[1:].masked_fill(~asked, IGNORE_INDEX).view(-1, seq_len),
        document_ids=rows,
        positions=positions_in_documents(rows),
    )


def positions_in_documents(
    document_ids: Int[Tensor, "batch seq_len"],
) -> Int[Tensor, "batch seq_len"]:
    """Positions that begin again at 0 with each document, and with each row."""
    places = torch.arange(document_ids.shape[1]).expand_as(document_ids)
    begins = torch.ones_like(document_ids, dtype=torch.bool)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return places - (places * begins).cummax(dim=1).values


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Whole documents into rows of `capacity` tokens: which documents share a row.

    The longest first, each into the first row that has room (Krell et al., 2021, compare it with
    better ones). Raises `ValueError` for a document that is longer than a row.
    """
    check_sizes(capacity=capacity)
    rows, room = [], []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        check_sizes(length=lengths[index])
        if lengths[index] > capacity:
            raise ValueError(f"document {index} has {lengths[index]} tokens, a row {capacity}")
        fits = next((row for row, left in enumerate(room) if left >= lengths[index]), len(rows))
        if fits == len(rows):
            rows.append([])
            room.append(capacity)
        rows[fits].append(index)
        room[fits] -= lengths[index]
    return rows


def _one_after_the_other(
    documents: Sequence[Sequence[int]], end: int
) -> tuple[list[int], list[int]]:
    """All tokens in one list, and for each the number of its document; its end belongs to it."""
    if not documents:
        raise ValueError("there are no documents to pack")
    stream, numbers = [], []
    for number, document in enumerate(documents):
        if not len(document) or end in document:
            raise ValueError(f"document {number} is empty or holds the end, {end}")
        stream += [*document, end]
        numbers += [number] * (len(document) + 1)
    return stream, numbers
