"""T5's spans: bit for bit what T5's own way gives, exact in their counts, and reversible."""

from math import comb

import numpy as np
import pytest
import t5_their_way
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from objective_cases import chi_square, chi_square_limit, seeded, seeds

from lib.objectives.span_corruption import (
    corrupt_spans,
    corrupt_spans_loop,
    longest_text,
    noise_counts,
    random_segmentation,
    random_spans_noise_mask,
    restore_spans,
    span_corruption,
    t5_sentinels,
)

few = settings(max_examples=40)
SENTINELS = t5_sentinels()
END = 1


def texts(rows, length, seed=0):
    return torch.randint(2, 32000, (rows, length), generator=seeded(seed))


@st.composite
def noises(draw):
    """A length, a density and a mean that leave enough text between the spans."""
    length = draw(st.integers(2, 90))
    density, mean = draw(st.floats(0.01, 0.99)), draw(st.floats(1, 8))
    hidden = min(max(round(length * density), 1), length - 1)
    assume(max(round(hidden / mean), 1) <= length - hidden)
    return length, {"density": density, "mean_span_length": mean}


def runs(mask):
    """How many runs of True each row has."""
    begins = mask.clone()
    begins[:, 1:] &= ~mask[:, :-1]
    return begins.sum(dim=1).tolist()


@few
@given(noises(), st.integers(1, 4), seeds)
def test_density_and_spans_are_exact_in_every_row(noise, rows, seed):
    length, sizes = noise
    mask = random_spans_noise_mask(rows, length, **sizes, generator=seeded(seed))
    counts = noise_counts(length, **sizes)
    assert counts.hidden == min(max(round(length * sizes["density"]), 1), length - 1)
    assert mask.sum(dim=1).tolist() == [counts.hidden] * rows
    assert runs(mask) == [counts.spans] * rows
    assert not mask[:, 0].any() and mask[:, -1].all()


@few
@given(noises(), seeds)
def test_counts_are_those_of_t5s_way(noise, seed):
    length, sizes = noise
    theirs = torch.from_numpy(
        t5_their_way.noise_mask(length, *sizes.values(), np.random.default_rng(seed))
    )[None]
    ours = random_spans_noise_mask(1, length, **sizes, generator=seeded(seed))
    assert runs(ours) == runs(theirs) and ours.sum() == theirs.sum()


@few
@given(noises(), st.integers(1, 4), seeds)
def test_given_the_same_masks_the_result_is_bit_for_bit_that_of_t5s_way(noise, rows, seed):
    length, sizes = noise
    rng = np.random.default_rng(seed)
    ids = texts(rows, length, seed % 1000)
    masks = np.stack([t5_their_way.noise_mask(length, *sizes.values(), rng) for _ in range(rows)])
    ours = corrupt_spans(ids, torch.from_numpy(masks), SENTINELS, end=END, final_sentinel=False)
    for mine, its in zip(ours, t5_their_way.corrupt(ids.numpy(), masks), strict=True):
        np.testing.assert_array_equal(mine.numpy(), its)


@few
@given(noises(), st.integers(1, 3), seeds, st.booleans(), st.sampled_from([END, None]))
def test_the_loop_does_the_same(noise, rows, seed, final_sentinel, end):
    length, sizes = noise
    ids = texts(rows, length, seed % 1000)
    mask = random_spans_noise_mask(rows, length, **sizes, generator=seeded(seed))
    options = {"end": end, "final_sentinel": final_sentinel}
    inputs, targets = corrupt_spans(ids, mask, SENTINELS, **options)
    for row in range(rows):
        one = corrupt_spans_loop(ids[row].tolist(), mask[row].tolist(), SENTINELS, **options)
        assert one == (inputs[row].tolist(), targets[row].tolist())


@few
@given(
    st.lists(st.booleans(), min_size=1, max_size=30), st.booleans(), st.sampled_from([END, None])
)
def test_input_and_target_restore_the_text_whatever_the_mask(hidden, final_sentinel, end):
    """Also masks that begin with a span, hide nothing, or hide all."""
    text = texts(1, len(hidden))[0].tolist()
    options = {"end": end, "final_sentinel": final_sentinel}
    inputs, targets = corrupt_spans_loop(text, hidden, SENTINELS, **options)
    at_once = corrupt_spans(torch.tensor([text]), torch.tensor([hidden]), SENTINELS, **options)
    assert (at_once[0][0].tolist(), at_once[1][0].tolist()) == (inputs, targets)
    assert restore_spans(inputs, targets, SENTINELS, end=end) == text
    used = [token for token in inputs if token in SENTINELS]
    assert used == SENTINELS[: len(used)]
    assert [t for t in targets if t in SENTINELS] == SENTINELS[: len(used) + final_sentinel]


