"""The worker that the chapter on several devices runs: sums that are right, bytes as by formula."""

import pytest

from lib.memory import communication
from lib.parallel import central_all_reduce, run_on_threads
from lib.parallel.measured import measured_all_reduce


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_the_ring_sends_what_the_formula_says(ranks):
    for got in run_on_threads(measured_all_reduce, ranks, 12):
        assert got.right
        assert got.bytes_sent == communication.all_reduce_bytes(12 * 4, ranks)
        assert 0 < got.seconds < float("inf")


def test_the_central_way_is_measured_alike():
    busiest = run_on_threads(measured_all_reduce, 3, 12, central_all_reduce)[0]
    assert busiest.right
    assert busiest.bytes_sent == communication.central_all_reduce_bytes(12 * 4, 3)


def test_a_wrong_sum_is_told():
    def nothing(group, tensor):
        group.send(tensor, (group.index + 1) % group.size)()
        group.receive_new(tensor, (group.index - 1) % group.size)

    assert not any(got.right for got in run_on_threads(measured_all_reduce, 2, 12, nothing))


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="num_elements must be a positive whole number"):
        run_on_threads(measured_all_reduce, 2, 0)
