"""The roofline: how fast an operation can run, given how much it computes per byte it moves.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
architectures", Communications of the ACM 52(4), 2009.
"""

import math

import sympy

from lib.memory.devices import Device
from lib.memory.sizes import Number, Size, check_positive, check_sizes, exact


def ridge_point(device: Device, dtype: str = "bfloat16") -> float:
    """The intensity, in FLOPs per byte, at which `device` computes as fast as it moves.

    Left of it an operation is memory-bound, right of it compute-bound.
    """
    return device.peak(dtype) / device.bandwidth


def attainable_flops(intensity: Number, device: Device, dtype: str = "bfloat16") -> Number:
    """The most FLOP/s an operation of this intensity can reach: the height of the roof."""
    check_positive(intensity=intensity)
    if isinstance(intensity, sympy.Expr):
        return sympy.Min(device.peak(dtype), intensity * device.bandwidth)
    return min(device.peak(dtype), intensity * device.bandwidth)


def compute_bound_batch(
    ridge: Number, *, d_in: Size, d_out: Size, bytes_per_element: Number = 2
) -> Number:
    """The number of rows from which a linear map reaches the intensity `ridge`.

    In decoding a row is a sequence, so this is the batch at which decoding's linear maps turn
    compute-bound. It solves 2 / (s (1/d_in + 1/d_out + 1/rows)) >= ridge for rows: a whole
    number for numbers, a formula for symbols, and infinity where the matrix is too small for
    any batch to reach the ridge.
    """
    check_sizes(d_in=d_in, d_out=d_out)
    check_positive(ridge=ridge, bytes_per_element=bytes_per_element)
    one = sympy.Integer(1)
    reciprocal = 2 / (exact(ridge) * exact(bytes_per_element)) - one / d_in - one / d_out
    if reciprocal.free_symbols:
        return sympy.factor(1 / reciprocal)
    return math.ceil(1 / reciprocal) if reciprocal > 0 else math.inf
