"""Random sizes, tensors, masks and modules for the tests of attention heads."""

import torch
from hypothesis import strategies as st
from torch import nn

from lib.attention.multi_head import MultiHeadAttention

seeds = st.integers(0, 2**31)
lengths = st.integers(1, 7)
batches = st.integers(1, 3)
# Attention heads, key-value heads.
head_counts = st.sampled_from([(1, 1), (2, 1), (3, 3), (4, 2), (4, 1), (6, 2), (6, 3)])
dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16])


class Draw:
    """Numbers, masks and modules from one seed, in float64 unless said otherwise."""

    def __init__(self, seed: int = 0):
        self.generator = torch.Generator().manual_seed(seed)

    def numbers(self, *shape, dtype=torch.float64, grad=False):
        return torch.randn(shape, dtype=dtype, generator=self.generator).requires_grad_(grad)

    def mask(self, *shape, share=0.6):
        return torch.rand(shape, generator=self.generator) < share

    def randomised(self, module: nn.Module) -> nn.Module:
        """In float64, no parameter left at 0 or 1, where a swapped one would not show."""
        module = module.double()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(self.numbers(*parameter.shape) / max(parameter.shape[-1], 4) ** 0.5)
        return module

    def attention(self, hidden_size=12, heads=(3, 3), **options) -> MultiHeadAttention:
        return self.randomised(MultiHeadAttention(hidden_size, *heads, **options))


class TokenCache:
    """The protocol that attention asks for, and nothing else."""

    def __init__(self):
        self.blocks, self.length = [], 0

    def append(self, keys, values):
        self.blocks.append((keys, values))
        self.length += keys.shape[-2]
        keys, values = (torch.cat(each, dim=-2) for each in zip(*self.blocks, strict=True))
        return keys, values

    def mask(self, num_queries):
        if num_queries == 1:
            return None
        position = torch.arange(self.length)
        return position <= position[-num_queries:, None]


def copy_linear(target: nn.Linear, weight, bias=None):
    with torch.no_grad():
        target.weight.copy_(weight)
        if bias is not None:
            target.bias.copy_(bias)


def rotate(x, positions, base=10_000.0):
    """RoPE in halves, for x (..., positions, dim): what stands for `rotary` in these tests."""
    half = x.shape[-1] // 2
    frequency = base ** -(torch.arange(half, dtype=x.dtype) / half)
    angle = torch.as_tensor(positions, dtype=x.dtype)[:, None] * frequency
    left, right = x[..., :half], x[..., half:]
    turned = left * angle.cos() - right * angle.sin(), right * angle.cos() + left * angle.sin()
    return torch.cat(turned, dim=-1)


def chunks(total, cuts):
    """The slices between the cuts, which need be neither sorted nor distinct."""
    ends = [*sorted({cut for cut in cuts if 0 < cut < total}), total]
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
