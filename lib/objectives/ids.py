"""What every objective asks of its tokens: ids that are in the vocabulary, and labels that fit.

A label of `IGNORE_INDEX` asks nothing of the model at that place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lib.memory.sizes import check_sizes

IGNORE_INDEX = -100
"""The label of a place that is not asked for: torch's own default, as in `cross_entropy`."""


@dataclass(frozen=True)
class MaskingVocabulary:
    """What masking must know of a vocabulary: its size, [MASK], and the ids that are not words.

    `special` are [CLS], [SEP], [PAD] and their like; `mask` is one of them without being named.
    For BERT: `MaskingVocabulary(30522, mask=103, special=(0, 100, 101, 102))`. Raises `ValueError`
    for an id outside the vocabulary, and for one that has no words.
    """

    vocab_size: int
    mask: int
    special: Sequence[int] = field(default=())

    def __post_init__(self) -> None:
        check_sizes(vocab_size=self.vocab_size)
        check_in_vocabulary(torch.tensor([self.mask, *self.special]), self.vocab_size)
        if self.is_special.all():
            raise ValueError(f"all {self.vocab_size} ids are special: there are no words to mask")

    @cached_property
    def is_special(self) -> Bool[Tensor, " vocab"]:
        """For each id whether it is special."""
        table = torch.zeros(self.vocab_size, dtype=torch.bool)
        table[[self.mask, *self.special]] = True
        return table

    @cached_property
    def words(self) -> Int[Tensor, " words"]:
        """The ids that are not special, in order."""
        return (~self.is_special).nonzero()[:, 0]

    def may_choose(self, ids: Int[Tensor, "batch seq_len"]) -> Bool[Tensor, "batch seq_len"]:
        """Where the words stand. Raises `ValueError` for a sequence that has none.

        And for an id that is not in the vocabulary.
        """
        check_in_vocabulary(ids, self.vocab_size)
        words = ~self.is_special[ids]
        check_rows(words, "has no words that could be chosen: it is empty, or all are special")
        return words


def check_in_vocabulary(ids: Int[Tensor, "..."], vocab_size: int) -> None:
    """Raise `ValueError` unless every id is one of 0 to vocab_size - 1."""
    if not ids.numel():
        return
    lowest, highest = (int(id_) for id_ in torch.aminmax(ids))
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(
            f"ids run from 0 to {vocab_size - 1} in a vocabulary of {vocab_size}, got {wrong}"
        )


def check_rows(wanted: Bool[Tensor, "batch seq_len"], problem: str) -> None:
    """Raise `ValueError` with the `problem` of the first row in which nothing is wanted."""
    found = wanted.any(dim=1)
    if not found.all():
        raise ValueError(f"sequence {int(found.long().argmin())} {problem}")


def check_share(**shares: float) -> None:
    """Raise `ValueError` unless every share is a number between 0 and 1, neither of them."""
    for name, share in shares.items():
        if not (isinstance(share, float) and 0 < share < 1):
            raise ValueError(f"{name} must be a number between 0 and 1, neither, got {share!r}")


def check_probability(**probabilities: float) -> None:
    """Raise `ValueError` unless every probability is a number from 0 to 1."""
    for name, probability in probabilities.items():
        if isinstance(probability, bool) or not isinstance(probability, int | float):
            raise ValueError(f"{name} must be a number from 0 to 1, got {probability!r}")
        if not 0 <= probability <= 1:
            raise ValueError(f"{name} must be a number from 0 to 1, got {probability!r}")


def labels_at(ids: Int[Tensor, "*batch"], asked: Bool[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """The ids where they are asked for, `IGNORE_INDEX` elsewhere."""
    return ids.masked_fill(~asked, IGNORE_INDEX)
