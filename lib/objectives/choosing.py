"""Which tokens a masked objective asks for. Special tokens are never chosen.

Each function takes ids and gives a boolean tensor, True where a token is chosen; what is then done
with the chosen ones is another question (`masked_lm`, `bart`, `replaced_tokens`). 15 % are chosen,
as in BERT (Devlin et al., 2019), if nothing else is said.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib.memory.sizes import check_sizes
from lib.objectives.ids import (
    MaskingVocabulary,
    check_in_vocabulary,
    check_share,
)
from lib.objectives.lots import draw_lots, draw_sets, is_below


def choose_tokens(
    ids: Int[Tensor, "batch seq_len"],
    vocabulary: MaskingVocabulary,
    *,
    rate: float = 0.15,
    generator: torch.Generator,
) -> Bool[Tensor, "batch seq_len"]:
    """Each word with probability `rate`, whatever befalls the others.

    The number chosen varies, and in a short text it may be none. Raises `ValueError` for a rate of
    0 or 1, an id outside the vocabulary, a sequence without words.
    """
    check_share(rate=rate)
    check_in_vocabulary(ids, vocabulary.vocab_size)
    chosen = is_below(draw_lots(*ids.shape, generator=generator), rate)
    # The specials are looked for among the few that were drawn, not among all.
    places = np.flatnonzero(chosen)
    special = vocabulary.is_special.numpy()[ids.numpy().take(places)]
    chosen.put(places[special], False)
    if not chosen.any(axis=1).all():
        vocabulary.may_choose(ids)
    return torch.from_numpy(chosen)


def choose_exact_count(
    ids: Int[Tensor, "batch seq_len"],
    vocabulary: MaskingVocabulary,
    *,
    rate: float = 0.15,
    generator: torch.Generator,
) -> Bool[Tensor, "batch seq_len"]:
    """In each sequence the share `rate` of its words, rounded, and at least one, as BERT did.

    All sets of that size are equally likely. Raises `ValueError` as `choose_tokens` does.
    """
    words = vocabulary.may_choose(ids)
    counts = count_to_choose(words, rate)
    return torch.from_numpy(draw_sets(words.numpy(), counts.numpy(), generator=generator))


def choose_words(
    ids: Int[Tensor, "batch seq_len"],
    vocabulary: MaskingVocabulary,
    words: Int[Tensor, "batch seq_len"],
    *,
    rate: float = 0.15,
    generator: torch.Generator,
) -> Bool[Tensor, "batch seq_len"]:
    """Whole words: `words` numbers them in each sequence, and tokens of one number share a draw.

    Part of a word gives the rest away (BERT's second release, 2019). The numbers count from 0;
    those of special tokens do not matter. Raises `ValueError` as `choose_tokens` does, and for
    word numbers below 0 or not below the length.
    """
    check_share(rate=rate)
    _check_words(words, ids)
    may_be_chosen = vocabulary.may_choose(ids)
    lots = torch.rand(ids.shape, generator=generator)
    return (lots.gather(1, words) < rate) & may_be_chosen


def choose_spans(
    ids: Int[Tensor, "batch seq_len"],
    vocabulary: MaskingVocabulary,
    *,
    lengths: Float[Tensor, " longest"],
    words: Int[Tensor, "batch seq_len"] | None = None,
    rate: float = 0.15,
    generator: torch.Generator,
) -> Bool[Tensor, "batch seq_len"]:
    """Spans of words, until the share `rate` of the tokens is chosen, rounded and at least one.

    A span begins at a random word that is not chosen yet; its length in words is drawn with the
    probabilities `lengths`, of 1, 2, ... words. `geometric_lengths()` gives SpanBERT's masks,
    `ngram_lengths()` the n-grams of ALBERT. It ends early at a special or chosen token, and the
    last one where the number is reached. Without `words` every token is one.

    Raises `ValueError` as `choose_words` does, and for lengths that are no probabilities.
    """
    check_lengths(lengths)
    words = torch.arange(ids.shape[1]).expand(ids.shape) if words is None else words
    _check_words(words, ids)
    free = vocabulary.may_choose(ids)
    counts = count_to_choose(free, rate).tolist()
    rows = [
        _fill_with_spans(free_row, words_row, count, lengths, generator)
        for free_row, words_row, count in zip(free.tolist(), words.tolist(), counts, strict=True)
    ]
    return torch.tensor(rows)


def geometric_lengths(stop: float = 0.2, longest: int = 10) -> Float[Tensor, " {longest}"]:
    """SpanBERT's span lengths: geometric, cut off at `longest`; 3.8 words on average.

    After each word the span stops with probability `stop`. (Joshi et al., 2020.) Raises
    `ValueError` for a probability of 0 or 1.
    """
    check_share(stop=stop)
    check_sizes(longest=longest)
    weights = (1 - stop) ** torch.arange(longest, dtype=torch.float64)
    return weights / weights.sum()


def ngram_lengths(longest: int = 3) -> Float[Tensor, " {longest}"]:
    """ALBERT's n-grams: n words with a probability that falls as 1 / n (Lan et al., 2020)."""
    check_sizes(longest=longest)
    weights = 1 / torch.arange(1, longest + 1, dtype=torch.float64)
    return weights / weights.sum()


def count_to_choose(words: Bool[Tensor, "batch seq_len"], rate: float) -> Int[Tensor, " batch"]:
    """How many of the words the share `rate` is: rounded, a half to the even side, at least 1."""
    check_share(rate=rate)
    return (words.sum(dim=1).double() * rate).round().long().clamp(min=1)


def check_lengths(lengths: Float[Tensor, " longest"]) -> None:
    """Raise `ValueError` unless these are probabilities that add up to 1."""
    if not len(lengths) or bool((lengths < 0).any()) or abs(lengths.sum().item() - 1) > 1e-5:
        raise ValueError(
            f"lengths must be the probabilities of 1, 2, ... words, got {lengths.tolist()}"
        )


def _fill_with_spans(
    free: list[bool],
    words: Sequence[int],
    count: int,
    lengths: Tensor,
    generator: torch.Generator,
) -> list[bool]:
    """Choose spans among the free tokens of one sequence until there are `count`."""
    chosen = [False] * len(free)
    while sum(chosen) < count:
        starts = [place for place in range(len(free)) if free[place]]
        start = starts[int(torch.randint(len(starts), (1,), generator=generator))]
        while start and free[start - 1] and words[start - 1] == words[start]:
            start -= 1
        length = 1 + int(lengths.multinomial(1, generator=generator))
        for place in _span(free, words, start, length)[: count - sum(chosen)]:
            chosen[place], free[place] = True, False
    return chosen


def _span(free: Sequence[bool], words: Sequence[int], start: int, length: int) -> list[int]:
    """The places of `length` words from `start` on, up to the first that is not free."""
    place, seen = start, 0
    while place < len(free) and free[place]:
        seen += place == start or words[place] != words[place - 1]
        if seen > length:
            break
        place += 1
    return list(range(start, place))


def _check_words(words: Tensor, ids: Tensor) -> None:
    if words.shape != ids.shape:
        raise ValueError(
            f"words must number every token, {tuple(ids.shape)}, got {tuple(words.shape)}"
        )
    if words.numel() and (int(words.min()) < 0 or int(words.max()) >= ids.shape[1]):
        raise ValueError(
            f"words must be numbered from 0 and below the length, {ids.shape[1]}, "
            f"got {int(words.min())} to {int(words.max())}"
        )
