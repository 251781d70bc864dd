"""Made-up tasks: what they ask for, and that the generator alone decides."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.data.toy_sequences import copy_task, reverse_task


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(
    seed=st.integers(0, 1000),
    shortest=st.integers(1, 5),
    more=st.integers(1, 5),
    num_symbols=st.integers(1, 26),
)
def test_copies_and_reversals_of_the_same_words(seed, shortest, more, num_symbols):
    sizes = {"lengths": range(shortest, shortest + more), "num_symbols": num_symbols}
    copies = copy_task(20, generator=seeded(seed), **sizes)
    reversals = reverse_task(20, generator=seeded(seed), **sizes)
    assert len(copies) == 20
    for (word, same), (again, backwards) in zip(copies, reversals, strict=True):
        assert word == same == again and list(reversed(word)) == list(backwards)
        assert shortest <= len(word) < shortest + more
        assert set(word) <= set("abcdefghijklmnopqrstuvwxyz"[:num_symbols])


def test_the_generator_decides_and_goes_on():
    generator = seeded()
    first, second = (copy_task(5, range(3, 9), generator=generator) for _ in range(2))
    assert first == copy_task(5, range(3, 9), generator=seeded()) != second


def test_lengths_and_letters_are_drawn_evenly():
    words = [word for word, _ in copy_task(4000, range(2, 6), generator=seeded(), num_symbols=3)]
    lengths, letters = Counter(map(len, words)), Counter("".join(words))
    assert sorted(lengths) == [2, 3, 4, 5] and min(lengths.values()) > 900
    assert sorted(letters) == ["a", "b", "c"] and min(letters.values()) > 4400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be a positive"),
        ({"lengths": range(0)}, "at least one number"),
        ({"lengths": range(0, 4)}, "none below 1"),
        ({"num_symbols": 27}, "26 letters, not 27"),
        ({"num_symbols": 0}, "num_symbols must be a positive"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    sizes = {"count": 3, "lengths": range(2, 4), "num_symbols": 4} | arguments
    with pytest.raises(ValueError, match=message):
        reverse_task(**sizes, generator=seeded())
