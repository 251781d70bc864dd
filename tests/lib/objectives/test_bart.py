"""BART's five noises: what each keeps, what it takes away, and how the draws are distributed."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_cases import (
    CLS,
    MASK,
    SPECIAL,
    VOCAB_SIZE,
    chi_square,
    chi_square_limit,
    rates,
    seeded,
    seeds,
    texts,
    vocabulary,
    z_score,
)

from lib.objectives.bart import (
    delete_tokens,
    infill_text,
    mask_document,
    permute_sentences,
    poisson_lengths,
    rotate_document,
    split_sentences,
)

few = settings(max_examples=15)
STOP = len(SPECIAL)
lengths = st.integers(1, 40)


def document(length, seed=0):
    """Words that are all different, so that order can be read from them."""
    words = torch.randperm(VOCAB_SIZE - len(SPECIAL), generator=seeded(seed))[:length]
    return words + len(SPECIAL)


def is_subsequence(few, many):
    rest = iter(many)
    return all(token in rest for token in few)


@few
@given(lengths, rates, seeds)
def test_masking_and_deletion_spare_the_same_tokens(length, rate, seed):
    ids = document(length)
    masked = mask_document(ids, vocabulary(), rate=rate, generator=seeded(seed))
    left = delete_tokens(ids, vocabulary(), rate=rate, generator=seeded(seed))
    hidden = max(1, round(length * rate))
    assert int((masked == MASK).sum()) == hidden
    assert torch.equal(masked[masked != MASK], ids[masked != MASK])
    assert torch.equal(left, masked[masked != MASK]) and len(left) == length - hidden


@few
@given(lengths, rates, st.floats(1, 6), seeds)
def test_infilling_leaves_the_rest_in_order_and_covers_the_share(length, rate, mean, seed):
    ids = document(length)
    noisy = infill_text(ids, vocabulary(), rate=rate, mean_length=mean, generator=seeded(seed))
    left = noisy[noisy != MASK].tolist()
    assert len(left) == length - max(1, round(length * rate))
    assert is_subsequence(left, ids.tolist()) and len(noisy) > len(left)
    again = infill_text(ids, vocabulary(), rate=rate, mean_length=mean, generator=seeded(seed))
    assert torch.equal(noisy, again)


def test_infilling_can_be_undone_by_who_knows_the_lengths():
    """Fill each gap with the tokens that are missing between its neighbours: the text is back."""
    ids = document(40)
    noisy = infill_text(ids, vocabulary(), generator=seeded(3)).tolist()
    left, restored, place = [token for token in noisy if token != MASK], [], 0
    for token in noisy:
        if token != MASK:
            while int(ids[place]) != token:
                restored.append(int(ids[place]))
                place += 1
            restored.append(token)
            place += 1
    restored += ids.tolist()[place:]
    assert restored == ids.tolist() and len(left) == 28


@few
@given(st.integers(1, 60), st.floats(1, 6), seeds)
def test_lengths_add_up(total, mean, seed):
    drawn = poisson_lengths(total, mean, generator=seeded(seed))
    assert sum(drawn) == total and min(drawn) >= 0 and drawn[-1] > 0


def test_lengths_are_poisson_with_a_mean_of_3():
    drawn = poisson_lengths(9000, 3.0, generator=seeded())[:-1]
    poisson = [math.exp(-3) * 3**k / math.factorial(k) for k in range(9)]
    counts = Counter(min(length, 9) for length in drawn)
    cells = [*poisson, 1 - sum(poisson)]
    assert chi_square([counts[k] for k in range(10)], cells) < chi_square_limit(10)


def test_the_beginning_is_hidden_as_often_as_the_end():
    """The middle more often: a span that lies inside the text covers it from more places."""
    generator, hidden, trials = seeded(), torch.zeros(6), 400
    ids = document(6)
    for _ in range(trials):
        noisy = infill_text(ids, vocabulary(), rate=0.5, mean_length=2.0, generator=generator)
        hidden += ~torch.isin(ids, noisy)
    counts = hidden.long().tolist()
    assert sum(counts) == 3 * trials
    for early, late in zip(counts[:3], counts[:2:-1], strict=True):
        assert z_score(early, early + late, 0.5) < 4


@few
@given(st.lists(st.integers(STOP, STOP + 4), min_size=1, max_size=30), seeds)
def test_sentences_change_places_and_nothing_else(tokens, seed):
    ids = torch.tensor(tokens)
    sentences = split_sentences(ids, {STOP})
    assert torch.cat(sentences).tolist() == tokens
    assert all(STOP not in sentence[:-1] for sentence in sentences)
    assert all(sentence[-1] == STOP for sentence in sentences[:-1])
    permuted = permute_sentences(ids, {STOP}, generator=seeded(seed))
    assert sorted(permuted.tolist()) == sorted(tokens)
    order = torch.randperm(len(sentences), generator=seeded(seed)).tolist()
    assert permuted.tolist() == [t for index in order for t in sentences[index].tolist()]


def test_all_orders_of_sentences_come_equally_often():
    ids, generator = torch.tensor([10, STOP, 11, STOP, 12, STOP]), seeded()
    orders = Counter(
        tuple(permute_sentences(ids, {STOP}, generator=generator).tolist()) for _ in range(600)
    )
    assert len(orders) == 6
    assert chi_square(list(orders.values()), [1 / 6] * 6) < chi_square_limit(6)


@few
@given(lengths, seeds)
def test_a_rotation_begins_somewhere_and_goes_round(length, seed):
    ids = document(length)
    rotated = rotate_document(ids, generator=seeded(seed)).tolist()
    start = ids.tolist().index(rotated[0])
    assert rotated == ids.tolist()[start:] + ids.tolist()[:start]


def test_all_rotations_come_equally_often():
    ids, generator = document(5), seeded()
    first = Counter(int(rotate_document(ids, generator=generator)[0]) for _ in range(600))
    assert chi_square(list(first.values()), [1 / 5] * 5) < chi_square_limit(5)


# Bad input.

DRAWN = [mask_document, delete_tokens, infill_text]


@pytest.mark.parametrize("noise", DRAWN)
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_share_of_0_or_1(noise, rate):
    with pytest.raises(ValueError, match="rate must be a number between 0 and 1, neither"):
        noise(document(8), vocabulary(), rate=rate, generator=seeded())


@pytest.mark.parametrize("noise", DRAWN)
def test_documents_hold_words_and_only_words(noise):
    with pytest.raises(ValueError, match="has no words that could be chosen: it is empty"):
        noise(document(0), vocabulary(), generator=seeded())
    with pytest.raises(ValueError, match="before special tokens are added, but it holds some"):
        noise(torch.tensor([CLS, 9, 10]), vocabulary(), generator=seeded())
    with pytest.raises(ValueError, match="ids run from 0 to 59"):
        noise(torch.tensor([9, 60]), vocabulary(), generator=seeded())


def test_empty_documents_and_short_spans():
    with pytest.raises(ValueError, match="an empty document has no sentences"):
        permute_sentences(document(0), {STOP}, generator=seeded())
    with pytest.raises(ValueError, match="an empty document has no beginning"):
        rotate_document(document(0), generator=seeded())
    with pytest.raises(ValueError, match=r"must be 1 or more, got 0.5"):
        infill_text(texts(1, 8)[0], vocabulary(), mean_length=0.5, generator=seeded())
