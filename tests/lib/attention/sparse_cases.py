"""Random q, k, v and what dense attention makes of them."""

import torch
from hypothesis import strategies as st

from lib.attention.dot_product import scaled_dot_product_attention


def operands(seed, *lengths, heads=2, batch=2, head_dim=4, dtype=torch.float64):
    """q, k and v that want gradients; one length is meant for all three."""
    generator = torch.Generator().manual_seed(seed)
    lengths = lengths * 3 if len(lengths) == 1 else lengths
    return tuple(
        torch.randn(
            batch, heads, length, head_dim, generator=generator, dtype=dtype
        ).requires_grad_()
        for length in lengths
    )


seeds = st.integers(0, 2**31)


def gradients(output, inputs):
    upstream = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad(output, inputs, upstream, retain_graph=True)


def assert_equals_dense(output, inputs, mask, **options):
    """Output and gradients are those of attention with all scores and this mask."""
    expected = scaled_dot_product_attention(*inputs, mask, **options)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(gradients(output, inputs), gradients(expected, inputs))
