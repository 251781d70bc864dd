"""Masked language modelling (Devlin et al., 2019): fill in what was hidden, from both sides.

Of the chosen tokens 80 % become [MASK], 10 % a random word, 10 % stay. If all became [MASK], the
model would learn nothing about texts without one, and those are all that it meets afterwards; so
some places are asked about without a sign that they will be.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lib.memory.sizes import check_sizes
from lib.objectives.choosing import choose_tokens
from lib.objectives.ids import (
    IGNORE_INDEX,
    MaskingVocabulary,
    check_ids,
    check_probability,
    flat_places,
    labels_at,
)


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
    places = flat_places(chosen)
    lots = _draw_lots(places, ids.shape[1], together, generator)
    as_word = places[(lots >= mask_share) & (lots < mask_share + random_share)]
    inputs, labels = ids.clone(), torch.full_like(ids, IGNORE_INDEX)
    labels.view(-1)[places] = ids.flatten()[places]
    inputs.view(-1)[places[lots < mask_share]] = vocabulary.mask
    inputs.view(-1)[as_word] = _draw_words(len(as_word), vocabulary, generator).to(ids.dtype)
    return MaskedTokens(inputs, labels)


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
    places = flat_places(chosen)
    lots = _draw_lots(places, ids.shape[1], None, generator)
    as_word = []
    for place, lot in zip(places.tolist(), lots, strict=True):
        if lot < mask_share:
            inputs.view(-1)[place] = vocabulary.mask
        elif lot < mask_share + random_share:
            as_word.append(place)
    words = _draw_words(len(as_word), vocabulary, generator)
    for place, word in zip(as_word, words, strict=True):
        inputs.view(-1)[place] = word
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
        self, ids: Int[Tensor, "batch seq_len"], *, generator: torch.Generator
    ) -> MaskedTokens:
        """Inputs and labels. Raises `ValueError` as `choose` and `mask_tokens` do."""
        chosen = self.choose(ids, self.vocabulary, generator=generator)
        shares = {"mask_share": self.mask_share, "random_share": self.random_share}
        return mask_tokens(ids, chosen, self.vocabulary, **shares, generator=generator)


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


def _draw_lots(
    places: Tensor, seq_len: int, together: Tensor | None, generator: torch.Generator
) -> Tensor:
    """For each place a number between 0 and 1, the same where `together` says so."""
    lots = torch.rand(len(places), generator=generator)
    if together is None:
        return lots
    groups = torch.stack([places // seq_len, together.flatten()[places]])
    return lots[groups.unique(dim=1, return_inverse=True)[1]]


def _draw_words(count: int, vocabulary: MaskingVocabulary, generator: torch.Generator) -> Tensor:
    words = vocabulary.words
    return words[torch.randint(len(words), (count,), generator=generator)]


def _check(
    ids: Tensor,
    chosen: Tensor,
    vocabulary: MaskingVocabulary,
    mask_share: float,
    random_share: float,
) -> None:
    check_ids(ids, vocabulary.vocab_size)
    check_probability(mask_share=mask_share, random_share=random_share)
    check_probability(**{"mask_share + random_share": mask_share + random_share})
    if ids.shape != chosen.shape:
        raise ValueError(
            f"chosen must have the shape of ids, {tuple(ids.shape)}, got {tuple(chosen.shape)}"
        )
