"""Speculative decoding says what the target alone would say."""

from itertools import product

import pytest
import torch
from small_models import gpt2, llama, t5

from lib.models.generation import Sampling, generate, generate_speculatively

PROMPT = [3, 14, 15]


@pytest.mark.parametrize("lookahead", [1, 2, 4, 9])
def test_greedy_output_is_the_targets_own(lookahead):
    for seed in range(2):
        target, draft = gpt2(seed), gpt2(seed + 1, num_layers=1)
        want = generate(target, [PROMPT], max_new_tokens=12)[0]
        got = generate_speculatively(target, draft, PROMPT, max_new_tokens=12, lookahead=lookahead)
        assert got.ids == want
        stopped = generate_speculatively(
            target, draft, PROMPT, max_new_tokens=12, lookahead=lookahead, stop_ids={want[5]}
        )
        assert stopped.ids == want[: want.index(want[5])]


def test_it_fills_a_model_to_its_last_position_as_generate_does():
    """The last token is chosen but not read, so that 3 + 30 fit into 32 positions."""
    target, draft = gpt2(), gpt2(1, num_layers=1)
    want = generate(target, [PROMPT], max_new_tokens=30)[0]
    for lookahead in (1, 4, 40):
        done = generate_speculatively(target, draft, PROMPT, max_new_tokens=30, lookahead=lookahead)
        assert done.ids == want


def test_a_single_token_needs_no_draft():
    target, draft = gpt2(), gpt2(1, num_layers=1)
    done = generate_speculatively(target, draft, PROMPT, max_new_tokens=1)
    assert done.ids == generate(target, [PROMPT], max_new_tokens=1)[0]
    assert (done.drafted, done.target_runs) == (0, 1)


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("sampling", [Sampling(temperature=0.0), Sampling(), Sampling(top_k=5)])
def test_a_draft_that_is_the_target_is_always_right(make, sampling):
    done = generate_speculatively(
        make(),
        make(),
        PROMPT,
        max_new_tokens=15,
        sampling=sampling,
        generator=torch.Generator().manual_seed(0),
    )
    assert done.accepted == done.drafted == 12
    assert done.target_runs == 3
    assert len(done.ids) == 15


@torch.no_grad()
def test_sampled_output_has_the_targets_distribution():
    """All sequences of 3 tokens out of 3, against the product of the target's probabilities."""
    target, draft = gpt2(1, vocab_size=3), gpt2(2, vocab_size=3, num_layers=1)
    sampling, draws = Sampling(temperature=4.0), 500
    sequences = list(product(range(3), repeat=3))
    ids = torch.tensor([[0, *tokens] for tokens in sequences])
    steps = (target(ids)[:, :3] / 4.0).softmax(-1)
    probabilities = steps.gather(-1, ids[:, 1:, None])[..., 0].prod(-1)
    assert abs(probabilities.sum() - 1) < 1e-9
    generator = torch.Generator().manual_seed(0)
    counts = dict.fromkeys(sequences, 0)
    accepted = drafted = 0
    for _ in range(draws):
        done = generate_speculatively(
            target,
            draft,
            [0],
            max_new_tokens=3,
            lookahead=2,
            sampling=sampling,
            generator=generator,
        )
        counts[tuple(done.ids)] += 1
        accepted, drafted = accepted + done.accepted, drafted + done.drafted
    assert 0.1 < accepted / drafted < 0.95
    expected = draws * probabilities
    got = torch.tensor(list(counts.values()))
    chi_square = ((got - expected).square() / expected).sum()
    assert chi_square < 54.1  # 26 degrees of freedom, one in a thousand


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lookahead": 0}, "lookahead"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"prompt": []}, "at least one token"),
        ({"prompt": [40]}, "token ids must lie between 0 and 39"),
        ({"max_new_tokens": 31}, "3 tokens and 31 new ones do not fit into the 32 positions"),
        ({"sampling": Sampling(), "lookahead": -1}, "lookahead"),
    ],
)
def test_what_it_refuses(options, message):
    options = {"prompt": PROMPT, "max_new_tokens": 3, **options}
    with pytest.raises(ValueError, match=message):
        generate_speculatively(gpt2(), gpt2(1), **options)


def test_models_of_two_vocabularies_are_refused():
    with pytest.raises(ValueError, match="share a vocabulary, but have 40 and 20 tokens"):
        generate_speculatively(gpt2(), gpt2(vocab_size=20), PROMPT, max_new_tokens=3)


def test_an_encoder_decoder_has_no_draft():
    with pytest.raises(ValueError, match="the target must be a decoder-only model, got T5"):
        generate_speculatively(t5(), gpt2(), PROMPT, max_new_tokens=3)
    with pytest.raises(ValueError, match="the draft must be a decoder-only model, got T5"):
        generate_speculatively(gpt2(), t5(), PROMPT, max_new_tokens=3)
