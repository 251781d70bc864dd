"""80/10/10 against its loop, against Hugging Face's collator, and in its statistics."""

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
    UNKNOWN,
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
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from lib.objectives.choosing import choose_exact_count, choose_tokens, choose_words
from lib.objectives.ids import IGNORE_INDEX
from lib.objectives.masked_lm import (
    MaskedLMCollator,
    epoch_generator,
    mask_tokens,
    mask_tokens_loop,
)

few = settings(max_examples=25)
shares = st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda pair: sum(pair) <= 1)


@pytest.fixture(scope="module")
def tokenizer():
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    names += [f"w{index}" for index in range(len(SPECIAL), VOCAB_SIZE)]
    model = WordLevel({name: index for index, name in enumerate(names)}, unk_token="[UNK]")
    roles = {"pad": PAD, "unk": UNKNOWN, "cls": CLS, "sep": SEP, "mask": MASK}
    special = {f"{role}_token": names[index] for role, index in roles.items()}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **special)


@few
@given(st.integers(1, 4), st.integers(3, 30), rates, shares, seeds)
def test_the_loop_does_the_same(batch, seq_len, rate, shares, seed):
    ids = padded_texts(batch, seq_len, seed % 1000)
    chosen = choose_tokens(ids, vocabulary(), rate=rate, generator=seeded(seed))
    options = {"mask_share": shares[0], "random_share": shares[1]}
    at_once = mask_tokens(ids, chosen, vocabulary(), **options, generator=seeded(seed))
    one_by_one = mask_tokens_loop(ids, chosen, vocabulary(), **options, generator=seeded(seed))
    assert torch.equal(at_once.inputs, one_by_one.inputs)
    assert torch.equal(at_once.labels, one_by_one.labels)


@few
@given(st.integers(1, 4), st.integers(3, 30), rates, seeds)
def test_labels_and_inputs_restore_the_text(batch, seq_len, rate, seed):
    ids = padded_texts(batch, seq_len, seed % 1000)
    before = ids.clone()
    collate = MaskedLMCollator(vocabulary(), partial(choose_tokens, rate=rate))
    inputs, labels = collate(ids, generator=seeded(seed))
    asked = labels != IGNORE_INDEX
    assert torch.equal(torch.where(asked, labels, inputs), ids)
    assert not asked[ids < len(SPECIAL)].any()
    assert torch.equal(ids, before)


def test_with_given_masks_and_one_action_hugging_face_gives_the_same(tokenizer):
    """What it takes for special is not chosen; at a probability of 1 everything else is."""
    ids = padded_texts(6, 40)
    chosen = choose_exact_count(ids, vocabulary(), generator=seeded())
    for mask_share in (0.0, 1.0):
        theirs = DataCollatorForLanguageModeling(
            tokenizer,
            mlm_probability=1.0,
            mask_replace_prob=mask_share,
            random_replace_prob=0.0,
        ).torch_mask_tokens(ids.clone(), special_tokens_mask=~chosen)
        ours = mask_tokens(
            ids, chosen, vocabulary(), mask_share=mask_share, random_share=0.0, generator=seeded()
        )
        assert torch.equal(ours.inputs, theirs[0]) and torch.equal(ours.labels, theirs[1])


def test_whole_words_are_those_of_hugging_face(tokenizer):
    """Given which words are drawn, its mask for tokens is ours: here all words, or none."""
    ids = texts(3, 20)
    words = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 5, 5, 6, 6, 6, 7, 8, 9, 9, 10, 11, 11]).expand(
        3, -1
    )
    chosen = choose_words(ids, vocabulary(), words, rate=0.4, generator=seeded(1))
    first = torch.ones_like(chosen)
    first[:, 1:] = words[:, 1:] != words[:, :-1]
    theirs = DataCollatorForLanguageModeling._whole_word_mask(words.numpy(), chosen & first)
    assert chosen.any() and not chosen.all()
    assert torch.equal(chosen, torch.from_numpy(theirs))


def shares_of(inputs, ids, labels):
    """How many are asked for; of those how many read [MASK], another word, themselves."""
    asked = labels != IGNORE_INDEX
    masked, kept = asked & (inputs == MASK), asked & (inputs == ids)
    return [int(mask.sum()) for mask in (asked, masked, asked & ~masked & ~kept, kept)]


