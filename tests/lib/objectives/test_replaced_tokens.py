"""ELECTRA's labels and losses, and SpanBERT's boundaries."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_cases import (
    CLS,
    SEP,
    VOCAB_SIZE,
    chi_square,
    chi_square_limit,
    rates,
    seeded,
    seeds,
    texts,
    vocabulary,
)
from torch.nn import functional as F
from transformers import ElectraConfig, ElectraForPreTraining

from lib.objectives.choosing import choose_exact_count, choose_spans, geometric_lengths
from lib.objectives.replaced_tokens import electra_loss, replace_tokens, replaced_token_loss
from lib.objectives.span_boundaries import span_boundaries

few = settings(max_examples=15)


@few
@given(st.integers(1, 4), st.integers(2, 20), rates, seeds)
def test_a_token_is_replaced_if_another_one_was_drawn(batch, seq_len, rate, seed):
    ids = texts(batch, seq_len)
    chosen = choose_exact_count(ids, vocabulary(), rate=rate, generator=seeded(seed))
    logits = torch.randn(int(chosen.sum()), VOCAB_SIZE, generator=seeded(seed))
    inputs, replaced = replace_tokens(ids, chosen, logits, generator=seeded(seed))
    assert torch.equal(inputs[~chosen], ids[~chosen])
    assert torch.equal(replaced, inputs != ids) and not replaced[~chosen].any()
    again = replace_tokens(ids, chosen, logits, generator=seeded(seed))
    assert torch.equal(again.inputs, inputs)


def test_a_draw_of_the_original_counts_as_original():
    ids = texts(2, 6)
    chosen = torch.ones_like(ids, dtype=torch.bool)
    sure = 100 * F.one_hot(ids.flatten(), VOCAB_SIZE).float()
    inputs, replaced = replace_tokens(ids, chosen, sure, generator=seeded())
    assert torch.equal(inputs, ids) and not replaced.any()


def test_draws_follow_the_small_models_softmax():
    ids = texts(1, 8000)
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).expand(8000, 3)
    inputs = replace_tokens(ids, ids >= 0, logits, generator=seeded()).inputs
    counts = inputs.flatten().bincount(minlength=3).tolist()
    assert chi_square(counts, [0.5, 0.3, 0.2]) < chi_square_limit(3)


def test_the_loss_is_that_of_torch_and_of_hugging_face():
    torch.manual_seed(0)
    config = ElectraConfig(
        vocab_size=VOCAB_SIZE,
        embedding_size=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    model = ElectraForPreTraining(config).double().eval()
    ids, real = texts(3, 10), torch.arange(10) < torch.tensor([10, 4, 7])[:, None]
    replaced = torch.rand(3, 10, generator=seeded()) < 0.3
    with torch.no_grad():
        theirs = model(ids, attention_mask=real.long(), labels=replaced.long())
    ours = replaced_token_loss(theirs.logits, replaced, real)
    torch.testing.assert_close(ours, theirs.loss, check_dtype=False)
    everywhere = F.binary_cross_entropy_with_logits(theirs.logits, replaced.double())
    torch.testing.assert_close(replaced_token_loss(theirs.logits, replaced), everywhere)


def test_the_loss_does_not_overflow():
    logits, replaced = torch.tensor([[1000.0, -1000.0]]), torch.tensor([[True, False]])
    assert replaced_token_loss(logits, replaced).item() == 0
    assert replaced_token_loss(logits, ~replaced).item() == 1000


def test_the_two_losses_are_weighed():
    small, large = torch.tensor(3.0), torch.tensor(0.5)
    assert electra_loss(small, large).item() == 28
    assert electra_loss(small, large, detection_weight=2.0).item() == 4


# SpanBERT's boundaries.


def boundaries_by_walking(ids, chosen):
    """One token after the other: walk to both sides until one is not chosen."""
    found = []
    for row in range(len(ids)):
        for place in range(ids.shape[1]):
            if chosen[row, place]:
                left = right = place
                while chosen[row, left]:
                    left -= 1
                while chosen[row, right]:
                    right += 1
                found.append((row, left, right, place - left, int(ids[row, place])))
    return found


@few
@given(st.integers(1, 4), st.integers(3, 40), rates, seeds)
def test_boundaries_are_those_found_by_walking(batch, seq_len, rate, seed):
    ids = texts(batch, seq_len)
    ids[:, 0], ids[:, -1] = CLS, SEP
    chosen = choose_spans(
        ids, vocabulary(), lengths=geometric_lengths(), rate=rate, generator=seeded(seed)
    )
    found = torch.stack(span_boundaries(ids, chosen), dim=1)
    assert [tuple(row) for row in found.tolist()] == boundaries_by_walking(ids, chosen)


def test_boundaries_by_hand():
    ids = torch.tensor([[2, 10, 11, 12, 13, 3]])
    chosen = torch.tensor([[False, False, True, True, False, False]])
    found = span_boundaries(ids, chosen)
    assert found.left.tolist() == [1, 1] and found.right.tolist() == [4, 4]
    assert found.offset.tolist() == [1, 2] and found.labels.tolist() == [11, 12]


# Bad input.


@pytest.mark.parametrize("end", [0, -1])
def test_a_span_at_an_end_has_no_boundary(end):
    ids = texts(2, 5)
    chosen = torch.zeros_like(ids, dtype=torch.bool)
    chosen[1, end] = True
    with pytest.raises(ValueError, match="a span of sequence 1 has no token beside it"):
        span_boundaries(ids, chosen)


def test_as_many_logits_as_chosen_places():
    ids = texts(2, 5)
    with pytest.raises(ValueError, match="10 places are chosen, but there are 9 logits"):
        replace_tokens(ids, ids >= 0, torch.zeros(9, VOCAB_SIZE), generator=seeded())


def test_a_batch_of_padding_and_a_negative_weight():
    logits, nowhere = torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="no place holds a token"):
        replaced_token_loss(logits, nowhere, nowhere)
    with pytest.raises(ValueError, match=r"detection_weight must be a number, 0 or more, got -1.0"):
        electra_loss(torch.tensor(1.0), torch.tensor(1.0), detection_weight=-1.0)
