"""Beam search finds what Hugging Face's finds, and with enough beams the best there is."""

from functools import partial
from itertools import product

import pytest
import torch
from small_models import gpt2, pair, theirs_generates

from lib.kv_cache import PreallocatedCache
from lib.models.generation import beam_search, generate

PROMPT = [3, 14, 15]


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_one_beam_is_greedy(name):
    model = pair(name)[0]
    [best] = beam_search(model, PROMPT, num_beams=1, max_new_tokens=8)
    assert [list(best.ids)] == generate(model, [PROMPT], max_new_tokens=8)


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("num_beams", [2, 4])
def test_without_stop_tokens_the_beams_are_hugging_faces(name, num_beams):
    ours, theirs = pair(name)
    got = beam_search(ours, PROMPT, num_beams=num_beams, max_new_tokens=7)
    want = theirs_generates(theirs, PROMPT, 7, num_beams=num_beams, num_return_sequences=num_beams)
    assert [list(each.ids) for each in got] == want


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_with_a_stop_token_the_best_is_hugging_faces(length_penalty):
    ours, theirs = pair("gpt2")
    for stop in beam_search(ours, PROMPT, num_beams=3, max_new_tokens=7)[0].ids[1:4]:
        got = beam_search(
            ours,
            PROMPT,
            num_beams=3,
            max_new_tokens=7,
            stop_ids={stop},
            length_penalty=length_penalty,
        )
        [want] = theirs_generates(
            theirs,
            PROMPT,
            7,
            num_beams=3,
            length_penalty=length_penalty,
            early_stopping=False,
            eos_token_id=stop,
            pad_token_id=0,
        )
        assert list(got[0].ids) == want


@torch.no_grad()
def test_enough_beams_find_the_best_of_all_sequences():
    model = gpt2(1, vocab_size=4)
    ids = torch.tensor([[0, *tokens] for tokens in product(range(4), repeat=3)])
    steps = model(ids)[:, :3].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0].sum(-1)
    found = beam_search(model, [0], num_beams=64, max_new_tokens=3)
    order = steps.argsort(descending=True)
    assert [list(each.ids) for each in found] == ids[order, 1:].tolist()
    values = torch.tensor([each.log_probability for each in found], dtype=torch.float64)
    torch.testing.assert_close(values, steps[order])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams"),
        ({"num_beams": -1}, "num_beams"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 31}, "3 tokens and 31 new ones do not fit into the 32 positions"),
        ({"prompt": []}, "each prompt needs at least one token"),
        ({"prompt": [1, 40]}, "token ids must lie between 0 and 39, got ids from 1 to 40"),
    ],
)
def test_what_it_refuses(options, message):
    options = {"prompt": PROMPT, "num_beams": 2, "max_new_tokens": 3, **options}
    with pytest.raises(ValueError, match=message):
        beam_search(gpt2(), **options)


def test_more_beams_than_tokens_to_choose_from():
    """At the first step there are only as many beginnings as tokens; the beams fill up later."""
    found = beam_search(gpt2(1, vocab_size=3), [0], num_beams=7, max_new_tokens=2)
    assert len({each.ids for each in found}) == 7


def test_a_cache_that_is_full_says_so():
    cache = partial(PreallocatedCache, capacity=4)
    with pytest.raises(ValueError, match="the cache is full: capacity 4, length 4, appended 1"):
        beam_search(gpt2(), PROMPT, num_beams=2, max_new_tokens=5, make_cache=cache)