def test_the_papers_example():
    words = ["thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week"]
    hidden = [word in ("for", "inviting", "last") for word in words]
    x, y, z = 100, 101, 102
    inputs, targets = corrupt_spans_loop(list(range(10)), hidden, [x, y, z])
    assert inputs == [0, 1, x, 4, 5, 6, 7, y, 9]
    assert targets == [x, 2, 3, y, 8, z]


@few
@given(noises(), seeds)
def test_a_whole_batch(noise, seed):
    length, sizes = noise
    ids, counts = texts(3, length, seed % 1000), noise_counts(length, **sizes)
    batch = span_corruption(ids, SENTINELS, end=END, start=0, **sizes, generator=seeded(seed))
    again = span_corruption(ids, SENTINELS, end=END, start=0, **sizes, generator=seeded(seed))
    assert batch.inputs.shape == (3, counts.input_len())
    assert batch.targets.shape == (3, counts.target_len())
    for row in range(3):
        inputs, targets = batch.inputs[row].tolist(), batch.targets[row].tolist()
        assert restore_spans(inputs, targets, SENTINELS, end=END) == ids[row].tolist()
        assert batch.decoder_inputs[row].tolist() == [0, *targets[:-1]]
    assert all(torch.equal(mine, its) for mine, its in zip(batch, again, strict=True))


