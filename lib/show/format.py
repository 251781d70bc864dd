"""Numbers as people say them: 3 significant digits and a prefix."""

import math
from numbers import Real

_SI = {-4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T", 5: "P", 6: "E"}
_BINARY = {0: "", 1: "Ki", 2: "Mi", 3: "Gi", 4: "Ti", 5: "Pi", 6: "Ei"}
_LONG = {"d": 86_400, "h": 3_600, "min": 60}


def format_si(value: Real, unit: str = "", digits: int = 3) -> str:
    """`value` with an SI prefix: `format_si(3.35e12, "B/s")` is `"3.35 TB/s"`."""
    return _with_prefix(value, unit, 1000, _SI, digits)


def format_bytes(num_bytes: Real, *, binary: bool = False) -> str:
    """Bytes in powers of 1000, `"80 GB"`; in powers of 1024 when `binary`, `"228 KiB"`."""
    base, prefixes = (1024, _BINARY) if binary else (1000, _at_least_one(_SI))
    return _with_prefix(num_bytes, "B", base, prefixes, 3)


def format_flops(flops: Real, *, per_second: bool = False) -> str:
    """FLOPs, `"550 GFLOP"`; a rate when `per_second`, `"989 TFLOP/s"`."""
    unit = "FLOP/s" if per_second else "FLOP"
    return _with_prefix(flops, unit, 1000, _at_least_one(_SI), 3)


def format_time(seconds: Real) -> str:
    """Seconds from picoseconds, `"24.1 µs"`, to days, `"2.5 d"`."""
    number = float(seconds)
    for unit, length in _LONG.items():
        if math.isfinite(number) and abs(number) >= length:
            return f"{_rounded(number / length, 3):,.12g} {unit}"
    return format_si(number, "s")


def _with_prefix(value: Real, unit: str, base: int, prefixes: dict[int, str], digits: int) -> str:
    """The largest prefix that leaves at least 1; the power is chosen after rounding (999.9 k)."""
    number = float(value)
    if number == 0 or not math.isfinite(number):
        return f"{number:g} {unit}".strip()
    power = _clamp(math.floor(math.log(abs(number), base)), prefixes)
    if abs(_rounded(number / base**power, digits)) >= base:
        power = _clamp(power + 1, prefixes)
    scaled = _rounded(number / base**power, digits)
    return f"{scaled:.12g} {prefixes[power]}{unit}".strip()


def _clamp(power: int, prefixes: dict[int, str]) -> int:
    return min(max(power, min(prefixes)), max(prefixes))


def _rounded(number: Real, digits: int) -> float:
    """To `digits` significant digits, but never before the decimal point: 1023 KiB stays."""
    before_point = len(str(int(abs(number))))
    return float(f"{number:.{max(digits, before_point)}g}")


def _at_least_one(prefixes: dict[int, str]) -> dict[int, str]:
    """Half a byte is 0.5 B, never 500 mB."""
    return {power: prefix for power, prefix in prefixes.items() if power >= 0}
