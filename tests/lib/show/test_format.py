import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.show import format_bytes, format_flops, format_si, format_time

POWERS = {"p": -12, "n": -9, "µ": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.35e12, "3.35 TB/s"),
        (989.4e12, "989 TB/s"),
        (999.6e9, "1 TB/s"),
        (0, "0 B/s"),
        (-2500, "-2.5 kB/s"),
        (math.inf, "inf B/s"),
        (1e21, "1000 EB/s"),
        (1e-15, "0.001 pB/s"),
    ],
)
def test_si_prefixes(value, text):
    assert format_si(value, "B/s") == text


def test_digits_and_no_unit():
    assert format_si(1536, digits=2) == "1.5 k"
    assert format_si(12) == "12"


@given(st.floats(1e-12, 9e20))
def test_the_text_says_the_number_to_three_digits(value):
    number, _, prefix = format_si(value).partition(" ")
    assert float(number) * 10.0 ** POWERS.get(prefix, 0) == pytest.approx(value, rel=5.1e-3)
    assert len(number.replace(".", "").lstrip("0")) <= 3 or float(number) >= 1000


@pytest.mark.parametrize(
    ("num_bytes", "decimal", "binary"),
    [
        (80_000_000_000, "80 GB", "74.5 GiB"),
        (228 * 1024, "233 kB", "228 KiB"),
        (2**30, "1.07 GB", "1 GiB"),
        (2**30 - 1, "1.07 GB", "1 GiB"),
        (1023 * 1024, "1.05 MB", "1023 KiB"),
        (0.5, "0.5 B", "0.5 B"),
        (512, "512 B", "512 B"),
        (1023.9, "1.02 kB", "1 KiB"),
    ],
)
def test_bytes_in_both_bases(num_bytes, decimal, binary):
    assert format_bytes(num_bytes) == decimal
    assert format_bytes(num_bytes, binary=True) == binary


def test_flops_are_counts_or_rates():
    assert format_flops(5.5e11) == "550 GFLOP"
    assert format_flops(989.4e12, per_second=True) == "989 TFLOP/s"
    assert format_flops(0.25) == "0.25 FLOP"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.41e-5, "24.1 µs"),
        (1.2e-9, "1.2 ns"),
        (0.25, "250 ms"),
        (59.9, "59.9 s"),
        (60, "1 min"),
        (5400, "1.5 h"),
        (216_000, "2.5 d"),
        (3.2e9, "37,037 d"),
        (math.inf, "inf s"),
    ],
)
def test_times_from_picoseconds_to_days(seconds, text):
    assert format_time(seconds) == text
