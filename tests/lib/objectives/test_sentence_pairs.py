"""Pairs of sentences: what is paired, with which label, and how BERT reads it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_cases import CLS, MASK, PAD, SEP, SPECIAL, VOCAB_SIZE, seeded, seeds, z_score
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.processors import BertProcessing

from lib.objectives.sentence_pairs import (
    SentencePair,
    next_sentence_pairs,
    pair_batch,
    sentence_order_pairs,
)

few = settings(max_examples=15)
sentences = st.lists(st.integers(len(SPECIAL), VOCAB_SIZE - 1), min_size=1, max_size=8)


def numbered_documents(sizes):
    """Sentences of one token that names document and sentence: 100 document + sentence."""
    return [[[100 * d + s] for s in range(size)] for d, size in enumerate(sizes)]


@few
@given(st.lists(st.integers(1, 5), min_size=2, max_size=5).filter(lambda s: max(s) > 1), seeds)
def test_the_second_is_the_next_or_of_another_document(sizes, seed):
    documents = numbered_documents(sizes)
    pairs = next_sentence_pairs(documents, generator=seeded(seed))
    assert len(pairs) == sum(size - 1 for size in sizes)
    for first, second, label in pairs:
        if label == 0:
            assert second[0] == first[0] + 1
        else:
            assert second[0] // 100 != first[0] // 100
    assert pairs == next_sentence_pairs(documents, generator=seeded(seed))


@few
@given(st.lists(st.integers(2, 5), min_size=1, max_size=5), seeds)
def test_both_stand_in_one_document_in_order_or_swapped(sizes, seed):
    pairs = sentence_order_pairs(numbered_documents(sizes), generator=seeded(seed))
    assert len(pairs) == sum(size - 1 for size in sizes)
    for first, second, label in pairs:
        assert second[0] - first[0] == (-1 if label else 1)


def test_half_of_the_pairs_are_wrong():
    documents = numbered_documents([50] * 20)
    for make in (next_sentence_pairs, sentence_order_pairs):
        labels = [pair.label for pair in make(documents, generator=seeded())]
        assert z_score(sum(labels), len(labels), 0.5) < 4


def test_random_sentences_come_from_all_other_documents():
    pairs = next_sentence_pairs(numbered_documents([2000, 1, 3]), generator=seeded())
    others = [pair.second[0] for pair in pairs if pair.label and pair.first[0] < 2000]
    assert {100, 200, 201, 202} <= set(others)


@few
@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=4), st.integers(5, 20))
def test_pairs_are_laid_out_as_the_tokenizers_library_does(pairs, max_len):
    rows = [SentencePair(first, second, 0) for first, second in pairs]
    batch = pair_batch(rows, cls=CLS, sep=SEP, pad=PAD, max_len=max_len)
    names = {f"t{index}": index for index in range(VOCAB_SIZE)}
    tokenizer = Tokenizer(WordLevel(names, unk_token="t1"))
    tokenizer.post_processor = BertProcessing((f"t{SEP}", SEP), (f"t{CLS}", CLS))
    for row, (first, second) in enumerate(pairs):
        if len(first) + len(second) + 3 <= max_len:
            texts = [[f"t{token}" for token in sentence] for sentence in (first, second)]
            theirs = tokenizer.encode(*texts, is_pretokenized=True)
            length = int(batch.lengths[row])
            assert batch.ids[row, :length].tolist() == theirs.ids
            assert batch.segments[row, :length].tolist() == theirs.type_ids
        assert batch.lengths[row] == min(len(first) + len(second) + 3, max_len)
        assert (batch.ids[row, batch.lengths[row] :] == PAD).all()


def test_a_long_pair_loses_the_end_of_its_longer_sentence():
    pair = SentencePair(list(range(10, 20)), [30, 31, 32], 1)
    batch = pair_batch([pair], cls=CLS, sep=SEP, pad=PAD, max_len=9)
    assert batch.ids.tolist() == [[CLS, 10, 11, 12, SEP, 30, 31, 32, SEP]]
    assert batch.segments.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1]]
    assert batch.labels.tolist() == [1]
    even = SentencePair([10] * 6, [30] * 6, 0)
    ids = pair_batch([even], cls=CLS, sep=SEP, pad=PAD, max_len=10).ids
    assert torch.equal(ids, torch.tensor([[CLS, 10, 10, 10, 10, SEP, 30, 30, 30, SEP]]))


# Bad input.


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([[[1], [2]]], "a random sentence needs a second document, got 1"),
        ([[[1], [2]], []], "document 1 is empty or holds an empty sentence"),
        ([[[1], []], [[2]]], "document 0 is empty or holds an empty sentence"),
        ([[[1]], [[2]]], "no document has two sentences"),
    ],
)
def test_documents_without_pairs(documents, message):
    with pytest.raises(ValueError, match=message):
        next_sentence_pairs(documents, generator=seeded())


def test_one_document_is_enough_for_the_order_but_one_sentence_is_not():
    assert len(sentence_order_pairs([[[1], [2]]], generator=seeded())) == 1
    with pytest.raises(ValueError, match="no document has two sentences"):
        sentence_order_pairs([[[1]]], generator=seeded())


@pytest.mark.parametrize(("count", "max_len"), [(0, 10), (1, 4)])
def test_batches_without_pairs_or_room(count, max_len):
    with pytest.raises(ValueError, match=f"got {count} pairs and a max_len of {max_len}"):
        pair_batch(
            [SentencePair([MASK], [MASK], 0)] * count, cls=CLS, sep=SEP, pad=PAD, max_len=max_len
        )
