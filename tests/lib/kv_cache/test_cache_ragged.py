"""Batches of different lengths: each sequence gives what it gives alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lib.kv_cache import Int8Cache, RaggedCache, dequantise_int8, quantise_int8
from tests.lib.kv_cache.decoding import (
    SIZES,
    attention,
    causal_attention,
    paged,
    projections,
)

BATCH, LONG = 3, 24
KINDS = {
    "ragged": RaggedCache,
    "paged by 1": lambda **sizes: paged(block_size=1, **sizes),
    "paged by 4": lambda **sizes: paged(block_size=4, **sizes),
    "8 bits": lambda **sizes: Int8Cache(policy=RaggedCache, scale_dtype=torch.float64, **sizes),
}

kinds = pytest.mark.parametrize("kind", KINDS)
per_row = st.lists(st.integers(0, 4), min_size=BATCH, max_size=BATCH)


class Batch:
    """Three long sequences, how far each of them has come, and what attention gives it alone."""

    def __init__(self, kind):
        sizes = {**SIZES, "batch_size": BATCH}
        self.cache = KINDS[kind](capacity=LONG + 8, **sizes)
        q, *stored = projections(LONG, batch=BATCH)
        if kind == "8 bits":
            # What is already rounded, 8 bits hold without loss.
            stored = [dequantise_int8(*quantise_int8(x, x.dtype), x.dtype) for x in stored]
        self.streams = [q, *stored]
        self.expected = causal_attention(*self.streams)
        self.at, self.noise = [0] * BATCH, 0

    def block(self, real, size, before):
        """Of each sequence the next `real[row]` tokens; the rest of the block is large noise."""
        self.noise += 1
        blocks = [1e3 * x for x in projections(size, batch=len(real), seed=self.noise)]
        for block, stream in zip(blocks, self.streams, strict=True):
            for row, count in enumerate(real):
                tokens = stream[row, :, self.at[row] : self.at[row] + count]
                where = slice(size - count, size) if before else slice(0, count)
                block[row, :, where] = tokens
        return blocks

    def check(self, outputs, real, before):
        size = outputs.shape[-2]
        for row, count in enumerate(real):
            where = slice(size - count, size) if before else slice(0, count)
            mine = self.expected[row, :, self.at[row] : self.at[row] + count]
            assert_close(outputs[row, :, where], mine)
            self.at[row] += count

    def attend(self, block):
        q, k, v = block
        return attention(q, *self.cache.append(k, v), self.cache.mask(q.shape[-2]))

    def padding_behind(self, real, size):
        """Also drafts of which `real` are accepted, and sequences that are finished: 0 of them."""
        outputs = self.attend(self.block(real, size, before=False))
        self.cache.truncate([at + count for at, count in zip(self.at, real, strict=True)])
        self.check(outputs, real, before=False)

    def padding_before(self, real, size, pieces):
        """The block may come in pieces, as chunked prefill has it."""
        self.cache.skip([size - count for count in real])
        block, outputs = self.block(real, size, before=True), []
        for start in range(0, size, pieces):
            outputs.append(self.attend([x[:, :, start : start + pieces] for x in block]))
        outputs = torch.cat(outputs, dim=-2)
        for row, count in enumerate(real):
            assert (outputs[row, :, : size - count] == 0).all() or self.at[row]
        self.check(outputs, real, before=True)

    def select(self, rows):
        self.cache.select(rows)
        self.streams = [x[rows] for x in self.streams]
        self.expected, self.at = self.expected[rows], [self.at[row] for row in rows]


@kinds
@settings(max_examples=60)
@given(data=st.data())
def test_each_sequence_as_if_alone(kind, data):
    batch = Batch(kind)
    for _ in range(data.draw(st.integers(1, 4))):
        real = data.draw(per_row)
        size = max(1, *real) + data.draw(st.integers(0, 2))
        if data.draw(st.booleans()):
            batch.padding_behind(real, size)
        else:
            batch.padding_before(real, size, pieces=data.draw(st.integers(1, size)))
        assert batch.cache.lengths.tolist() == batch.at
        assert batch.cache.length == max(batch.at)


@kinds
@settings(max_examples=30)
@given(data=st.data())
def test_sequences_leave_the_batch_and_others_take_their_place(kind, data):
    batch = Batch(kind)
    batch.padding_behind(data.draw(per_row), 4)
    rows = data.draw(st.lists(st.integers(0, BATCH - 1), min_size=BATCH, max_size=BATCH))
    batch.select(rows)
    batch.padding_before(data.draw(per_row), 5, pieces=2)
    batch.padding_behind(data.draw(per_row), 4)
    assert batch.cache.lengths.tolist() == batch.at


@kinds
def test_a_batch_that_shrinks(kind):
    batch = Batch(kind)
    batch.padding_behind([2, 4, 3], 4)
    batch.select([2, 0])
    batch.padding_behind([1, 1], 1)
    batch.select([1])
    batch.padding_behind([3], 3)
    assert batch.cache.lengths.tolist() == [6]
    assert batch.cache.mask(1) is None


@kinds
def test_what_the_mask_shows(kind):
    cache = Batch(kind).cache
    _, k, v = projections(3, batch=BATCH)
    cache.append(k, v)
    cache.truncate([3, 1, 2])
    cache.append(k[:, :, :2], v[:, :, :2])
    seen = cache.mask(2)[:, 0].int().tolist()
    assert seen[0] == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert seen[1] == [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]
    assert seen[2] == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]


@kinds
def test_positions_of_tokens_behind_padding(kind):
    cache = Batch(kind).cache
    cache.skip([0, 2, 3])
    assert cache.next_positions(5).tolist() == [[0, 1, 2, 3, 4], [0, 0, 0, 1, 2], [0, 0, 0, 0, 1]]
    cache.append(*projections(5, batch=BATCH)[1:])
    assert cache.lengths.tolist() == [5, 3, 2]
    assert cache.next_positions(2).tolist() == [[5, 6], [3, 4], [2, 3]]


@kinds
def test_one_number_cuts_all_to_that_length(kind):
    cache = Batch(kind).cache
    cache.skip([0, 2, 3])
    cache.append(*projections(5, batch=BATCH)[1:])
    cache.truncate(3)
    assert cache.lengths.tolist() == [3, 3, 2]


@kinds
def test_padding_that_is_still_to_come_is_forgotten_by_reset(kind):
    batch = Batch(kind)
    batch.cache.skip([9, 9, 9])
    batch.cache.reset()
    batch.padding_behind([1, 2, 3], 3)


@kinds
@pytest.mark.parametrize("given", [[1, 2], [1, 2, 3, 4], [-1, 0, 0], [1.5, 0, 0], [True, 0, 0]])
def test_numbers_that_are_not_one_a_row(import_unchecked, kind, given):
    kv_cache = import_unchecked("lib.kv_cache")
    sizes = {"num_key_value_heads": 1, "head_dim": 2}
    if kind == "ragged":
        cache = kv_cache.RaggedCache(batch_size=BATCH, capacity=4, **sizes)
    elif kind == "8 bits":
        policy = kv_cache.RaggedCache
        cache = kv_cache.Int8Cache(policy=policy, batch_size=BATCH, capacity=4, **sizes)
    else:
        pool = kv_cache.BlockPool(num_blocks=BATCH, block_size=4, **sizes)
        cache = kv_cache.PagedCache(pool=pool, batch_size=BATCH)
    with pytest.raises(ValueError, match="padding must be 3 whole numbers, 0 or more, got"):
        cache.skip(given)
    cache.append(torch.ones(3, 1, 3, 2), torch.ones(3, 1, 3, 2))
    with pytest.raises(ValueError, match=r"lengths must be 3 whole numbers.*at most \[3, 3, 3\]"):
        cache.truncate(given)
    with pytest.raises(ValueError, match=r"at most \[3, 3, 3\], got \[3, 4, 0\]"):
        cache.truncate(torch.tensor([3, 4, 0]))
    assert cache.lengths.tolist() == [3, 3, 3]
