"""The place in the data is found again, whatever is random about it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.training import BatchStream


def shuffled(generator):
    """Seven examples in batches of two, in random order, each with noise of its own."""
    for chosen in torch.randperm(7, generator=generator).split(2):
        yield chosen, torch.rand(2, generator=generator)


def stream(make_pass=shuffled, seed=0):
    return BatchStream(make_pass, torch.Generator().manual_seed(seed))


def take(batches, number):
    return [
        (order.tolist(), noise.tolist()) for order, noise in (next(batches) for _ in range(number))
    ]


def test_pass_after_pass_each_in_another_order():
    batches = take(stream(), 12)
    passes = [[x for order, _ in batches[i : i + 4] for x in order] for i in (0, 4, 8)]
    assert all(sorted(each) == list(range(7)) for each in passes)
    assert len({tuple(each) for each in passes}) == 3


@given(st.integers(0, 13), st.integers(0, 99))
def test_resuming_gives_the_batches_that_would_have_come(taken, seed):
    first = stream(seed=seed)
    take(first, taken)
    place = first.state_dict()
    expected = take(first, 6)
    second = stream(seed=seed + 1)
    take(second, 2)
    second.load_state_dict(place)
    assert take(second, 6) == expected


def test_a_place_does_not_move_with_the_stream():
    batches = stream()
    take(batches, 1)
    place = batches.state_dict()
    expected = take(batches, 9)
    batches.load_state_dict(place)
    assert take(batches, 9) == expected


def test_passes_without_end():
    def endless(generator):
        while True:
            yield torch.arange(2), torch.rand(2, generator=generator)

    batches = stream(endless)
    take(batches, 5)
    place = batches.state_dict()
    expected = take(batches, 2)
    other = stream(endless, seed=9)
    other.load_state_dict(place)
    assert take(other, 2) == expected


def test_no_batches():
    with pytest.raises(ValueError, match="at least one batch, got none"):
        next(stream(lambda generator: []))


def test_data_that_have_become_fewer():
    batches = stream()
    take(batches, 3)
    shorter = stream(lambda generator: list(shuffled(generator))[:2])
    with pytest.raises(ValueError, match="ends after 2 batches, but 3 had been taken"):
        shorter.load_state_dict(batches.state_dict())
