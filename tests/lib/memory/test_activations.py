"""Saved activations against execution: what autograd holds after a layer's forward pass.

The layer below is plain torch. `saved_tensors_hooks` sees every tensor that autograd keeps for
the backward pass; each storage counts once, and those of the parameters do not.
"""

from functools import partial

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel

from lib.memory import ModelShape, activation_bytes
from tests.lib.memory.random_sizes import SMALL, model_shapes, thousand

# How a layer computes and what torch's CPU kernels then keep for each statistic: the type of the
# weights, of the norms' gain and bias, bytes of the norms' mean and reciprocal deviation, bytes
# of the flash kernel's logsumexp. The fourth row is mixed precision, and what a GPU does. The
# last is the CPU's alone: statistics as narrow as the gain, but a logsumexp in float32, so that
# `statistic_bytes` can describe it unfused only.
PRECISIONS = [
    (torch.float64, torch.float64, 8, 8),
    (torch.float32, torch.float32, 4, 4),
    (torch.bfloat16, torch.float32, 4, 4),
    (torch.float16, torch.float32, 4, 4),
    (torch.bfloat16, torch.bfloat16, 2, 4),
]


class Layer:
    """A pre-norm layer without biases, in plain torch; grouped queries, no copies of keys."""

    def __init__(self, shape, dtype, norm_dtype):
        self.shape = shape
        width, wide = shape.hidden_size, shape.intermediate_size
        heads = shape.num_attention_heads * shape.head_dim
        groups = shape.num_key_value_heads * shape.head_dim
        sizes = {"query": (heads, width), "key": (groups, width), "value": (groups, width)}
        sizes |= {"output": (width, heads), "up": (wide, width), "down": (width, wide)}
        if shape.gated:
            sizes["gate"] = (wide, width)
        new = partial(torch.full, fill_value=0.01, requires_grad=True)
        self.weights = {name: new(size, dtype=dtype) for name, size in sizes.items()}
        self.norms = [
            tuple(new((width,), dtype=norm_dtype) for _ in ("gain", "bias")) for _ in range(2)
        ]

    def parameters(self):
        return [*self.weights.values(), *self.norms[0], *self.norms[1]]

    def __call__(self, hidden, dropout, fused):
        normed = F.layer_norm(hidden, hidden.shape[-1:], *self.norms[0])
        hidden = hidden + drop(self.attention(normed, dropout, fused), dropout)
        normed = F.layer_norm(hidden, hidden.shape[-1:], *self.norms[1])
        return hidden + drop(self.feed_forward(normed), dropout)

    def attention(self, hidden, dropout, fused):
        query, key, value = (
            F.linear(hidden, self.weights[name]).unflatten(-1, (-1, self.shape.head_dim))
            for name in ("query", "key", "value")
        )
        attend = flash_attention if fused else partial(grouped_attention, dropout=dropout)
        attended = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        return F.linear(attended.transpose(1, 2).flatten(2), self.weights["output"])

    def feed_forward(self, hidden):
        up = F.linear(hidden, self.weights["up"])
        gated = self.shape.gated
        up = F.silu(F.linear(hidden, self.weights["gate"])) * up if gated else F.gelu(up)
        return F.linear(up, self.weights["down"])


def drop(tensor, dropout):
    """native_dropout keeps a boolean mask of one byte an element, as the GPU's kernels do."""
    return torch.native_dropout(tensor, 0.1, train=True)[0] if dropout else tensor


def grouped_attention(query, key, value, dropout):
    head_dim = key.shape[-1]
    grouped = query.reshape(*key.shape[:2], -1, head_dim)
    scores = torch.baddbmm(
        query.new_zeros(()),
        grouped.flatten(0, 1),
        key.flatten(0, 1).mT,
        beta=0,
        alpha=head_dim**-0.5,
    )
    weights = drop(scores.softmax(-1), dropout)
    return (weights @ value.flatten(0, 1)).reshape(query.shape)


def flash_attention(query, key, value):
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return F.scaled_dot_product_attention(query, key, value, enable_gqa=True)


def saved_bytes(layer, hidden, **options):
    """The sizes of the storages that autograd keeps, without those of the parameters."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = layer(hidden, **options)
    for parameter in layer.parameters():
        storages.pop(parameter.untyped_storage().data_ptr(), None)
    assert result.requires_grad
    return sorted(storage.nbytes() for storage in storages.values())


def one_by_one(kept):
    """The formula's tensors; a norm's statistics are two of them, a mean and a deviation."""
    halves = [size // 2 for name, size in kept.items() if "norm: statistics" in name] * 2
    return sorted([size for name, size in kept.items() if "norm: statistics" not in name] + halves)


@thousand
@given(
    shape=model_shapes(SMALL),
    batch_size=st.integers(1, SMALL["batch"]),
    seq_len=st.integers(1, SMALL["length"]),
    precision=st.sampled_from(PRECISIONS),
    dropout=st.booleans(),
    fused=st.booleans(),
)
def test_activations(shape, batch_size, seq_len, precision, dropout, fused):
    dtype, norm_dtype, norm_statistic, row_statistic = precision
    fused = fused and norm_statistic == row_statistic
    hidden = torch.zeros(batch_size, seq_len, shape.hidden_size, dtype=dtype, requires_grad=True)
    saved = saved_bytes(Layer(shape, dtype, norm_dtype), hidden, dropout=dropout, fused=fused)

    kept = activation_bytes(
        shape,
        batch_size=batch_size,
        seq_len=seq_len,
        bytes_per_element=dtype.itemsize,
        statistic_bytes=norm_statistic,
        dropout=dropout,
        fused=fused,
    )
    assert sum(kept.values()) == sum(saved)
    assert one_by_one(kept) == saved


def test_the_layer_above_computes_the_same_fused_and_unfused():
    shape = ModelShape(
        num_layers=1,
        hidden_size=12,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=4,
        intermediate_size=20,
        vocab_size=1,
        gated=True,
    )
    generator = torch.Generator().manual_seed(0)
    layer = Layer(shape, torch.float64, torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(generator=generator)
    hidden = torch.randn(2, 5, 12, dtype=torch.float64, generator=generator)
    unfused, fused = (layer(hidden, dropout=False, fused=fused) for fused in (False, True))
    torch.testing.assert_close(unfused, fused)
