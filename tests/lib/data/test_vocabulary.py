"""Symbols to ids and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.data.vocabulary import END, PAD, START, Vocabulary

PHONEMES = Vocabulary(("AE", "K", "T"))


def test_three_ids_serve_every_text():
    assert (Vocabulary.pad, Vocabulary.start, Vocabulary.end) == (0, 1, 2)
    assert PHONEMES.encode([PAD, START, END]) == [0, 1, 2]
    assert len(PHONEMES) == 6


def test_symbols_follow_in_order():
    assert PHONEMES.encode(("K", "AE", "T")) == [4, 3, 5]
    assert Vocabulary.of(["cab", "bad"]).symbols == ("a", "b", "c", "d")
    assert Vocabulary.of([("T", "AE"), ("K",)]) == PHONEMES


@given(st.lists(st.text(alphabet="abcxyz", min_size=1), min_size=1))
def test_decoding_undoes_encoding(words):
    vocabulary = Vocabulary.of(words)
    for word in words:
        ids = vocabulary.encode(word)
        assert min(ids) >= 3 and max(ids) < len(vocabulary)
        assert "".join(vocabulary.decode(ids)) == word


def test_decoding_ends_at_the_end():
    assert PHONEMES.decode([1, 4, 3, 0, 5, 2, 4, 0]) == ["K", "AE", "T"]
    assert PHONEMES.decode([2]) == PHONEMES.decode([]) == []


def test_what_has_no_id_is_refused():
    with pytest.raises(ValueError, match=r"no id for \['AA', 'B'\].*knows \['AE', 'K', 'T'\]"):
        PHONEMES.encode(["B", "K", "AA"])
    for index in (-1, 6):
        with pytest.raises(ValueError, match=f"ids run from 0 to 5, got {index}"):
            PHONEMES.decode([3, index])


@pytest.mark.parametrize("symbols", [("a", "b", "a"), ("a", "<end>")])
def test_a_symbol_has_one_id(symbols):
    with pytest.raises(ValueError, match=rf"stand there twice: \['({symbols[0]}|<end>)'\]"):
        Vocabulary(symbols)