def test_statistics_are_those_of_the_paper_and_of_hugging_face(tokenizer):
    ids = texts(400, 250)
    inputs, labels = MaskedLMCollator(vocabulary())(ids, generator=seeded())
    theirs = DataCollatorForLanguageModeling(tokenizer, seed=0)(list(ids))
    words = VOCAB_SIZE - len(SPECIAL)
    # A random word is the same word once in 55 times; Hugging Face draws from all 60 ids.
    for found, itself in (
        (shares_of(inputs, ids, labels), 1 / words),
        (shares_of(theirs["input_ids"], ids, theirs["labels"]), 1 / VOCAB_SIZE),
    ):
        asked, *actions = found
        assert z_score(asked, ids.numel(), 0.15) < 4
        masks_drawn = 0.1 / VOCAB_SIZE if itself == 1 / VOCAB_SIZE else 0.0
        expected = [0.8 + masks_drawn, 0.1 * (1 - itself) - masks_drawn, 0.1 + 0.1 * itself]
        assert chi_square(actions, expected) < chi_square_limit(3)


def test_random_words_are_all_words_equally_often_and_no_special_tokens():
    ids = texts(200, 200)
    chosen = torch.ones_like(ids, dtype=torch.bool)
    only_random = {"mask_share": 0.0, "random_share": 1.0}
    inputs = mask_tokens(ids, chosen, vocabulary(), **only_random, generator=seeded()).inputs
    counts = inputs.flatten().bincount(minlength=VOCAB_SIZE)
    assert not counts[: len(SPECIAL)].any()
    words = counts[len(SPECIAL) :].tolist()
    assert chi_square(words, [1 / len(words)] * len(words)) < chi_square_limit(len(words))


def test_what_is_together_has_one_fate():
    """SpanBERT: all of a span become [MASK], or words, or stay."""
    ids = texts(60, 40)
    chosen = torch.ones_like(ids, dtype=torch.bool)
    spans = torch.arange(40).div(4, rounding_mode="floor").expand_as(ids)
    drawn = mask_tokens(
        ids,
        chosen,
        vocabulary(),
        mask_share=0.5,
        random_share=0.0,
        generator=seeded(),
        together=spans,
    )
    fates = (drawn.inputs == MASK).view(60, 10, 4)
    assert (fates.all(dim=2) | ~fates.any(dim=2)).all()
    assert z_score(int(fates[..., 0].sum()), 600, 0.5) < 4
    # The first span of one sequence is not that of another.
    assert len(fates[:, 0, 0].unique()) == 2


def test_static_masks_come_again_and_dynamic_ones_do_not():
    ids, collate = texts(4, 60), MaskedLMCollator(vocabulary())

    def inputs(epoch, copies=None):
        return collate(ids, generator=epoch_generator(7, epoch, copies=copies)).inputs

    static = [inputs(epoch, copies=3) for epoch in range(6)]
    assert all(torch.equal(static[epoch], static[epoch + 3]) for epoch in range(3))
    different = [static[0], static[1], static[2], *(inputs(epoch) for epoch in range(3, 6))]
    assert not any(
        torch.equal(one, other) for i, one in enumerate(different) for other in different[:i]
    )
    assert torch.equal(inputs(5), inputs(5)) and torch.equal(inputs(2), static[2])


# Bad input.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_share": 1.1}, "mask_share must be a number from 0 to 1, got 1.1"),
        ({"random_share": -0.1}, "random_share must be a number from 0 to 1, got -0.1"),
        ({"random_share": 0.3}, r"mask_share \+ random_share must be a number from 0 to 1"),
    ],
)
def test_shares_are_probabilities(options, message):
    ids = texts(2, 8)
    with pytest.raises(ValueError, match=message):
        mask_tokens(ids, ids > 30, vocabulary(), **options, generator=seeded())


def test_masking_refuses_what_does_not_fit(import_unchecked):
    masked_lm = import_unchecked("lib.objectives.masked_lm")
    ids = texts(2, 8)
    with pytest.raises(ValueError, match=r"shape of ids, \(2, 8\), got \(2, 7\)"):
        masked_lm.mask_tokens(ids, ids[:, 1:] > 30, vocabulary(), generator=seeded())
    with pytest.raises(ValueError, match=r"ids run from 0 to 59 .* got 99"):
        masked_lm.mask_tokens(ids.fill_(99), ids > 30, vocabulary(), generator=seeded())


def test_epochs_and_copies_are_counted():
    with pytest.raises(ValueError, match="epochs are counted from 0, got -1"):
        epoch_generator(0, -1)
    with pytest.raises(ValueError, match=r"copies must be a positive whole number.*got 0"):
        epoch_generator(0, 1, copies=0)
