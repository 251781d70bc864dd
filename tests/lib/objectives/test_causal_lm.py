"""The shift, packing, and what keeps packed documents apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from lib.objectives.causal_lm import (
    first_fit_decreasing,
    next_tokens,
    pack_documents,
    positions_in_documents,
)
from lib.objectives.ids import IGNORE_INDEX
from lib.objectives.teacher_forcing import shift_right

few = settings(max_examples=40)
END = 0
documents = st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=9), min_size=1, max_size=6)


def test_the_shift_by_hand():
    inputs, labels = next_tokens(torch.tensor([[5, 6, 7, 8]]))
    assert inputs.tolist() == [[5, 6, 7]] and labels.tolist() == [[6, 7, 8]]


def test_the_loss_is_that_of_hugging_face_which_shifts_by_itself():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=51, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    )
    model.eval()
    ids = torch.randint(51, (3, 9))
    inputs, labels = next_tokens(ids)
    with torch.no_grad():
        ours = torch.nn.functional.cross_entropy(model(inputs).logits.mT, labels)
        theirs = model(ids, labels=ids).loss
    torch.testing.assert_close(ours, theirs)


@few
@given(documents, st.integers(1, 12), st.booleans())
def test_packing_restores_the_documents(texts, seq_len, across):
    batch = pack_documents(texts, seq_len, end=END, across=across)
    stream = [token for text in texts for token in (*text, END)]
    rows = -(-(len(stream) - 1) // seq_len)
    assert batch.inputs.shape == (rows, seq_len)
    read = batch.inputs.flatten().tolist()
    assert read[: len(stream) - 1] == stream[:-1] and set(read[len(stream) - 1 :]) <= {END}
    for number, text in enumerate(texts):
        mine = batch.inputs[batch.document_ids == number].tolist()
        # The very last end is a label only, unless the last row has room for it.
        whole = number < len(texts) - 1 or batch.inputs.numel() >= len(stream)
        assert mine == ([*text, END] if whole else text)


@few
@given(documents, st.integers(1, 12))
def test_every_token_is_a_label_once(texts, seq_len):
    stream = [token for text in texts for token in (*text, END)]
    labels = pack_documents(texts, seq_len, end=END, across=True).labels
    assert labels[labels != IGNORE_INDEX].tolist() == stream[1:]
    apart = pack_documents(texts, seq_len, end=END).labels
    expected = [token for text in texts for token in (*text[1:], END)]
    assert apart[apart != IGNORE_INDEX].tolist() == expected


@few
@given(documents, st.integers(1, 12))
def test_the_mask_shows_the_past_of_the_own_document_and_no_more(texts, seq_len):
    batch = pack_documents(texts, seq_len, end=END)
    mask = batch.mask()
    assert mask.shape == (len(batch.inputs), 1, seq_len, seq_len)
    for row, ids in enumerate(batch.document_ids.tolist()):
        for query in range(seq_len):
            for key in range(seq_len):
                seen = key <= query and ids[key] == ids[query]
                assert bool(mask[row, 0, query, key]) == seen


@few
@given(documents, st.integers(1, 12))
def test_positions_count_how_many_of_the_own_document_are_seen(texts, seq_len):
    batch = pack_documents(texts, seq_len, end=END)
    assert torch.equal(batch.positions, batch.mask()[:, 0].sum(dim=2) - 1)


def test_packed_documents_are_predicted_as_each_is_alone():
    """With the mask and the positions, a model gives each document the logits it gives it alone."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=51, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config).double().eval()
    batch = pack_documents([[3, 4, 5], [6, 7], [8, 9, 10, 11]], 12, end=END)
    with torch.no_grad():
        mask = torch.zeros(batch.mask().shape).double().masked_fill(~batch.mask(), float("-inf"))
        packed = model(batch.inputs, attention_mask=mask, position_ids=batch.positions).logits
        alone = model(torch.tensor([[6, 7, END]])).logits
    torch.testing.assert_close(packed[:, 4:7], alone)


def test_positions_by_hand():
    ids = torch.tensor([[0, 0, 1, 1, 1, 2], [2, 2, 2, 3, 4, 4]])
    expected = [[0, 1, 0, 1, 2, 0], [0, 1, 2, 0, 0, 1]]
    assert positions_in_documents(ids).tolist() == expected


@few
@given(st.lists(st.integers(1, 10), min_size=1, max_size=12), st.integers(10, 20))
def test_first_fit_puts_each_document_into_one_row_that_has_room(lengths, capacity):
    rows = first_fit_decreasing(lengths, capacity)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= capacity for row in rows)
    # At most one row is half empty: two would have been one.
    used = [sum(lengths[index] for index in row) for row in rows]
    assert sum(tokens <= capacity / 2 for tokens in used) <= 1


def test_first_fit_by_hand():
    assert first_fit_decreasing([4, 8, 1, 4, 2, 1], 10) == [[1, 4], [0, 3, 2, 5]]


@few
@given(st.lists(st.lists(st.integers(0, 50), min_size=5, max_size=5), min_size=1, max_size=4))
def test_the_decoder_reads_what_it_should_have_written_as_in_hugging_face(rows):
    config = T5Config(vocab_size=51, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    config.decoder_start_token_id, config.pad_token_id = 3, 2
    targets = torch.tensor(rows)
    targets[:, -2] = IGNORE_INDEX
    theirs = T5ForConditionalGeneration._shift_right(WithConfig(config), targets)
    assert torch.equal(shift_right(targets, start=3, pad=2), theirs)


class WithConfig:
    """All that Hugging Face's shift reads of its model."""

    def __init__(self, config):
        self.config = config


# Bad input.


def test_what_is_too_short_is_refused():
    with pytest.raises(ValueError, match="needs 2 tokens for one to come next, got 1"):
        next_tokens(torch.tensor([[5]]))
    with pytest.raises(ValueError, match="a target needs at least one token"):
        shift_right(torch.zeros(2, 0, dtype=torch.long), start=0)


@pytest.mark.parametrize(
    ("texts", "seq_len", "message"),
    [
        ([], 4, "there are no documents to pack"),
        ([[1], []], 4, "document 1 is empty or holds the end, 0"),
        ([[1, 0, 2]], 4, "document 0 is empty or holds the end, 0"),
        ([[1]], 0, "seq_len must be a positive whole number.*got 0"),
    ],
)
def test_documents_that_cannot_be_packed(texts, seq_len, message):
    with pytest.raises(ValueError, match=message):
        pack_documents(texts, seq_len, end=END)


def test_documents_that_do_not_fit_a_row():
    with pytest.raises(ValueError, match="document 1 has 12 tokens, a row 10"):
        first_fit_decreasing([3, 12], 10)
    with pytest.raises(ValueError, match=r"length must be a positive whole number.*got 0"):
        first_fit_decreasing([3, 0], 10)
