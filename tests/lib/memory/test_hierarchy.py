"""The ladder: times, capacities, and the bytes that a level needs in flight."""

import math

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from lib.memory.devices import DEVICES, REFERENCE_CPU, Device, MemoryLevel, device
from lib.memory.hierarchy import access_time, bytes_in_flight, journey, on_chip_bytes

SHEETS = [key for key in DEVICES if key != REFERENCE_CPU]

FAST = MemoryLevel("fast", capacity_bytes=1_000, bandwidth=1e9, latency_seconds=1e-6)
SLOW = MemoryLevel("global memory", capacity_bytes=100_000, bandwidth=1e8, latency_seconds=1e-5)
HOST = MemoryLevel("host", capacity_bytes=math.inf, bandwidth=1e7)
TOY = Device("toy", {"float32": 1e9}, 1e8, 100_000, (FAST, SLOW, HOST))


def test_a_journey_by_hand():
    steps = journey(TOY, 5_000)
    assert [step.level for step in steps] == [FAST, SLOW, HOST]
    assert [step.seconds for step in steps] == pytest.approx([5e-6, 5e-5, 5e-4])
    assert [step.fits for step in steps] == [False, True, True]


def test_what_exactly_fills_a_level_fits():
    assert journey(TOY, 1_000)[0].fits is True
    assert journey(TOY, 1_001)[0].fits is False


def test_a_gigabyte_on_an_h100():
    steps = {step.level.name: step for step in journey(device("H100"), 10**9)}
    assert steps["global memory"].seconds == pytest.approx(1 / 3350)
    assert steps["host"].seconds == pytest.approx(1 / 63, rel=1e-3)
    assert [step.fits for step in steps.values()] == [False, False, False, True, True]


@given(key=st.sampled_from(SHEETS), num_bytes=st.integers(1, 10**15))
def test_the_climb_takes_longer_the_farther_down_it_starts(key, num_bytes):
    steps = journey(device(key), num_bytes)
    assert len(steps) == len(device(key).levels)
    assert [s.seconds for s in steps] == sorted(s.seconds for s in steps)
    assert steps[-1].fits
    for step in steps:
        assert step.seconds == pytest.approx(num_bytes / step.level.bandwidth)
        assert step.fits == (num_bytes <= step.level.capacity_bytes)


@pytest.mark.parametrize("num_bytes", [0, -5, 2.0, "12", None, True])
def test_a_journey_is_of_whole_bytes(num_bytes, import_unchecked):
    h100 = import_unchecked("lib.memory.devices").device("H100")
    with pytest.raises(ValueError, match="num_bytes must be a positive whole number"):
        import_unchecked("lib.memory.hierarchy").journey(h100, num_bytes)


def test_a_journey_of_n_bytes_is_a_formula():
    n = sympy.Symbol("n", positive=True, integer=True)
    fast, slow, _ = journey(TOY, n)
    assert sympy.simplify(slow.seconds / fast.seconds) == pytest.approx(10)
    assert float(fast.seconds.subs(n, 5_000)) == pytest.approx(5e-6)
    assert fast.fits.subs(n, 999) and not fast.fits.subs(n, 1_001)


def test_access_time_is_latency_plus_transfer():
    assert access_time(FAST, 1_000) == pytest.approx(2e-6)
    n = sympy.Symbol("n", positive=True)
    assert sympy.limit(n / access_time(FAST, n), n, sympy.oo) == pytest.approx(1e9)


@given(key=st.sampled_from(SHEETS))
def test_bytes_in_flight_are_the_transfer_that_reaches_half_the_bandwidth(key):
    for level in device(key).levels:
        if level.latency_seconds is not None:
            half = bytes_in_flight(level)
            assert half / (level.latency_seconds + half / level.bandwidth) == pytest.approx(
                level.bandwidth / 2
            )


def test_an_h100_needs_a_megabyte_in_flight():
    memory = device("H100").level("global memory")
    assert bytes_in_flight(memory) == pytest.approx(1.184e6, rel=1e-3)


@pytest.mark.parametrize("compute", [bytes_in_flight, lambda level: access_time(level, 1)])
def test_an_unknown_latency_is_not_taken_for_zero(compute):
    with pytest.raises(ValueError, match="latency of this level: host"):
        compute(HOST)


def test_what_is_on_the_chip():
    assert on_chip_bytes(TOY) == 1_000
    mebibytes = 132 * (256 + 228) / 1024 + 50
    assert on_chip_bytes(device("H100")) == pytest.approx(mebibytes * 2**20)
    for key in SHEETS:
        assert on_chip_bytes(device(key)) < device(key).memory_bytes / 50
