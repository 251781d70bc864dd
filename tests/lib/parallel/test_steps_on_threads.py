"""Every way of dividing a step equals the step of one process, on ranks that are threads."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.memory.communication import all_reduce_bytes
from lib.parallel import (
    RankLost,
    average_gradients,
    copy_to_ranks,
    equal_parts,
    gradient_buckets,
    ring_all_reduce,
    run_on_threads,
    split_tensors,
    sum_over_ranks,
    vocabulary_parallel_cross_entropy,
)
from tests.lib.parallel import parallel_steps


@pytest.fixture(scope="module", autouse=True)
def prepared():
    parallel_steps.prepare()


@pytest.mark.parametrize("name", parallel_steps.STEPS)
def test_the_step_and_its_bytes(name):
    for sent, expected in run_on_threads(parallel_steps.STEPS[name], 2, timeout=600):
        assert sent == expected


@pytest.mark.parametrize("name", [name for name in parallel_steps.STEPS if "ZeRO" in name])
def test_shards_on_four_ranks(name):
    for sent, expected in run_on_threads(parallel_steps.STEPS[name], 4, timeout=600):
        assert sent == expected


def test_a_grid_of_data_and_tensor_parallel_ranks():
    """Two halves of the batch, each on two ranks that share the matrices."""

    def worker(group):
        row, column = divmod(group.index, 2)
        tensor = group.subgroup(2 * row, 2 * row + 1)
        data = group.subgroup(column, 2 + column)
        ids, targets = (equal_parts(part, 2)[data.index] for part in parallel_steps.batch())
        model = split_tensors(tensor, parallel_steps.model())
        vocabulary_parallel_cross_entropy(tensor, model(ids), targets).backward()
        average_gradients(data, model.parameters())
        gradients = parallel_steps.model()
        gradients.load_state_dict(parallel_steps.whole_gradients()[0])
        expected = split_tensors(tensor, gradients).parameters()
        for mine, whole in zip(model.parameters(), expected, strict=True):
            parallel_steps.close(mine.grad, whole.detach())

    run_on_threads(worker, 4)


@settings(max_examples=25)
@given(st.integers(2, 7), st.lists(st.integers(0, 5), max_size=3), st.data())
def test_a_ring_of_any_size_and_shape(num_ranks, shape, data):
    combine = data.draw(st.sampled_from([torch.add, torch.maximum]))
    tensors = torch.randint(
        -99, 99, (num_ranks, *shape), generator=torch.Generator().manual_seed(3)
    )
    whole = tensors.sum(dim=0) if combine is torch.add else tensors.amax(dim=0)

    def worker(group):
        own = tensors[group.index].clone()
        ring_all_reduce(group, own, combine)
        assert torch.equal(own, whole)
        return group.sent.bytes

    # Uneven chunks make the ranks send different amounts, which add up all the same.
    sent = sum(run_on_threads(worker, num_ranks))
    assert sent == (num_ranks * all_reduce_bytes(whole.nbytes, num_ranks) if whole.nbytes else 0)


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_f_and_g_are_conjugate(num_ranks):
    """The gradient of what f copies is a sum over ranks; of what g sums, the same on all."""
    weights = torch.randn(num_ranks, 5, dtype=torch.float64)
    x = torch.randn(5, dtype=torch.float64)

    def worker(group):
        own = x.clone().requires_grad_()
        summands = copy_to_ranks(group, own) * weights[group.index]
        summands.retain_grad()
        total = sum_over_ranks(group, summands)
        (total**2).sum().backward()
        return total.detach(), own.grad, summands.grad

    for total, gradient, of_summand in run_on_threads(worker, num_ranks):
        whole = weights.sum(dim=0)
        torch.testing.assert_close(total, x * whole)
        torch.testing.assert_close(of_summand, 2 * x * whole)
        torch.testing.assert_close(gradient, 2 * x * whole * whole)


def test_buckets_hold_all_parameters_from_the_last_to_the_first():
    parameters = [torch.nn.Parameter(torch.zeros(n)) for n in (3, 9, 1, 1, 2)]
    buckets = list(gradient_buckets(parameters, bucket_bytes=12))
    assert [[p.numel() for p in bucket] for bucket in buckets] == [[2, 1], [1], [9], [3]]
    assert [len(bucket) for bucket in gradient_buckets(parameters)] == [5]
    assert list(gradient_buckets([])) == []


def test_a_parameter_without_a_gradient_counts_as_zeros():
    def worker(group):
        parameter = torch.nn.Parameter(torch.zeros(4))
        if group.index == 0:
            parameter.grad = torch.full((4,), 3.0)
        average_gradients(group, [parameter])
        return parameter.grad

    for gradient in run_on_threads(worker, 3):
        assert gradient.tolist() == [1.0] * 4


def test_a_subgroup_counts_for_the_whole():
    def worker(group):
        if group.index == 1:
            return group.sent.bytes
        ends = group.subgroup(0, 2)
        tensor = torch.ones(6)
        ring_all_reduce(ends, tensor)
        assert tensor.tolist() == [2.0] * 6 and ends.size == 2
        return group.sent.bytes

    assert run_on_threads(worker, 3) == [24, 0, 24]


def test_a_thread_that_waits_for_one_that_has_ended():
    def worker(group):
        if group.index == 0:
            group.receive(torch.zeros(3), 1)

    with pytest.raises(RankLost, match="rank 1 has ended and sends nothing more"):
        run_on_threads(worker, 2)


def test_threads_that_wait_for_one_another_give_up():
    def worker(group):
        group.receive(torch.zeros(3), 1 - group.index)

    with pytest.raises(RankLost, match=r"has (ended|sent nothing)"):
        run_on_threads(worker, 2, timeout=0.1)


def test_a_thread_that_raises_stops_the_others():
    def worker(group):
        if group.index == 1:
            raise KeyError("the reason")
        group.receive(torch.zeros(3), 1)

    with pytest.raises(KeyError, match="the reason"):
        run_on_threads(worker, 3)
