"""The edit distance against its recursive definition."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.training.error_rate import edit_distance, error_rate

words = st.text(alphabet="abc", max_size=6)


@cache
def by_definition(written, reference):
    if not written or not reference:
        return len(written) + len(reference)
    return min(
        by_definition(written[1:], reference[1:]) + (written[0] != reference[0]),
        by_definition(written[1:], reference) + 1,
        by_definition(written, reference[1:]) + 1,
    )


@given(words, words)
def test_the_distance_is_the_fewest_edits(written, reference):
    assert edit_distance(written, reference) == by_definition(written, reference)


@pytest.mark.parametrize(
    ("written", "reference", "edits"),
    [
        ("kitten", "sitting", 3),
        ("", "abc", 3),
        ("abc", "", 3),
        ("flaw", "lawn", 2),
        ("ab", "ba", 2),
    ],
)
def test_known_distances(written, reference, edits):
    assert edit_distance(written, reference) == edits


def test_symbols_are_compared_whole():
    assert edit_distance(["AE", "K"], ["AH", "K", "T"]) == 2


def test_the_rate_counts_symbols_not_pairs():
    pairs = [("ab", "ab"), ("a", "abcd"), ("xx", "")]
    assert error_rate(pairs) == (0 + 3 + 2) / 6
    assert error_rate([("aaaa", "b")]) == 4


def test_nothing_to_write_has_no_rate():
    with pytest.raises(ValueError, match="at least one symbol"):
        error_rate([("a", "")])
