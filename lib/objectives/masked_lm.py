"""Masked language modelling (Devlin et al., 2019): fill in what was hidden, from both sides.

Of the chosen tokens 80 % become [MASK], 10 % a random word, 10 % stay. If all became [MASK], the
model would learn nothing about texts without one, and those are all that it meets afterwards; so
some places are asked about without a sign that they will be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lib.memory.sizes import check_sizes
from lib.objectives.choosing import choose_tokens
from lib.objectives.ids import (
    IGNORE_INDEX,
    MaskingVocabulary,
    check_in_vocabulary,
    check_probability,
    labels_at,
)
from lib.objectives.lots import draw_lots, is_below


class MaskedTokens(NamedTuple):
    """What the model reads, and what it should write: `IGNORE_INDEX` where it is not asked."""

    inputs: Int[Tensor, "batch seq_len"]
    labels: Int[Tensor, "batch seq_len"]


def mask_tokens(
    ids: Int[Tensor, "batch seq_len"],
    chosen: Bool[Tensor, "batch seq_len"],
    vocabulary: MaskingVocabulary,
    *,
    mask_share: float = 0.8,
    random_share: float = 0.1,
    generator: torch.Generator,
    together: Int[Tensor, "batch seq_len"] | None = None,
) -> MaskedTokens:
    """The chosen tokens, hidden: the share `mask_share` of them as [MASK], `random_share` as words.

    A draw for each chosen token decides; those of one sequence that have the same number in
    `together` share it, as the tokens of a span do in SpanBERT. Random words are never special
    tokens (BERT's own code draws from all ids). `ids` stays as it is.

    Raises `ValueError` for shapes that differ, shares outside 0 to 1 or of more than 1 together,
    an id outside the vocabulary.
    """
    _check(ids, chosen, vocabulary, mask_share, random_share)
    places = np.flatnonzero(chosen.numpy())
    lots = _draw_fates(places, ids.shape[1], together, generator)
    shares = (mask_share, random_share)
    return _hide(ids.clone(), places, lots, shares, vocabulary, generator)


def mask_tokens_loop(
    ids: Int[Tensor, "batch seq_len"],
    chosen: Bool[Tensor, "batch seq_len"],
    vocabulary: MaskingVocabulary,
    *,
    mask_share: float = 0.8,
    random_share: float = 0.1,
    generator: torch.Generator,
) -> MaskedTokens:
    """`mask_tokens` one token after the other; the same generator gives the same tokens."""
    _check(ids, chosen, vocabulary, mask_share, random_share)
    inputs, labels = ids.clone(), labels_at(ids, chosen)
    places = chosen.nonzero().tolist()
    lots = draw_lots(len(places), generator=generator) / 2**32
    as_word = []
    for (row, place), lot in zip(places, lots, strict=True):
        if lot < mask_share:
            inputs[row, place] = vocabulary.mask
        elif lot < mask_share + random_share:
            as_word.append((row, place))
    words = _draw_words(len(as_word), vocabulary, generator)
    for (row, place), word in zip(as_word, words, strict=True):
        inputs[row, place] = int(word)
    return MaskedTokens(inputs, labels)


@dataclass(frozen=True)
class MaskedLMCollator:
    """Token ids to a batch of masked language modelling: `choose` decides where, then 80/10/10.

    `choose` takes ids, the vocabulary and a generator: `choose_tokens`, `choose_exact_count`, or
    one of the others with `functools.partial` around its own arguments.
    """

    vocabulary: MaskingVocabulary
    choose: Callable[..., Tensor] = choose_tokens
    mask_share: float = 0.8
    random_share: float = 0.1

    def __call__(
        self,
        rows: Int[Tensor, "batch seq_len"] | Sequence[Int[Tensor, " seq_len"]],
        *,
        generator: torch.Generator,
    ) -> MaskedTokens:
        """Inputs and labels of rows of one length: a tensor, or the list a DataLoader collects.

        Raises `ValueError` as `choose` and `mask_tokens` do, and for rows of different lengths.
        """
        if len({len(row) for row in rows}) != 1:
            raise ValueError(f"rows must be of one length, got {[len(row) for row in rows]}")
        ids = torch.stack(list(rows))
        chosen = self.choose(ids, self.vocabulary, generator=generator)
        _check(ids, chosen, self.vocabulary, self.mask_share, self.random_share)
        places = np.flatnonzero(chosen.numpy())
        lots = _draw_fates(places, ids.shape[1], None, generator)
        # The stack is a copy already, and need not be copied again.
        shares = (self.mask_share, self.random_share)
        return _hide(ids, places, lots, shares, self.vocabulary, generator)


def epoch_generator(seed: int, epoch: int, *, copies: int | None = None) -> torch.Generator:
    """The generator to mask with in an epoch, counted from 0.

    With `copies` the masks are static: as many are drawn, and epoch `copies` meets those of epoch 0
    again; BERT made 10 copies of its data and masked each once. Without, they are dynamic: every
    epoch draws its own (Liu et al., RoBERTa, 2019). Raises `ValueError` for copies below 1.
    """
    if copies is not None:
        check_sizes(copies=copies)
        epoch = epoch % copies
    if epoch < 0:
        raise ValueError(f"epochs are counted from 0, got {epoch}")
    first = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**31, (epoch + 1,), generator=first)
    return torch.Generator().manual_seed(int(seeds[-1]))


def _hide(
    inputs: Tensor,
    places: np.ndarray,
    lots: np.ndarray,
    shares: tuple[float, float],
    vocabulary: MaskingVocabulary,
    generator: torch.Generator,
) -> MaskedTokens:
    """Hide what stands at these places, in `inputs` itself, as its lot says."""
    read, masked = inputs.numpy(), is_below(lots, shares[0])
    as_word = places[is_below(lots, sum(shares)) & ~masked]
    labels = np.full(read.shape, IGNORE_INDEX, read.dtype)
    labels.put(places, read.take(places))
    read.put(places[masked], vocabulary.mask)
    read.put(as_word, _draw_words(len(as_word), vocabulary, generator))
    return MaskedTokens(inputs, torch.from_numpy(labels))


def _draw_fates(
    places: np.ndarray, seq_len: int, together: Tensor | None, generator: torch.Generator
) -> np.ndarray:
    """For each place a random number, the same where `together` says so."""
    lots = draw_lots(len(places), generator=generator)
    if together is None:
        return lots
    groups = np.stack([places // seq_len, together.numpy().take(places)])
    return lots[np.unique(groups, axis=1, return_inverse=True)[1].ravel()]


def _draw_words(
    count: int, vocabulary: MaskingVocabulary, generator: torch.Generator
) -> np.ndarray:
    words = vocabulary.words
    return words.numpy().take(torch.randint(len(words), (count,), generator=generator).numpy())


def _check(
    ids: Tensor,
    chosen: Tensor,
    vocabulary: MaskingVocabulary,
    mask_share: float,
    random_share: float,
) -> None:
    check_in_vocabulary(ids, vocabulary.vocab_size)
    check_probability(mask_share=mask_share, random_share=random_share)
    check_probability(**{"mask_share + random_share": mask_share + random_share})
    if ids.shape != chosen.shape:
        raise ValueError(
            f"chosen must have the shape of ids, {tuple(ids.shape)}, got {tuple(chosen.shape)}"
        )
