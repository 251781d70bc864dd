"""FLOPs against execution: what torch counts while plain torch code runs, forward and backward.

`FlopCounterMode` counts matrix products as they are dispatched. Two traps: the flash kernel of
the CPU counts as 0, hence the MATH backend; and it counts no softmax, hence `flops_per_score=0`.
On the meta device nothing is computed, so that sizes can be those of real models.
"""

import math

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lib.memory import layer_costs, linear_maps, traffic
from tests.lib.memory.random_sizes import LARGE, attention_sizes, model_shapes, thousand

SCORE_SIZES = "batch_size", "num_attention_heads", "queries", "keys"

sizes = st.integers(1, LARGE["wide"])


def meta(*shape):
    return torch.empty(*shape, device="meta", requires_grad=True)


def counted(function, *inputs):
    """FLOPs of the forward pass, FLOPs of the backward pass, and the result."""
    with FlopCounterMode(display=False) as forward, sdpa_kernel(SDPBackend.MATH):
        result = function(*inputs)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(result, inputs, torch.empty_like(result))
    return forward.get_total_flops(), backward.get_total_flops()


def tensors(sizes):
    """Q, K, V with a head axis each; fewer of them for K and V where heads share."""
    batch, heads, groups = (
        sizes["batch_size"],
        sizes["num_attention_heads"],
        sizes["num_key_value_heads"],
    )
    queries = meta(batch, heads, sizes["queries"], sizes["head_dim"])
    keys, values = (meta(batch, groups, sizes["keys"], sizes["head_dim"]) for _ in range(2))
    return queries, keys, values


def grouped_scores(queries, keys):
    batch, groups, _, head_dim = keys.shape
    return queries.reshape(batch, groups, -1, head_dim) @ keys.mT


def scaled_dot_product_attention(queries, keys, values):
    return F.scaled_dot_product_attention(queries, keys, values, enable_gqa=True)


@thousand
@given(rows=sizes, d_in=sizes, d_out=sizes)
def test_linear(rows, d_in, d_out):
    forward, backward = counted(F.linear, meta(rows, d_in), meta(d_out, d_in))
    assert traffic.linear(rows=rows, d_in=d_in, d_out=d_out).flops == forward
    assert traffic.linear_backward(rows=rows, d_in=d_in, d_out=d_out).flops == backward


@thousand
@given(batch_size=st.integers(1, 64), seq_len=sizes, hidden_size=sizes, vocab_size=sizes)
def test_lm_head(batch_size, seq_len, hidden_size, vocab_size):
    sizes = {"rows": batch_size * seq_len, "hidden_size": hidden_size, "vocab_size": vocab_size}
    forward, backward = counted(
        F.linear, meta(batch_size, seq_len, hidden_size), meta(vocab_size, hidden_size)
    )
    assert traffic.lm_head(**sizes).flops == forward
    assert traffic.lm_head_backward(**sizes).flops == backward


@thousand
@given(attention_sizes(LARGE))
def test_scores_and_weighted_sum(sizes):
    queries, keys, values = tensors(sizes)
    forward, backward = counted(grouped_scores, queries, keys)
    assert traffic.attention_scores(**sizes).flops == forward
    assert traffic.attention_scores_backward(**sizes).flops == backward

    weights = meta(*grouped_scores(queries, keys).shape)
    forward, backward = counted(torch.matmul, weights, values)
    assert traffic.weighted_sum(**sizes).flops == forward
    assert traffic.weighted_sum_backward(**sizes).flops == backward


@thousand
@given(attention_sizes(LARGE))
def test_attention(sizes):
    forward, backward = counted(scaled_dot_product_attention, *tensors(sizes))
    assert traffic.attention(**sizes, flops_per_score=0).flops == forward
    assert traffic.fused_attention(**sizes, flops_per_score=0).flops == forward
    assert traffic.attention_backward(**sizes, flops_per_score=0).flops == backward


