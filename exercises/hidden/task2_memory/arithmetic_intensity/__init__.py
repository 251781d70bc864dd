"""The hidden tests of arithmetic-intensity.ipynb, a module for each problem.

Sizes are those of lib.memory: b, t, a, h, d, s as in the exercise sheet, k key-value heads.
"""

UNITS_FORGOTTEN = "these are elements: multiply by bytes_per_element"
UNITS_FIXED = "it takes 2 bytes per element, whatever bytes_per_element is"
ONE_FLOP = "it counts a multiply-add as one FLOP: a multiplication and an addition are 2"
PER_ELEMENT = "these are FLOPs per element: bytes_per_element is missing"
UPSIDE_DOWN = "it is upside down: FLOPs per byte, not bytes per FLOP"
MODES = "Any mode but 'train', 'prefill' and 'decode' raises ValueError."
GROUPED = (
    "its K or V grows with the attention heads: with grouped-query attention there are "
    "num_key_value_heads, each read once"
)


def byte_factors(s: int) -> dict[str, float]:
    """What goes wrong between elements and bytes."""
    return {
        UNITS_FORGOTTEN: 1 / s,
        UNITS_FIXED: 2 / s,
        "bytes_per_element enters twice": s,
        "these are bits": 8,
    }


def intensity_factors(s: int) -> dict[str, float]:
    """What goes wrong in a fraction of FLOPs and bytes, apart from what is counted."""
    return {
        ONE_FLOP: 1 / 2,
        PER_ELEMENT: s,
        UNITS_FIXED: s / 2,
        "bytes_per_element is above the fraction; the bytes belong below it": s * s,
    }
