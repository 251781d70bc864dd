"""Objectives on pairs of sentences: does the second follow the first, and in which order?

BERT's next sentence prediction takes the wrong second sentence from another document (Devlin et
al., 2019). That is easy, as the topic gives it away, and RoBERTa did as well without it. ALBERT
swaps the two instead, so that the topic does not help (Lan et al., 2020).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Sentence = Sequence[int]


class SentencePair(NamedTuple):
    """Two sentences; the label is 0 if they stand in the text as they do here, 1 if not."""

    first: Sentence
    second: Sentence
    label: int


class PairBatch(NamedTuple):
    """Pairs as BERT reads them: [CLS] first [SEP] second [SEP], segment 0 up to the first [SEP]."""

    ids: Int[Tensor, "batch longest"]
    segments: Int[Tensor, "batch longest"]
    lengths: Int[Tensor, " batch"]
    labels: Int[Tensor, " batch"]


def next_sentence_pairs(
    documents: Sequence[Sequence[Sentence]], *, generator: torch.Generator
) -> list[SentencePair]:
    """Each sentence with the one after it, or, for half of them, with one of another document.

    Label 0: it is the next; 1: it is random. Raises `ValueError` for fewer than two documents, an
    empty one, and where no sentence follows another.
    """
    if len(documents) < 2:
        raise ValueError(f"a random sentence needs a second document, got {len(documents)}")
    pairs = []
    for number, first, second in _neighbours(documents):
        label = int(torch.randint(2, (1,), generator=generator))
        other = _sentence_of_another(documents, number, generator) if label else second
        pairs.append(SentencePair(first, other, label))
    return pairs


def sentence_order_pairs(
    documents: Sequence[Sequence[Sentence]], *, generator: torch.Generator
) -> list[SentencePair]:
    """Each sentence with the one after it, half of the pairs swapped.

    Label 0: in order; 1: swapped. Raises `ValueError` for an empty document, and where no sentence
    follows another.
    """
    pairs = []
    for _, first, second in _neighbours(documents):
        label = int(torch.randint(2, (1,), generator=generator))
        pairs.append(SentencePair(*((second, first) if label else (first, second)), label))
    return pairs


def pair_batch(
    pairs: Sequence[SentencePair], *, cls: int, sep: int, pad: int, max_len: int
) -> PairBatch:
    """The pairs as one padded batch of at most `max_len` tokens a row.

    From a pair that is too long, tokens are taken off the end of its longer sentence. Raises
    `ValueError` for no pairs, and for a length without room for a token of each sentence.
    """
    if not pairs or max_len < 5:
        raise ValueError(
            "a batch needs at least one pair, and a row 5 tokens: [CLS], [SEP], [SEP] and one of "
            f"each sentence; got {len(pairs)} pairs and a max_len of {max_len}"
        )
    rows, segments = [], []
    for pair in pairs:
        first, second = _trim(pair.first, pair.second, max_len - 3)
        rows.append(torch.tensor([cls, *first, sep, *second, sep]))
        segments.append(torch.tensor([0] * (len(first) + 2) + [1] * (len(second) + 1)))
    return PairBatch(
        pad_sequence(rows, batch_first=True, padding_value=pad),
        pad_sequence(segments, batch_first=True),
        torch.tensor([len(row) for row in rows]),
        torch.tensor([pair.label for pair in pairs]),
    )


def _neighbours(
    documents: Sequence[Sequence[Sentence]],
) -> Iterator[tuple[int, Sentence, Sentence]]:
    """The number of the document, a sentence, and the one after it, for all of them."""
    for number, document in enumerate(documents):
        if not document or not all(len(sentence) for sentence in document):
            raise ValueError(f"document {number} is empty or holds an empty sentence")
    if all(len(document) < 2 for document in documents):
        raise ValueError("no document has two sentences: there are no pairs")
    for number, document in enumerate(documents):
        for first, second in pairwise(document):
            yield number, first, second


def _sentence_of_another(
    documents: Sequence[Sequence[Sentence]], number: int, generator: torch.Generator
) -> Sentence:
    other = int(torch.randint(len(documents) - 1, (1,), generator=generator))
    document = documents[other + (other >= number)]
    return document[int(torch.randint(len(document), (1,), generator=generator))]


def _trim(first: Sentence, second: Sentence, room: int) -> tuple[Sentence, Sentence]:
    first, second = list(first), list(second)
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    return first, second
