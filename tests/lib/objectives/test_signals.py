"""What an example teaches: counted in batches that were really made, and in closed form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_cases import seeded, texts, vocabulary

from lib.objectives.causal_lm import next_tokens
from lib.objectives.cross_entropy import perplexity
from lib.objectives.ids import IGNORE_INDEX
from lib.objectives.masked_lm import MaskedLMCollator
from lib.objectives.prefix_lm import draw_prefix, split_prefix
from lib.objectives.signals import (
    binary_entropy,
    bits_per_byte,
    causal_lm_signals,
    count_signals,
    masked_lm_signals,
    nats_to_bits,
    prefix_lm_signals,
    replaced_token_signals,
    span_corruption_signals,
)
from lib.objectives.span_corruption import span_corruption, t5_sentinels

few = settings(max_examples=15)


def test_masked_and_causal_batches_ask_for_as_many_as_computed():
    ids = texts(400, 101)
    inputs, labels = next_tokens(ids)
    assert count_signals(labels) == 400 * causal_lm_signals(100).labels == inputs.numel()
    masked = MaskedLMCollator(vocabulary())(ids, generator=seeded()).labels
    expected = 400 * masked_lm_signals(101).labels
    assert count_signals(masked) == pytest.approx(expected, rel=0.03)


@few
@given(st.integers(20, 300), st.booleans())
def test_span_corruption_asks_for_the_whole_target(text_len, final_sentinel):
    batch = span_corruption(
        texts(2, text_len),
        t5_sentinels(),
        end=1,
        start=0,
        final_sentinel=final_sentinel,
        generator=seeded(),
    )
    signals = span_corruption_signals(text_len, final_sentinel=final_sentinel)
    assert count_signals(batch.targets) == 2 * signals.labels
    assert signals.tokens == batch.inputs.shape[1] + batch.decoder_inputs.shape[1]


@few
@given(st.integers(2, 20), st.data())
def test_prefix_language_modelling(tokens, data):
    prefix = data.draw(st.integers(1, tokens - 1))
    ids = texts(3, tokens)
    inputs, labels, mask = split_prefix(ids, prefix)
    signals = prefix_lm_signals(tokens - 1, prefix=prefix)
    assert count_signals(labels) == 3 * signals.labels == 3 * (tokens - prefix)
    assert torch.equal(inputs, ids[:, :-1])
    for place in range(tokens - 1):
        asked = place + 1 >= prefix
        expected = ids[:, place + 1] if asked else torch.full((3,), IGNORE_INDEX)
        assert torch.equal(labels[:, place], expected)
        # What is asked for cannot be seen; the whole prefix can.
        assert not (asked and mask[place, place + 1 :].any())
        assert mask[place, :prefix].all() and mask[place, : place + 1].all()


def test_prefixes_are_drawn_from_all_lengths_by_seed():
    generator = seeded()
    drawn = [draw_prefix(5, generator=generator) for _ in range(100)]
    assert set(drawn) == {1, 2, 3, 4}
    again = seeded()
    assert drawn == [draw_prefix(5, generator=again) for _ in range(100)]


def test_the_outlines_question():
    """15 % against 100 % of the tokens: masked models need 6.67 times as many examples."""
    masked, causal = masked_lm_signals(512), causal_lm_signals(512)
    assert (masked.per_token, causal.per_token) == (pytest.approx(0.15), 1.0)
    tokens = 512 * 300
    assert causal.examples_for(tokens) == 300 and masked.examples_for(tokens) == 2000
    assert causal.bits(math.log(1024)) == pytest.approx(5120)
    assert masked.bits(math.log(1024)) == pytest.approx(768)
    assert replaced_token_signals(512).labels == 512


def test_nats_bits_and_bytes():
    assert nats_to_bits(math.log(8)) == pytest.approx(3)
    assert 2 ** nats_to_bits(1.7) == pytest.approx(perplexity(1.7))
    assert bits_per_byte(math.log(256), num_tokens=10, num_bytes=40) == pytest.approx(2)
    # A byte-level model that knows nothing needs 8 bits a byte.
    assert bits_per_byte(math.log(256), num_tokens=7, num_bytes=7) == pytest.approx(8)


def test_a_yes_or_no_is_at_most_a_bit():
    assert binary_entropy(0.5) == 1 and binary_entropy(0.0) == binary_entropy(1.0) == 0
    assert binary_entropy(0.15) == pytest.approx(0.6098, abs=1e-4)
    uniform = torch.distributions.Bernoulli(torch.tensor(0.15)).entropy().item()
    assert nats_to_bits(uniform) == pytest.approx(binary_entropy(0.15))


# Bad input.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masked_lm_signals(10, rate=1.0), "rate must be a number between 0 and 1"),
        (lambda: causal_lm_signals(0), "seq_len must be a positive whole number"),
        (lambda: prefix_lm_signals(5, prefix=6), "a prefix of 6 is longer than the 5 tokens"),
        (lambda: masked_lm_signals(10).examples_for(0), "labels must be a positive whole"),
        (lambda: nats_to_bits(-1.0), "nats must be a number, 0 or more, got -1.0"),
        (lambda: bits_per_byte(1.0, num_tokens=1, num_bytes=0), "num_bytes must be a positive"),
        (lambda: binary_entropy(1.5), "probability must be a number from 0 to 1, got 1.5"),
        (lambda: split_prefix(texts(1, 4), 4), "of 4 tokens a prefix takes 1 to 3, got 4"),
        (lambda: split_prefix(texts(1, 4), 0), "of 4 tokens a prefix takes 1 to 3, got 0"),
        (lambda: split_prefix(texts(1, 1), 1), "a text needs 2 tokens"),
        (lambda: draw_prefix(1, generator=seeded()), "needs 2 tokens to be split, got 1"),
    ],
)
def test_what_cannot_be(call, message):
    with pytest.raises(ValueError, match=message):
        call()
