"""The models of a kernel's time, on a machine that is made up and therefore known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.memory.cost import Cost
from lib.memory.devices import Device
from lib.memory.prediction import (
    MODELS,
    WAYS,
    KernelModel,
    TimedWork,
    Work,
    fit_kernel_model,
    spread_of,
)


def product(rows, num_bytes, terms=4096, flops=10**9):
    return Work(f"{rows} rows", "linear", Cost(flops, num_bytes, 0), rows, flops, terms)


def stream(num_bytes, family="sum", elements=0):
    return Work(family, family, Cost(num_bytes, num_bytes, 0), elements=elements)


# A call takes 1 µs; products run at 1 GFLOP/s with one row and at 64 with 64; from 1 MB on a
# byte costs 1 to 4 ns, more in each way than in the one before; an exponential costs 5 ns.
KNOWN = KernelModel(
    1e-6,
    {1: 1e9, 64: 64e9},
    {
        "stream": {1_000: 0.0, 10**6: 1e-9, 10**7: 2e-9},
        "one row": {1_000: 0.0, 10**6: 2e-9, 10**7: 2e-9},
        "one row, short sums": {1_000: 0.0, 10**6: 3e-9},
        "many rows": {1_000: 0.0, 10**6: 4e-9},
    },
    {"softmax": 5e-9},
)


def calibration(machine):
    """What a calibration of this machine would measure, if nothing else ran."""
    works = {
        "call": [Work("nothing", "linear", Cost(0, 0, 0))],
        "rows": [product(1, 1_000), product(64, 1_000)],
        "stream": [stream(1_000), stream(10**6), stream(10**7)],
        "one row": [product(1, 10**6), product(1, 10**7)],
        "one row, short sums": [product(1, 10**6, terms=64)],
        "many rows": [product(64, 10**6)],
        "elements": [stream(1_000, "softmax", elements=10**6)],
    }
    return {
        name: [TimedWork(work, machine.seconds(work)) for work in each]
        for name, each in works.items()
    }


@given(rows=st.integers(0, 200), num_bytes=st.integers(1, 10**9), elements=st.integers(0, 10**6))
def test_a_machine_that_follows_the_model_is_found(rows, num_bytes, elements):
    found = fit_kernel_model(calibration(KNOWN))
    work = product(rows, num_bytes) if rows else stream(num_bytes, "softmax", elements)
    assert math.isclose(found.seconds(work), KNOWN.seconds(work), rel_tol=1e-9)


def test_the_parts_are_what_the_constants_say():
    parts = KNOWN.parts(product(64, 10**6, flops=64 * 10**9))
    assert parts == pytest.approx({"call": 1e-6, "product": 1.0, "bytes": 4e-3, "elements": 0})
    parts = KNOWN.parts(stream(10**6, "softmax", elements=1000))
    assert parts == pytest.approx({"call": 1e-6, "product": 0, "bytes": 1e-3, "elements": 5e-6})


def test_between_two_rungs_the_value_lies_between_and_beyond_it_stays():
    halfway = KNOWN.parts(product(8, 1_000, flops=65 * 10**9))["product"]
    assert halfway == pytest.approx(65e9 / 32.5e9)
    assert KNOWN.parts(product(10**6, 1_000))["product"] == pytest.approx(1e9 / 64e9)
    assert KNOWN.parts(stream(10**9))["bytes"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("work", "way"),
    [
        (stream(8), "stream"),
        (product(1, 8, terms=513), "one row"),
        (product(1, 8, terms=512), "one row, short sums"),
        (product(2, 8, terms=2), "many rows"),
    ],
)
def test_how_a_kernel_meets_its_bytes(work, way):
    assert work.moves == way
    assert way in WAYS


@given(rows=st.integers(1, 200), num_bytes=st.integers(1, 10**9))
def test_the_roofline_is_the_one_of_the_device_with_these_two_rates(rows, num_bytes):
    device = Device("made up", {"float32": KNOWN.peak}, KNOWN.bandwidth, 1e9)
    work = product(rows, num_bytes)
    expected = work.cost.time(device, "float32")
    assert MODELS["roofline"](KNOWN, work) == pytest.approx(expected)
    assert MODELS["added up"](KNOWN, work) >= expected


def test_caches_make_small_kernels_cheaper_and_change_nothing_for_large_ones():
    small, large = product(64, 1_000), product(64, 10**8)
    assert KNOWN.cached(small) < KNOWN.added(small)
    assert KNOWN.cached(large) == pytest.approx(KNOWN.added(large))


def test_a_spread_says_by_which_factor_a_ratio_is_off():
    spread = spread_of([0.5, 1.0, 2.0])
    assert spread.median == pytest.approx(1)
    assert spread.geometric_spread == pytest.approx(2)
    assert spread.within == pytest.approx(1 / 3)
    assert spread_of([2.0, 8.0]).median == pytest.approx(4)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=20), st.floats(0.1, 10))
def test_a_constant_factor_moves_the_median_and_leaves_the_spread(ratios, factor):
    one, other = spread_of(ratios), spread_of([factor * ratio for ratio in ratios])
    assert other.median == pytest.approx(factor * one.median)
    assert other.geometric_spread == pytest.approx(one.geometric_spread)


@pytest.mark.parametrize("name", ["call", "rows", *WAYS, "elements"])
def test_a_calibration_that_lacks_a_part_is_refused(name):
    with pytest.raises(ValueError, match=f"the calibration lacks {name}$"):
        fit_kernel_model(calibration(KNOWN) | {name: []})


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="has rows, FLOPs and terms, or none"):
        Work("half", "linear", Cost(1, 1, 1), rows=3)
    with pytest.raises(ValueError, match="elements must be a number, 0 or more, got -1"):
        Work("less", "softmax", Cost(1, 1, 1), elements=-1)
    with pytest.raises(ValueError, match="seconds must be a number above zero"):
        TimedWork(stream(8), 0.0)
    with pytest.raises(ValueError, match="at least two ratios, got 1"):
        spread_of([1.0])
