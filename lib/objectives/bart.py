"""BART's noise (Lewis et al., 2020): the decoder writes the text, the encoder reads it spoilt.

Five ways to spoil it, which can follow one another; the published model took text infilling and
sentence permutation. The target is the whole text. Each takes one document of words, without <s>
and </s>, as the results differ in length. Where a share is asked for, it is 30 %.
"""

from collections.abc import Collection

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lib.objectives.choosing import choose_exact_count, count_to_choose
from lib.objectives.ids import MaskingVocabulary

Document = Int[Tensor, " tokens"]


def mask_document(
    ids: Document,
    vocabulary: MaskingVocabulary,
    *,
    rate: float = 0.3,
    generator: torch.Generator,
) -> Int[Tensor, " tokens"]:
    """Token masking: random tokens become [MASK], the share `rate` rounded, at least one.

    Raises `ValueError` for a rate of 0 or 1, an empty document, a special token in it.
    """
    return ids.masked_fill(_draw(ids, vocabulary, rate, generator), vocabulary.mask)


def delete_tokens(
    ids: Document,
    vocabulary: MaskingVocabulary,
    *,
    rate: float = 0.3,
    generator: torch.Generator,
) -> Int[Tensor, " left"]:
    """Token deletion: they are gone, and the decoder has to find out where.

    Raises `ValueError` as `mask_document` does.
    """
    return ids[~_draw(ids, vocabulary, rate, generator)]


def infill_text(
    ids: Document,
    vocabulary: MaskingVocabulary,
    *,
    rate: float = 0.3,
    mean_length: float = 3.0,
    generator: torch.Generator,
) -> Int[Tensor, " left"]:
    """Text infilling: each span becomes one [MASK], so the decoder has to find out how long it was.

    Lengths are Poisson(`mean_length`) until the share `rate` of the tokens is covered; the last
    span is cut there. A span of length 0 is a [MASK] where nothing was. Every order of spans and
    remaining tokens is equally likely. Raises `ValueError` as `mask_document` does, and for a mean
    below 1.
    """
    _check_document(ids, vocabulary)
    covered = int(count_to_choose(torch.ones(1, len(ids), dtype=torch.bool), rate))
    lengths = poisson_lengths(covered, mean_length, generator=generator)
    slots = len(ids) - covered + len(lengths)
    # Where no span is put, -1: a token of the document that stays.
    span_lengths = torch.full((slots,), -1)
    drawn = torch.randperm(slots, generator=generator)[: len(lengths)]
    span_lengths[drawn] = torch.tensor(lengths)
    return _fill_in(ids.tolist(), span_lengths.tolist(), vocabulary.mask)


def poisson_lengths(total: int, mean_length: float, *, generator: torch.Generator) -> list[int]:
    """Poisson lengths, drawn until they add up to `total`; the last is cut to fit."""
    if mean_length < 1:
        raise ValueError(f"the mean length of a span must be 1 or more, got {mean_length}")
    lengths = []
    while sum(lengths) < total:
        drawn = int(torch.poisson(torch.tensor(mean_length), generator=generator))
        lengths.append(min(drawn, total - sum(lengths)))
    return lengths


def permute_sentences(
    ids: Document, ends: Collection[int], *, generator: torch.Generator
) -> Int[Tensor, " tokens"]:
    """Sentence permutation: a sentence ends with a token of `ends`; their order is random.

    What follows the last end is a sentence too. Raises `ValueError` for an empty document.
    """
    sentences = split_sentences(ids, ends)
    order = torch.randperm(len(sentences), generator=generator).tolist()
    return torch.cat([sentences[index] for index in order])


def split_sentences(ids: Document, ends: Collection[int]) -> tuple[Tensor, ...]:
    """The document cut after each token of `ends`. Raises `ValueError` for an empty one."""
    if not len(ids):
        raise ValueError("an empty document has no sentences")
    after = [place + 1 for place, token in enumerate(ids.tolist()) if token in ends]
    return ids.tensor_split([place for place in after if place < len(ids)])


def rotate_document(ids: Document, *, generator: torch.Generator) -> Int[Tensor, " tokens"]:
    """Document rotation: it begins at a random token, and what came before stands at the end.

    Raises `ValueError` for an empty document.
    """
    if not len(ids):
        raise ValueError("an empty document has no beginning")
    return ids.roll(-int(torch.randint(len(ids), (1,), generator=generator)))


def _draw(
    ids: Tensor, vocabulary: MaskingVocabulary, rate: float, generator: torch.Generator
) -> Bool[Tensor, " tokens"]:
    _check_document(ids, vocabulary)
    return choose_exact_count(ids[None], vocabulary, rate=rate, generator=generator)[0]


def _check_document(ids: Tensor, vocabulary: MaskingVocabulary) -> None:
    if not vocabulary.may_choose(ids[None]).all():
        raise ValueError("a document is spoilt before special tokens are added, but it holds some")


def _fill_in(ids: list[int], span_lengths: list[int], mask: int) -> Tensor:
    """Walk through the slots: a token, or one [MASK] for as many tokens as its span has."""
    filled, place = [], 0
    for length in span_lengths:
        filled.append(ids[place] if length < 0 else mask)
        place += 1 if length < 0 else length
    return torch.tensor(filled, dtype=torch.long)
