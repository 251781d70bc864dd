"""Sinusoidal positions (Vaswani et al., 2017): each pair of features is the hand of a clock.

The hands turn at different speeds, from one radian per token down to 1 / 10,000. To look `shift`
tokens ahead is to turn each hand by a fixed angle, whatever the position: a linear map.
"""

from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from lib.memory.sizes import check_positive, check_sizes


def sinusoidal_table(
    seq_len: int, hidden_size: int, *, base: Real = 10_000.0, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "{seq_len} {hidden_size}"]:
    """One row per position: sin and cos of pos · base^(-2i / hidden_size) at 2i and 2i + 1.

    Raises `ValueError` for an odd hidden size.
    """
    check_sizes(seq_len=seq_len)
    angles = torch.outer(torch.arange(seq_len).double(), angular_frequencies(hidden_size, base))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).to(dtype)


def shift_matrix(
    shift: int, hidden_size: int, *, base: Real = 10_000.0, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "{hidden_size} {hidden_size}"]:
    """The matrix M with M @ table[pos] = table[pos + shift], the same M for every pos.

    Along its diagonal stand 2 × 2 rotations, one for each pair of features; the rest is zero. A
    negative shift looks back, and is the transpose.
    """
    angles = shift * angular_frequencies(hidden_size, base)
    blocks = [
        torch.stack([torch.stack([c, s]), torch.stack([-s, c])])
        for c, s in zip(angles.cos(), angles.sin(), strict=True)
    ]
    return torch.block_diag(*blocks).to(dtype)


def angular_frequencies(size: int, base: Real = 10_000.0) -> Float[Tensor, " pairs"]:
    """By how many radians each pair of features turns per token: base^(-2i / size), in float64.

    Sinusoidal positions and RoPE share them. Raises `ValueError` for an odd size, which has a
    feature without a partner, and for a base that is not above zero.
    """
    check_sizes(size=size)
    check_positive(base=base)
    if size % 2:
        raise ValueError(f"features turn in pairs, so their number must be even, got {size}")
    return base ** (-torch.arange(0, size, 2).double() / size)