def test_the_seed_decides():
    draws = [random_spans_noise_mask(4, 60, generator=seeded(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


@few
@given(st.integers(1, 4), st.integers(1, 40), st.data(), seeds)
def test_segments_add_up(rows, items, data, seed):
    segments = data.draw(st.integers(1, items))
    lengths = random_segmentation(rows, items, segments, generator=seeded(seed))
    assert lengths.shape == (rows, segments) and bool((lengths >= 1).all())
    assert lengths.sum(dim=1).tolist() == [items] * rows


def test_all_segmentations_are_equally_likely_as_in_t5s_way():
    """7 items in 3 segments: 15 ways to cut them."""
    rng, ways, draws = np.random.default_rng(0), comb(6, 2), 6000
    ours = random_segmentation(draws, 7, 3, generator=seeded())
    theirs = torch.tensor(np.stack([t5_their_way.segmentation(7, 3, rng) for _ in range(draws)]))
    for lengths in (ours, theirs):
        counts = lengths.unique(dim=0, return_counts=True)[1].tolist()
        assert len(counts) == ways
        assert chi_square(counts, [1 / ways] * ways) < chi_square_limit(ways)


def test_span_lengths_are_distributed_as_in_t5s_way():
    """85 tokens in 28 spans: a length of l has the probability C(84 - l, 26) / C(84, 27)."""
    mask = random_spans_noise_mask(400, 568, generator=seeded())
    edges = torch.nn.functional.pad(mask.long(), (1, 1)).diff().nonzero()[:, 1].view(-1, 2)
    counts = (edges[:, 1] - edges[:, 0]).clamp(max=12).bincount(minlength=13)[1:].tolist()
    exact = [comb(84 - length, 26) / comb(84, 27) for length in range(1, 12)]
    cells = [*exact, 1 - sum(exact)]
    assert chi_square(counts, cells) < chi_square_limit(12)


@pytest.mark.parametrize(
    ("input_len", "text", "target"), [(512, 568, 114), (1024, 1137, 229), (128, 141, 29)]
)
def test_lengths_of_t5(input_len, text, target):
    """The first is in every T5 script: 568 tokens of text, 512 to read and 114 to write."""
    assert longest_text(input_len) == text
    counts = noise_counts(text)
    assert counts.input_len() <= input_len
    assert counts.target_len(final_sentinel=False) == target


@few
@given(st.integers(3, 200), st.floats(0.05, 0.5), st.floats(2, 6))
def test_the_longest_text_fits_and_one_more_does_not(input_len, density, mean):
    sizes = {"density": density, "mean_span_length": mean}
    length = longest_text(input_len, **sizes)
    assert noise_counts(length, **sizes).input_len() <= input_len
    assert noise_counts(length + 1, **sizes).input_len() > input_len


def test_sentinels_count_down_from_the_end_of_the_vocabulary():
    assert t5_sentinels()[:2] == [32099, 32098] and len(t5_sentinels()) == 100
    assert t5_sentinels(10, 3) == [9, 8, 7]


# Bad input.


@pytest.mark.parametrize("final_sentinel", [True, False])
def test_more_spans_than_sentinels(final_sentinel):
    ids, hidden = texts(1, 6), torch.tensor([[False, True, False, True, False, True]])
    needed = 3 + final_sentinel
    options = {"final_sentinel": final_sentinel}
    with pytest.raises(ValueError, match=rf"needs {needed} sentinels.*only {needed - 1}"):
        corrupt_spans(ids, hidden, SENTINELS[: needed - 1], **options)
    with pytest.raises(ValueError, match=r"sentinels.*there are only"):
        corrupt_spans_loop(ids[0].tolist(), hidden[0].tolist(), SENTINELS[: needed - 1], **options)
    corrupt_spans(ids, hidden, SENTINELS[:needed], **options)


@pytest.mark.parametrize(
    ("length", "sizes", "message"),
    [
        (20, {"density": 0.0}, "density must be a number between 0 and 1, neither, got 0.0"),
        (20, {"density": 1.0}, "density must be a number between 0 and 1, neither, got 1.0"),
        (20, {"mean_span_length": 0.5}, "a span has at least one token, got a mean of 0.5"),
        (20, {"mean_span_length": -1.0}, "mean_span_length must be a number above zero"),
        (1, {}, "a text needs 2 tokens, one to hide and one to keep, got 1"),
        (0, {}, "length must be a positive whole number.*got 0"),
        (10, {"density": 0.9, "mean_span_length": 1.0}, "9 spans need.*of 10 tokens only 1 stay"),
    ],
)
def test_noise_that_cannot_be(length, sizes, message):
    with pytest.raises(ValueError, match=message):
        noise_counts(length, **sizes)
    with pytest.raises(ValueError, match=message):
        random_spans_noise_mask(2, length, **sizes, generator=seeded())


def test_an_empty_text():
    with pytest.raises(ValueError, match=r"length must be a positive whole number.*got 0"):
        span_corruption(texts(2, 0), SENTINELS, end=END, start=0, generator=seeded())
    with pytest.raises(ValueError, match="hidden must say of each token"):
        corrupt_spans_loop([], [], SENTINELS)


def test_more_segments_than_items():
    with pytest.raises(ValueError, match="3 items cannot be cut into 4 segments"):
        random_segmentation(1, 3, 4, generator=seeded())


def test_an_input_too_short_for_any_text():
    with pytest.raises(ValueError, match="no text fits into an input of 2 tokens"):
        longest_text(2)


def test_sentinels_that_are_in_the_text_or_twice():
    ids, hidden = torch.tensor([[5, 99, 6]]), torch.tensor([[False, True, False]])
    with pytest.raises(ValueError, match="the text holds sentinel 99 itself"):
        corrupt_spans(ids, hidden, [99, 98])
    with pytest.raises(ValueError, match="two sentinels are the same"):
        corrupt_spans(ids, hidden, [97, 97])


def test_rows_that_differ_and_masks_that_do_not_fit(import_unchecked):
    ids = texts(2, 4)
    spans = torch.tensor([[True, False, True, False], [True, True, False, False]])
    with pytest.raises(ValueError, match=r"equally many spans, got \[2, 1\]"):
        corrupt_spans(ids, spans, SENTINELS)
    tokens = torch.tensor([[True, True, False, False], [True, False, False, False]])
    with pytest.raises(ValueError, match=r"equally many hidden tokens, got \[2, 1\]"):
        corrupt_spans(ids, tokens, SENTINELS)
    unchecked = import_unchecked("lib.objectives.span_corruption")
    with pytest.raises(ValueError, match=r"got \(2, 3\) for tokens of \(2, 4\)"):
        unchecked.corrupt_spans(ids, spans[:, 1:], SENTINELS)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        ([5, 99], [7, 99], "the target must begin with a sentinel, got 7"),
        ([5, 99], [99, 7, 99, 8], "names sentinel 99 twice"),
        ([5, 98], [99, 7], "does not say what sentinel 98 stands for"),
    ],
)
def test_a_target_that_does_not_belong_to_its_input(inputs, targets, message):
    with pytest.raises(ValueError, match=message):
        restore_spans(inputs, targets, [99, 98], end=None)


def test_more_sentinels_than_ids():
    with pytest.raises(ValueError, match="a vocabulary of 5 has no room for 6 sentinels"):
        t5_sentinels(5, 6)
