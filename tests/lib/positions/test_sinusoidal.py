"""Sinusoidal and learned positions, and what attention is without any."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.attention import attend, scaled_dot_scores
from lib.positions import LearnedPositions, angular_frequencies, shift_matrix, sinusoidal_table

even = st.integers(1, 16).map(lambda half: 2 * half)
few = settings(max_examples=15)


@few
@given(st.integers(1, 40), even)
def test_the_table_is_the_formula_entry_by_entry(seq_len, hidden_size):
    table = sinusoidal_table(seq_len, hidden_size, dtype=torch.float64)
    for pos in range(seq_len):
        for i in range(hidden_size // 2):
            angle = pos / 10_000 ** (2 * i / hidden_size)
            assert table[pos, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert table[pos, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-12)


@few
@given(even, st.integers(-60, 60), st.sampled_from([10.0, 10_000.0, 500_000.0]))
def test_one_matrix_shifts_every_position(hidden_size, shift, base):
    options = {"base": base, "dtype": torch.float64}
    table = sinusoidal_table(160, hidden_size, **options)
    matrix = shift_matrix(shift, hidden_size, **options)
    first, last = max(0, -shift), 160 - max(0, shift)
    shifted = table[first:last] @ matrix.mT
    torch.testing.assert_close(shifted, table[first + shift : last + shift], rtol=0, atol=1e-10)


@few
@given(even, st.integers(-50, 50), st.integers(-50, 50))
def test_shifts_add_up_and_back_is_the_transpose(hidden_size, one, other):
    def shift(by):
        return shift_matrix(by, hidden_size, dtype=torch.float64)

    torch.testing.assert_close(shift(one) @ shift(other), shift(one + other), rtol=0, atol=1e-12)
    torch.testing.assert_close(shift(one).mT, shift(-one), rtol=0, atol=1e-12)
    assert torch.equal(shift(0), torch.eye(hidden_size, dtype=torch.float64))


@few
@given(even, st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_products_of_two_positions_depend_on_their_distance(hidden_size, one, other, by):
    table = sinusoidal_table(90, hidden_size, dtype=torch.float64)
    here, there = table[one] @ table[other], table[one + by] @ table[other + by]
    torch.testing.assert_close(here, there, rtol=0, atol=1e-10)
    assert (table[one] @ table[one]).item() == pytest.approx(hidden_size / 2)


def test_the_type_asked_for_is_the_type_given():
    assert sinusoidal_table(3, 4).dtype == torch.float32
    assert shift_matrix(1, 4, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert angular_frequencies(4, 100.0).tolist() == pytest.approx([1, 0.1])


def attention(hidden, mask=None):
    output, _ = attend(scaled_dot_scores(hidden, hidden), hidden, mask)
    return output


@few
@given(st.permutations(range(7)), st.integers(0, 99))
def test_attention_without_positions_does_not_know_the_order(order, seed):
    """Permutation equivariance: tokens in another order are the same outputs in that order."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(7, 8, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(attention(hidden[list(order)]), attention(hidden)[list(order)])


def test_positions_take_that_equivariance_away():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 8, generator=generator, dtype=torch.float64)
    order = [1, 0, 2, 3, 4, 5, 6]
    learned = LearnedPositions(7, 8, generator=generator).double()
    for table in (sinusoidal_table(7, 8, dtype=torch.float64), learned(torch.arange(7)) * 50):
        swapped, straight = attention(hidden[order] + table), attention(hidden + table)[order]
        assert (swapped - straight).abs().max() > 0.1


def test_learned_positions_are_rows_of_the_table():
    positions = LearnedPositions(5, 3, generator=torch.Generator().manual_seed(0))
    assert [tuple(p.shape) for p in positions.parameters()] == [(5, 3)]
    assert torch.equal(positions(torch.tensor([4, 0])), positions.weight[[4, 0]])
    batch = positions(torch.tensor([[0, 1], [3, 4]]))
    assert torch.equal(batch[1], positions.weight[3:])
    again = LearnedPositions(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(positions.weight, again.weight)
    wide = LearnedPositions(500, 100, generator=torch.Generator().manual_seed(0))
    assert wide.weight.std().item() == pytest.approx(0.02, rel=0.02)


def test_only_the_positions_that_were_used_learn():
    positions = LearnedPositions(5, 3)
    positions(torch.tensor([1, 1])).sum().backward()
    assert positions.weight.grad[:, 0].tolist() == [0, 2, 0, 0, 0]


def test_bad_input_is_refused(import_unchecked):
    unchecked = import_unchecked("lib.positions")
    with pytest.raises(ValueError, match="positions 0 to 4 are learned, got 3 to 5"):
        LearnedPositions(5, 3)(torch.tensor([3, 4, 5]))
    with pytest.raises(ValueError, match="positions 0 to 4 are learned, got -1 to 2"):
        LearnedPositions(5, 3)(torch.tensor([2, -1]))
    with pytest.raises(ValueError, match=r"max_positions must be a positive whole number.*got 0"):
        unchecked.LearnedPositions(0, 3)
    with pytest.raises(ValueError, match="number must be even, got 5"):
        unchecked.sinusoidal_table(4, 5)
    with pytest.raises(ValueError, match="number must be even, got 7"):
        unchecked.shift_matrix(1, 7)
    with pytest.raises(ValueError, match=r"seq_len must be a positive whole number.*got 2.5"):
        unchecked.sinusoidal_table(2.5, 4)
    with pytest.raises(ValueError, match="base must be a number above zero, got 0"):
        unchecked.angular_frequencies(4, 0)
