"""What is done to the logits is what Hugging Face's processors do; draws follow probabilities."""

import math

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lib.models.generation.sampling import GREEDY, Sampling, draw_tokens

SEEN = torch.tensor([[3, 7, 7], [0, 1, 2], [29, 5, 3], [8, 8, 8]])


def logits(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(4, 30, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [None, 1, 7, 100])
@pytest.mark.parametrize("top_p", [None, 0.01, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("penalty", [1.0, 0.7, 1.8])
def test_probabilities_are_hugging_faces(temperature, top_k, top_p, penalty):
    theirs = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty)])
    theirs.append(TemperatureLogitsWarper(temperature))
    if top_k is not None:
        theirs.append(TopKLogitsWarper(top_k))
    if top_p is not None:
        theirs.append(TopPLogitsWarper(top_p))
    ours = Sampling(temperature, top_k, top_p, penalty)
    got = ours.probabilities(logits(), SEEN)
    torch.testing.assert_close(got, theirs(SEEN, logits()).softmax(-1))


def test_a_temperature_of_0_takes_the_largest():
    largest = logits().argmax(-1)
    assert torch.equal(GREEDY.choose(logits()), largest)
    assert torch.equal(GREEDY.probabilities(logits()).argmax(-1), largest)
    assert GREEDY.probabilities(logits()).sum() == 4


def test_draws_are_as_frequent_as_they_are_probable():
    probabilities = Sampling(top_k=12, temperature=1.5).probabilities(logits()[:1])
    draws = 20_000
    chosen = draw_tokens(probabilities.expand(draws, -1), torch.Generator().manual_seed(0))
    counts = torch.bincount(chosen, minlength=30).double()
    possible = probabilities[0] > 0
    assert counts[~possible].sum() == 0
    expected = draws * probabilities[0][possible]
    chi_square = ((counts[possible] - expected).square() / expected).sum()
    assert chi_square < 31.3  # 11 degrees of freedom, one in a thousand


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0 or more, got -0.1"),
        ({"temperature": math.nan}, "temperature must be 0 or more, got nan"),
        ({"top_k": 0}, "top_k must be a whole number, 1 or more, got 0"),
        ({"top_k": 2.5}, "top_k must be a whole number, 1 or more, got 2.5"),
        ({"top_k": True}, "top_k must be a whole number, 1 or more, got True"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0.0"),
        ({"top_p": 1.1}, "top_p must be above 0 and at most 1, got 1.1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0, got 0.0"),
    ],
)
def test_what_sampling_refuses(import_unchecked, options, message):
    with pytest.raises(ValueError, match=message):
        import_unchecked("lib.models.generation.sampling").Sampling(**options)
