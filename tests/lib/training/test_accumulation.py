"""The gradient of parts is that of the whole, however unequally they count."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lib.training import accumulate_gradients, split_batch

IGNORED = -100


class Texts(NamedTuple):
    ids: torch.Tensor
    targets: torch.Tensor


@dataclass
class Record:
    ids: torch.Tensor
    targets: torch.Tensor
    name: str = "text"


def loss(model, batch):
    return F.cross_entropy(model(batch.ids).mT, batch.targets, ignore_index=IGNORED)


def count(batch):
    return int((batch.targets != IGNORED).sum())


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 9)).double()


def texts(rows, seed, counted=0.5):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(9, (rows, 7), generator=generator)
    hidden = torch.rand(rows, 7, generator=generator) > counted * torch.rand(
        rows, 1, generator=generator
    )
    targets = ids.roll(-1, 1).masked_fill(hidden, IGNORED)
    targets[0, 0] = 3
    return Texts(ids, targets)


def gradients(parts, *options, **scale):
    trained = model()
    value = accumulate_gradients(trained, parts, loss, *options, **scale)
    return value, [each.grad for each in trained.parameters()]


@given(st.integers(1, 12), st.integers(0, 999), st.data())
def test_parts_add_up_to_the_whole_batch(rows, seed, data):
    batch = texts(rows, seed)
    parts = split_batch(batch, data.draw(st.integers(1, rows)))
    value, accumulated = gradients(parts, count)
    whole, at_once = gradients([batch])
    torch.testing.assert_close(value, whole)
    torch.testing.assert_close(accumulated, at_once)


def test_the_mean_of_means_is_another_gradient():
    """The classic bug: parts of 40 and of 2 counted tokens weigh the same."""
    batch = texts(12, 0, counted=1.0)
    batch.targets[6:] = IGNORED
    batch.targets[6, :2] = 1
    parts = split_batch(batch, 2)
    counts = [count(part) for part in parts]
    assert counts[0] > 5 * counts[1] == 10
    _, right = gradients(parts, count)
    _, whole = gradients([batch])
    _, wrong = gradients(parts, lambda part: 1)
    torch.testing.assert_close(right, whole)
    off = (wrong[0] - whole[0]).norm() / whole[0].norm()
    assert off > 0.3


def test_parts_that_count_nothing_are_left_out():
    batch = texts(4, 1)
    batch.targets[2:] = IGNORED
    value, accumulated = gradients(split_batch(batch, 2), count)
    whole, at_once = gradients([batch])
    assert value.isfinite()
    torch.testing.assert_close(accumulated, at_once)
    torch.testing.assert_close(value, whole)


def test_the_scale_is_the_gradients_alone():
    batch = texts(4, 2)
    value, plain = gradients(split_batch(batch, 2), count)
    same, scaled = gradients(split_batch(batch, 2), count, scale=8.0)
    torch.testing.assert_close(value, same)
    torch.testing.assert_close(scaled, [8 * each for each in plain])


def test_what_cannot_be_a_mean():
    parts = split_batch(texts(4, 3), 2)
    with pytest.raises(ValueError, match=r"a mean over 2 parts .* give count"):
        gradients(parts)
    with pytest.raises(ValueError, match=r"at least one term together, got \[0, 0\]"):
        gradients(parts, lambda part: 0)


@given(st.integers(1, 20), st.data())
def test_rows_keep_their_order_and_parts_their_size(rows, data):
    parts = data.draw(st.integers(1, rows))
    split = split_batch(torch.arange(rows), parts)
    assert torch.equal(torch.cat(split), torch.arange(rows))
    sizes = [len(part) for part in split]
    assert len(sizes) == parts and max(sizes) - min(sizes) <= 1


def test_batches_of_every_kind():
    ids, targets = torch.arange(8).view(4, 2), torch.arange(4)
    for part in split_batch(Texts(ids, targets), 2):
        assert isinstance(part, Texts) and part.ids.shape == (2, 2) and part.targets.shape == (2,)
    nested = {"ids": ids, "more": (targets, None, 7)}
    second = split_batch(nested, 2)[1]
    assert torch.equal(second["ids"], ids[2:]) and torch.equal(second["more"][0], targets[2:])
    assert second["more"][1:] == (None, 7)
    assert torch.equal(split_batch(Record(ids, targets), 4)[3].targets, targets[3:])
    assert split_batch(Record(ids, targets), 4)[3].name == "text"
    assert split_batch(ids, 2)[0].data_ptr() == ids.data_ptr()


@pytest.mark.parametrize(
    ("batch", "parts", "message"),
    [
        (torch.zeros(3, 2), 4, "a batch of 3 rows cannot be split into 4 parts"),
        ((torch.zeros(3), torch.zeros(4)), 2, r"same number of rows, got \[3, 4\]"),
        ((torch.zeros(3), torch.zeros(())), 2, r"same number of rows, got \[3, 0\]"),
        ({"name": "none"}, 2, r"same number of rows, got \[\]"),
        (torch.zeros(3), 0, "num_parts must be a positive whole number"),
    ],
)
def test_batches_that_cannot_be_split(batch, parts, message):
    with pytest.raises(ValueError, match=message):
        split_batch(batch, parts)
