"""Which tokens are chosen: never a special one, the number that was asked for, the same by seed."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_cases import (
    CLS,
    MASK,
    PAD,
    SEP,
    SPECIAL,
    VOCAB_SIZE,
    chi_square,
    chi_square_limit,
    padded_texts,
    rates,
    seeded,
    seeds,
    texts,
    vocabulary,
    z_score,
)

from lib.objectives.choosing import (
    choose_exact_count,
    choose_spans,
    choose_tokens,
    choose_words,
    count_to_choose,
    geometric_lengths,
    ngram_lengths,
)
from lib.objectives.ids import MaskingVocabulary

few = settings(max_examples=25)
sides = st.integers(3, 40)


def words_of(ids, seed=0):
    """Word numbers for tokens that go on with a word in half of the places."""
    begins = torch.rand(ids.shape, generator=seeded(seed)) < 0.5
    begins[:, 0] = False
    return begins.long().cumsum(dim=1)


def by_words(ids, vocabulary, **draw):
    return choose_words(ids, vocabulary, words_of(ids), **draw)


WAYS = {
    "tokens": choose_tokens,
    "exact count": choose_exact_count,
    "words": by_words,
    "spans": partial(choose_spans, lengths=geometric_lengths()),
    "n-grams": partial(choose_spans, lengths=ngram_lengths()),
}


@pytest.mark.parametrize("way", WAYS)
@few
@given(st.integers(1, 5), sides, rates, seeds)
def test_no_special_token_is_ever_chosen(way, batch, seq_len, rate, seed):
    ids = padded_texts(batch, seq_len, seed % 1000)
    chosen = WAYS[way](ids, vocabulary(), rate=rate, generator=seeded(seed))
    assert chosen.dtype == torch.bool and chosen.shape == ids.shape
    assert not chosen[ids < len(SPECIAL)].any()


@pytest.mark.parametrize("way", WAYS)
def test_the_seed_decides(way):
    ids = padded_texts(4, 40)
    draw = partial(WAYS[way], ids, vocabulary(), rate=0.3)
    assert torch.equal(draw(generator=seeded(3)), draw(generator=seeded(3)))
    assert not torch.equal(draw(generator=seeded(3)), draw(generator=seeded(4)))


@pytest.mark.parametrize("way", ["exact count", "spans", "n-grams"])
@few
@given(st.integers(1, 4), sides, rates, seeds)
def test_the_count_is_the_share_of_the_words_rounded_and_at_least_one(
    way, batch, seq_len, rate, seed
):
    ids = padded_texts(batch, seq_len, seed % 1000)
    chosen = WAYS[way](ids, vocabulary(), rate=rate, generator=seeded(seed))
    for row, mask in zip(ids.tolist(), chosen, strict=True):
        words = sum(token >= len(SPECIAL) for token in row)
        assert int(mask.sum()) == max(1, round(words * rate))


@pytest.mark.parametrize(("way", "count"), [("tokens", None), ("words", None), ("exact count", 24)])
def test_fifteen_percent_unless_told_otherwise(way, count):
    ids = texts(500, 160)
    chosen = WAYS[way](ids, vocabulary(), generator=seeded())
    if count:
        assert set(chosen.sum(dim=1).tolist()) == {count}
    # Tokens of one word are chosen together: of 80 words in a row, not of 160 tokens.
    trials = ids.numel() / (2 if way == "words" else 1)
    assert z_score(chosen.double().mean().item() * trials, trials, 0.15) < 4


def test_every_place_is_as_likely_as_the_others():
    ids = texts(4000, 12)
    for way in ("tokens", "exact count"):
        counts = WAYS[way](ids, vocabulary(), rate=0.25, generator=seeded(1)).sum(dim=0).tolist()
        assert chi_square(counts, [1 / 12] * 12) < chi_square_limit(12), way


def test_an_exact_count_draws_every_set_equally_often():
    ids = texts(6000, 5)
    chosen = choose_exact_count(ids, vocabulary(), rate=0.4, generator=seeded(2))
    codes = (chosen * torch.tensor([1, 2, 4, 8, 16])).sum(dim=1)
    counts = codes.bincount(minlength=32)
    assert int((counts > 0).sum()) == 10
    found = counts[counts > 0].tolist()
    assert chi_square(found, [1 / 10] * 10) < chi_square_limit(10)


@few
@given(st.integers(1, 5), sides, rates, seeds)
def test_words_are_chosen_whole(batch, seq_len, rate, seed):
    ids = texts(batch, seq_len)
    words = words_of(ids, seed % 100)
    chosen = choose_words(ids, vocabulary(), words, rate=rate, generator=seeded(seed))
    for row, mask in zip(words, chosen, strict=True):
        for word in row.unique():
            assert len(mask[row == word].unique()) == 1


def test_spans_begin_at_words_and_hold_whole_ones_but_for_the_last():
    """One span a row: 30 words of two tokens, budget large enough for the longest."""
    ids, words = texts(200, 60), torch.arange(60).div(2, rounding_mode="floor").expand(200, 60)
    lengths = torch.tensor([0.0, 0.0, 1.0])
    draw = partial(choose_spans, ids, vocabulary(), lengths=lengths, words=words)
    for mask in draw(rate=0.1, generator=seeded()):
        places = mask.nonzero()[:, 0]
        assert len(places) == 6 and places[0] % 2 == 0
        whole = torch.equal(places, torch.arange(int(places[0]), int(places[0]) + 6))
        assert whole or int(places[-1]) == 59 or places.diff().max() > 1


def test_spans_stop_where_a_special_token_stands():
    ids = texts(50, 12)
    ids[:, [0, 5, 11]] = torch.tensor([CLS, SEP, SEP])
    lengths = torch.tensor([0.0] * 9 + [1.0])
    chosen = choose_spans(ids, vocabulary(), lengths=lengths, rate=0.5, generator=seeded())
    assert not chosen[:, [0, 5, 11]].any()
    assert set(chosen.sum(dim=1).tolist()) == {4}


def test_span_lengths_are_those_of_the_papers():
    """SpanBERT's average 3.8 words (Joshi et al., 2020); ALBERT's n-grams fall as 1 / n."""
    geometric = geometric_lengths()
    mean = (geometric * torch.arange(1, 11)).sum().item()
    assert mean == pytest.approx(3.797, abs=5e-4) and geometric.sum().item() == pytest.approx(1)
    ratios = (geometric[1:] / geometric[:-1]).tolist()
    assert ratios == pytest.approx([0.8] * 9)
    assert ngram_lengths().tolist() == pytest.approx([6 / 11, 3 / 11, 2 / 11])


def test_drawn_spans_have_the_mean_length_of_their_distribution():
    """In a long text few spans touch and few are cut."""
    ids = texts(40, 1000)
    for lengths in (geometric_lengths(), torch.tensor([0.0, 0.5, 0.0, 0.0, 0.5])):
        chosen = choose_spans(ids, vocabulary(), lengths=lengths, rate=0.05, generator=seeded(5))
        begins = chosen.clone()
        begins[:, 1:] &= ~chosen[:, :-1]
        mean = (lengths * torch.arange(1, len(lengths) + 1)).sum().item()
        assert int(chosen.sum()) / int(begins.sum()) == pytest.approx(mean, rel=0.1)


def test_a_count_of_half_goes_to_the_even_side():
    words = torch.ones(1, 10, dtype=torch.bool)
    assert [int(count_to_choose(words, rate)) for rate in (0.25, 0.35, 0.01)] == [2, 4, 1]


# Bad input.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5])
def test_a_rate_is_between_0_and_1(way, rate):
    with pytest.raises(ValueError, match=r"rate must be a number between 0 and 1, neither"):
        WAYS[way](texts(2, 8), vocabulary(), rate=rate, generator=seeded())


@pytest.mark.parametrize("way", WAYS)
def test_a_sequence_without_words_is_refused(way):
    ids = texts(3, 8)
    ids[1] = PAD
    with pytest.raises(ValueError, match="sequence 1 has no words that could be chosen"):
        WAYS[way](ids, vocabulary(), generator=seeded())


@pytest.mark.parametrize("way", ["tokens", "exact count"])
def test_an_empty_sequence_is_refused(way):
    with pytest.raises(ValueError, match="sequence 0 has no words"):
        WAYS[way](texts(2, 0), vocabulary(), generator=seeded())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", [-1, VOCAB_SIZE])
def test_ids_are_those_of_the_vocabulary(way, wrong):
    ids = texts(2, 8)
    ids[1, 3] = wrong
    with pytest.raises(ValueError, match=rf"ids run from 0 to 59 .* got {wrong}"):
        WAYS[way](ids, vocabulary(), generator=seeded())


@pytest.mark.parametrize("words", [torch.full((2, 8), 8), torch.full((2, 8), -1)])
def test_word_numbers_stay_below_the_length(words):
    with pytest.raises(ValueError, match="words must be numbered from 0 and below the length, 8"):
        choose_words(texts(2, 8), vocabulary(), words, generator=seeded())


def test_word_numbers_have_the_shape_of_the_ids(import_unchecked):
    choosing = import_unchecked("lib.objectives.choosing")
    with pytest.raises(ValueError, match=r"words must number every token, \(2, 8\), got \(2, 7\)"):
        choosing.choose_words(
            texts(2, 8), vocabulary(), torch.zeros(2, 7, dtype=torch.long), generator=seeded()
        )


@pytest.mark.parametrize("lengths", [[0.5, 0.4], [1.5, -0.5], []])
def test_lengths_are_probabilities(lengths):
    with pytest.raises(ValueError, match="lengths must be the probabilities of 1, 2"):
        choose_spans(texts(2, 8), vocabulary(), lengths=torch.tensor(lengths), generator=seeded())


def test_a_vocabulary_has_words_and_its_special_ids():
    with pytest.raises(ValueError, match=r"ids run from 0 to 9 .* got 10"):
        MaskingVocabulary(10, mask=10)
    with pytest.raises(ValueError, match="all 3 ids are special"):
        MaskingVocabulary(3, mask=0, special=(1, 2))
    assert MASK in vocabulary().is_special.nonzero()
    assert vocabulary().words.tolist() == list(range(5, VOCAB_SIZE))
