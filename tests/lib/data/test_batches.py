"""Padding, and the shift between what a decoder reads and what it should write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.data.batches import make_batch, pad_sequences
from lib.data.vocabulary import Vocabulary

LETTERS, PHONEMES = Vocabulary.of(["act"]), Vocabulary.of([("AE", "K", "T")])


def test_a_batch_written_out():
    batch = make_batch([("act", ("AE", "K", "T")), ("at", ("AE", "T"))], LETTERS, PHONEMES)
    assert batch.source.tolist() == [[3, 4, 5], [3, 5, 0]]
    assert batch.source_lengths.tolist() == [3, 2]
    assert batch.inputs.tolist() == [[1, 3, 4, 5], [1, 3, 5, 0]]
    assert batch.targets.tolist() == [[3, 4, 5, 2], [3, 5, 2, 0]]
    assert batch.target_lengths.tolist() == [4, 3]


def test_an_empty_target_is_an_end_at_once():
    batch = make_batch([("a", "")], LETTERS, PHONEMES)
    assert (batch.inputs.tolist(), batch.targets.tolist()) == ([[1]], [[2]])


@given(st.lists(st.lists(st.integers(1, 9), min_size=1), min_size=1), st.integers(-3, 0))
def test_padding_keeps_every_sequence(sequences, pad):
    padded, lengths = pad_sequences(sequences, pad)
    assert padded.shape == (len(sequences), max(map(len, sequences)))
    for row, length, sequence in zip(padded.tolist(), lengths.tolist(), sequences, strict=True):
        assert row == sequence + [pad] * (len(row) - len(sequence)) and length == len(sequence)


@pytest.mark.parametrize("sequences", [[], [[]], [[1, 2], []]])
def test_nothing_cannot_be_padded(sequences):
    with pytest.raises(ValueError, match="at least one sequence, and none of them empty"):
        pad_sequences(sequences)


def test_unknown_symbols_are_refused():
    with pytest.raises(ValueError, match=r"no id for \['o'\]"):
        make_batch([("cot", ("K", "AE", "T"))], LETTERS, PHONEMES)
