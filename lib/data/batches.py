"""Sequences of different lengths as one tensor: the short ones are filled up with padding."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from lib.data.vocabulary import Vocabulary


class Batch(NamedTuple):
    """Pairs of sequences, ready for an encoder and a decoder; lengths do not count the padding.

    `inputs` are the targets as the decoder reads them, after the start symbol; `targets` as it
    should write them, before the end symbol. So `inputs[:, i]` is what comes before
    `targets[:, i]`.
    """

    source: Int[Tensor, "batch source"]
    source_lengths: Int[Tensor, " batch"]
    inputs: Int[Tensor, "batch target"]
    targets: Int[Tensor, "batch target"]
    target_lengths: Int[Tensor, " batch"]


def make_batch(
    pairs: Sequence[tuple[Iterable[str], Iterable[str]]],
    source_vocabulary: Vocabulary,
    target_vocabulary: Vocabulary,
) -> Batch:
    """Pairs of source and target symbols as a padded batch.

    Raises `ValueError` for no pairs, an empty source, or a symbol that has no id.
    """
    sources = [source_vocabulary.encode(source) for source, _ in pairs]
    targets = [target_vocabulary.encode(target) for _, target in pairs]
    source, source_lengths = pad_sequences(sources)
    inputs, lengths = pad_sequences([[Vocabulary.start, *target] for target in targets])
    outputs, _ = pad_sequences([[*target, Vocabulary.end] for target in targets])
    return Batch(source, source_lengths, inputs, outputs, lengths)


def pad_sequences(
    sequences: Sequence[Sequence[int]], pad: int = Vocabulary.pad
) -> tuple[Int[Tensor, "batch longest"], Int[Tensor, " batch"]]:
    """The sequences as the rows of one tensor, each filled up at its end, and their lengths.

    Raises `ValueError` for no sequences and for an empty one.
    """
    if not sequences or not all(len(sequence) for sequence in sequences):
        raise ValueError("a batch needs at least one sequence, and none of them empty")
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    padded = torch.full((len(sequences), int(lengths.max())), pad)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    return padded, lengths
