"""Rotary positions, RoPE (Su et al., 2021): queries and keys are turned by their position.

A head's features turn in pairs, each pair at its own speed, the speeds of the sinusoids. The dot
product of two turned vectors depends on how far they were turned against each other, so a score
knows the distance of query and key, and not where they stand.

Which features make a pair is a matter of layout: neighbours, 0 with 1, in the paper, GPT-J and
Meta's Llama (`interleaved`); first half with second half in GPT-NeoX and in Hugging Face's Llama.
The two differ by a permutation of the features, and give the same scores.
"""

from numbers import Real

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from lib.memory.sizes import check_positive, check_sizes
from lib.positions.sinusoidal import angular_frequencies


def rotary_table(
    positions: Int[Tensor, "*batch seq_len"],
    head_dim: int,
    *,
    base: Real = 10_000.0,
    interpolation: Real = 1.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[
    Float[Tensor, "*batch seq_len {head_dim//2}"], Float[Tensor, "*batch seq_len {head_dim//2}"]
]:
    """cos and sin of the angle at each position and pair of features, in the `dtype` of q and k.

    `interpolation` divides the positions: with 4, a model trained on 2,048 of them reads 8,192 in
    steps of a quarter (Chen et al., 2023). `ntk_base` is the other way to reach farther. Angles are
    computed in float64: in float32 they are off by up to 0.001 radian at position 10,000.

    Raises `ValueError` for an odd head size.
    """
    check_positive(interpolation=interpolation)
    frequencies = angular_frequencies(head_dim, base).to(positions.device)
    angles = positions[..., None].double() / interpolation * frequencies
    return angles.cos().to(dtype), angles.sin().to(dtype)


def apply_rotary(
    x: Float[Tensor, "*batch seq_len head_dim"],
    cos: Float[Tensor, "*#batch seq_len half"],
    sin: Float[Tensor, "*#batch seq_len half"],
    *,
    interleaved: bool = False,
) -> Float[Tensor, "*batch seq_len head_dim"]:
    """Turn queries or keys: the pair (a, b) becomes (a cos - b sin, a sin + b cos).

    The tables broadcast over batch and heads; where sequences have positions of their own, make
    them from positions of shape (batch, 1, seq_len).

    Raises `ValueError` for tables made for another head size.
    """
    if x.shape[-1] != 2 * cos.shape[-1]:
        raise ValueError(
            f"tables for a head size of {2 * cos.shape[-1]} cannot turn one of {x.shape[-1]}"
        )
    # einops would write these layouts as "(half pair)" and "(pair half)", but takes longer than the
    # arithmetic where one token at a time is decoded.
    layout, pair = ((-1, 2), -1) if interleaved else ((2, -1), -2)
    a, b = x.unflatten(-1, layout).unbind(pair)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=pair).flatten(-2)


def rotary_permutation(head_dim: int) -> Int[Tensor, " {head_dim}"]:
    """Where the features of the half-and-half layout stand in the interleaved one: 0, 2, ..., 1, 3.

    `x[..., permutation]` puts an interleaved x into halves; on the rows of each head in the weights
    that make queries and keys, it turns a model of one layout into one of the other.
    """
    check_sizes(head_dim=head_dim)
    if head_dim % 2:
        raise ValueError(f"RoPE needs an even head size, got {head_dim}")
    return rearrange(torch.arange(head_dim), "(half pair) -> (pair half)", pair=2)


def ntk_base(base: Real, scale: Real, head_dim: int) -> float:
    """A larger base, which slows the slowest pair down by `scale` and the fastest not at all.

    "NTK-aware" scaling (bloc97, 2023; Peng et al., 2023): base · scale^(head_dim / (head_dim - 2)).
    Interpolation slows all pairs alike, and blurs neighbouring positions.

    Raises `ValueError` for a head size below 4, whose only pair is fastest and slowest at once.
    """
    check_positive(base=base, scale=scale)
    check_sizes(head_dim=head_dim)
    if head_dim < 4 or head_dim % 2:
        raise ValueError(f"ntk_base needs an even head size from 4, got {head_dim}")
    return base * scale ** (head_dim / (head_dim - 2))