class FlashAttention(torch.autograd.Function):
    """Attention that keeps no scores: its backward pass computes them again (Dao et al., 2022)."""

    @staticmethod
    def forward(context, queries, keys, values):
        scores = grouped_scores(queries, keys)
        output = scores.softmax(-1) @ values
        context.save_for_backward(queries, keys, values, output, scores.logsumexp(-1))
        return output.view_as(queries)

    @staticmethod
    def backward(context, gradient):
        queries, keys, values, output, logsumexp = context.saved_tensors
        gradient = gradient.reshape(output.shape)
        weights = (grouped_scores(queries, keys) - logsumexp[..., None]).exp()
        row_sum = (gradient * output).sum(-1, keepdim=True)
        score_gradient = weights * (gradient @ values.mT - row_sum)
        grouped_queries = queries.reshape(output.shape)
        return (
            (score_gradient @ keys).view_as(queries),
            score_gradient.mT @ grouped_queries,
            weights.mT @ gradient,
        )


@thousand
@given(attention_sizes(LARGE))
def test_fused_attention_backward(sizes):
    _, products = counted(FlashAttention.apply, *tensors(sizes))
    assert traffic.fused_attention_backward(**sizes, flops_per_score=0).flops == products
    # Five a score for the softmax that is computed again, four for its backward pass.
    scores = math.prod(sizes[name] for name in SCORE_SIZES)
    assert traffic.fused_attention_backward(**sizes).flops == products + 9 * scores


def test_the_recomputing_backward_pass_above_is_right():
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 6, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4)
    inputs = [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]
    assert torch.autograd.gradcheck(FlashAttention.apply, inputs)


def decoder_layer(shape, batch_size, queries, keys):
    """One layer in plain torch, as a function of its weights, and the weights.

    `queries` new tokens attend to `keys` tokens, of which the earlier ones are in a cache.
    """
    cached = meta(2, batch_size, shape.num_key_value_heads, keys - queries, shape.head_dim)
    names = ["query", "key", "value", "output", *(["gate"] if shape.gated else []), "up", "down"]
    width, wide = shape.hidden_size, shape.intermediate_size
    heads = shape.num_attention_heads * shape.head_dim
    groups = shape.num_key_value_heads * shape.head_dim
    sizes = {"query": (heads, width), "key": (groups, width), "value": (groups, width)}
    sizes |= {"output": (width, heads), "gate": (wide, width), "up": (wide, width)}
    sizes |= {"down": (width, wide)}
    weights = [meta(*sizes[name]) for name in names]

    def forward(hidden, *weights):
        weight = dict(zip(names, weights, strict=True))

        def heads_of(name):
            projected = F.linear(hidden, weight[name])
            return projected.unflatten(-1, (-1, shape.head_dim)).transpose(1, 2)

        key, value = (
            torch.cat([old, heads_of(name)], 2)
            for old, name in zip(cached, ["key", "value"], strict=True)
        )
        attended = scaled_dot_product_attention(heads_of("query"), key, value)
        hidden = hidden + F.linear(attended.transpose(1, 2).flatten(2), weight["output"])
        up = F.linear(hidden, weight["up"])
        up = F.silu(F.linear(hidden, weight["gate"])) * up if shape.gated else F.gelu(up)
        return hidden + F.linear(up, weight["down"])

    return forward, [meta(batch_size, queries, width), *weights]


@st.composite
def passes(draw):
    """Prefill, one step of decoding, or a few new tokens after a cached prefix."""
    keys = draw(st.integers(1, LARGE["length"]))
    queries = draw(st.just(keys) | st.just(1) | st.integers(1, keys))
    return {"batch_size": draw(st.integers(1, 64)), "queries": queries, "keys": keys}


@thousand
@given(shape=model_shapes(LARGE), sizes=passes(), fused=st.booleans())
def test_whole_layer(shape, sizes, fused):
    function, inputs = decoder_layer(shape, **sizes)
    forward, backward = counted(function, *inputs)
    softmax = 5 * shape.num_attention_heads * math.prod(sizes.values())
    costs = layer_costs(shape, **sizes, fused=fused)
    assert sum(costs.values()).flops == forward + softmax

    heads = {
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "head_dim": shape.head_dim,
    }
    parts = [
        traffic.attention_scores_backward(**sizes, **heads),
        traffic.weighted_sum_backward(**sizes, **heads),
    ]
    rows = sizes["batch_size"] * sizes["queries"]
    for d_in, d_out in linear_maps(shape).values():
        parts.append(traffic.linear_backward(rows=rows, d_in=d_in, d_out=d_out))
    assert sum(parts).flops == backward
