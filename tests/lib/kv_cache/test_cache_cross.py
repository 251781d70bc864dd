"""The keys and values of a source: written once, read at every step."""

import pytest
import torch
from torch.testing import assert_close

from lib.kv_cache import CrossAttentionCache
from tests.lib.kv_cache.decoding import SIZES, attention, projections, storages


def test_every_step_reads_the_same_tensors():
    q, _, _ = projections(5)
    _, k, v = projections(7, seed=1)
    cache = CrossAttentionCache(**SIZES)
    keys, values = cache.append(k, v)
    steps = []
    for step in range(5):
        read = cache.read()
        assert storages(read).keys() == storages((keys, values)).keys()
        steps.append(attention(q[..., step : step + 1, :], *read, cache.mask(1)))
    assert_close(torch.cat(steps, dim=-2), attention(q, k, v))
    assert cache.length == 7 and cache.mask(5) is None


def test_each_source_has_its_length():
    """Queries see no padding, and a source without tokens gives zeros."""
    q, _, _ = projections(3, batch=3)
    _, k, v = projections(6, seed=1, batch=3)
    lengths = [6, 2, 0]
    cache = CrossAttentionCache(**{**SIZES, "batch_size": 3}, source_lengths=lengths)
    found = attention(q, *cache.append(k, v), cache.mask(3))
    for row, length in enumerate(lengths[:2]):
        mine = attention(q[row : row + 1], *(x[row : row + 1, :, :length] for x in (k, v)))
        assert_close(found[row : row + 1], mine)
    assert (found[2] == 0).all()
    cache.select([1, 1, 0])
    again = attention(q[[1, 1, 0]], *cache.read(), cache.mask(3))
    assert_close(again, found[[1, 1, 0]])


def test_it_keeps_no_larger_tensor_alive():
    """Keys and values often come from one projection, and are halves of its result."""
    both = torch.zeros(2, 2, 7, 20, dtype=torch.float64)
    cache = CrossAttentionCache(**{**SIZES, "head_dim": 4, "value_dim": 6})
    cache.append(both[..., :4], both[..., 4:10])
    assert cache.nbytes == both.nbytes // 2
    both += 1
    assert (cache.read()[0] == 0).all()


def test_written_once():
    _, k, v = projections(7)
    cache = CrossAttentionCache(**SIZES)
    with pytest.raises(ValueError, match="nothing to read"):
        cache.read()
    cache.append(k, v)
    with pytest.raises(ValueError, match=r"written once and holds 7 tokens.*read\(\)"):
        cache.append(k, v)
    with pytest.raises(ValueError, match="not cut: it has 7 tokens, got 3"):
        cache.truncate(3)
    cache.reset()
    assert cache.nbytes == 0
    assert torch.equal(cache.append(k[..., :2, :], v[..., :2, :])[0], k[..., :2, :])


@pytest.mark.parametrize("lengths", [[1], [1, 2, 3], [8, 1], [-1, 2]])
def test_lengths_that_do_not_fit_the_source(lengths):
    _, k, v = projections(7)
    with pytest.raises(ValueError, match="source_lengths must be 2 numbers from 0 to 7") as error:
        CrossAttentionCache(**SIZES, source_lengths=lengths).append(k, v)
    assert str(lengths) in str(error.value)
