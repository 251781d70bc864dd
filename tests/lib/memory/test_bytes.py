"""Bytes against execution: the tensors that torch's operators really take and return.

Each property runs one operator on real tensors and records, as it is dispatched, the storage of
every tensor that goes in and comes out. The calls are named in the test: were torch to run other
operators than the formula has in mind, the names would not match.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib.memory import LLAMA_7B, Cost, kv_cache_bytes, layer_costs, traffic
from tests.lib.memory.random_sizes import SMALL, attention_sizes, head_counts, thousand

FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]

floats = st.sampled_from(FLOATS)
sizes = st.integers(1, SMALL["wide"])


class Recorder(TorchDispatchMode):
    """Adds up what each operator reads and writes, one kernel a call; views move nothing.

    `one_kernel` regards all calls as one, so that a tensor which two of them take is read once.
    `beside` are tensors that a formula leaves out, as its docstring says.
    """

    def __init__(self, one_kernel=False):
        super().__init__()
        self.one_kernel = one_kernel
        self.names, self.kernels = [], []

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        result = operator(*arguments, **(options or {}))
        if not operator.is_view:
            self.names.append(operator.overloadpacket.__name__)
            if not self.kernels or not self.one_kernel:
                self.kernels.append(({}, {}))
            for storages, values in zip(self.kernels[-1], (arguments, result), strict=True):
                storages.update(storages_of(values))
        return result

    def moved(self, beside=()):
        """Bytes read and bytes written."""
        out = storages_of(beside)
        totals = [0, 0]
        for kernel in self.kernels:
            for side, storages in enumerate(kernel):
                totals[side] += sum(s.nbytes() for key, s in storages.items() if key not in out)
        return tuple(totals)


def storages_of(values):
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}


def forward_and_backward(function, *inputs, one_kernel=False):
    """What the operator's kernels move, and what those of its backward pass move."""
    with Recorder() as forward:
        result = function(*inputs)
    gradient = torch.zeros_like(result)
    with Recorder(one_kernel) as backward:
        torch.autograd.grad(result, inputs, gradient)
    return forward, backward


def zeros(*shape, dtype):
    return torch.zeros(shape, dtype=dtype, requires_grad=True)


def bytes_of(cost):
    return cost.bytes_read, cost.bytes_written


@thousand
@given(rows=sizes, d_in=sizes, d_out=sizes, dtype=floats)
def test_linear_and_lm_head(rows, d_in, d_out, dtype):
    inputs = zeros(rows, d_in, dtype=dtype), zeros(d_out, d_in, dtype=dtype)
    forward, backward = forward_and_backward(F.linear, *inputs)
    assert forward.names == ["mm"] and backward.names == ["mm", "mm"]

    each = {"bytes_per_element": dtype.itemsize}
    linear = {"rows": rows, "d_in": d_in, "d_out": d_out, **each}
    assert bytes_of(traffic.linear(**linear)) == forward.moved()
    assert bytes_of(traffic.linear_backward(**linear)) == backward.moved()
    head = {"rows": rows, "hidden_size": d_in, "vocab_size": d_out, **each}
    assert bytes_of(traffic.lm_head(**head)) == forward.moved()
    assert bytes_of(traffic.lm_head_backward(**head)) == backward.moved()


@thousand
@given(sizes=attention_sizes(SMALL), dtype=floats)
def test_unfused_attention(sizes, dtype):
    """Query heads that share a key stand below each other as rows, so that no key is copied."""
    groups = sizes["batch_size"] * sizes["num_key_value_heads"]
    rows = sizes["queries"] * sizes["num_attention_heads"] // sizes["num_key_value_heads"]
    queries = zeros(groups, rows, sizes["head_dim"], dtype=dtype)
    keys, values = (zeros(groups, sizes["keys"], sizes["head_dim"], dtype=dtype) for _ in range(2))
    scores, scores_backward = forward_and_backward(torch.bmm, queries, keys.mT)
    assert scores.names == ["bmm"] and scores_backward.names == ["bmm", "bmm"]

    ready = zeros(groups, rows, sizes["keys"], dtype=dtype)
    softmax, softmax_backward = forward_and_backward(lambda s: s.softmax(-1), ready)
    assert softmax.names == ["_softmax"] and softmax_backward.names == ["_softmax_backward_data"]

    weighted, weighted_backward = forward_and_backward(torch.bmm, ready, values)
    assert weighted.names == ["bmm"] and weighted_backward.names == ["bmm", "bmm"]

    each = {"bytes_per_element": dtype.itemsize}
    square = {key: sizes[key] for key in sizes if key not in ("head_dim", "num_key_value_heads")}
    assert bytes_of(traffic.attention_scores(**sizes, **each)) == scores.moved()
    assert bytes_of(traffic.attention_scores_backward(**sizes, **each)) == scores_backward.moved()
    assert bytes_of(traffic.softmax(**square, **each)) == softmax.moved()
    assert bytes_of(traffic.softmax_backward(**square, **each)) == softmax_backward.moved()
    assert bytes_of(traffic.weighted_sum(**sizes, **each)) == weighted.moved()
    assert bytes_of(traffic.weighted_sum_backward(**sizes, **each)) == weighted_backward.moved()

    read, written = zip(*(kernel.moved() for kernel in (scores, softmax, weighted)), strict=True)
    assert bytes_of(traffic.attention(**sizes, **each)) == (sum(read), sum(written))
    kernels = weighted_backward, softmax_backward, scores_backward
    read, written = zip(*(kernel.moved() for kernel in kernels), strict=True)
    assert bytes_of(traffic.attention_backward(**sizes, **each)) == (sum(read), sum(written))


@thousand
@given(sizes=attention_sizes(SMALL), dtype=floats)
def test_fused_attention(sizes, dtype):
    """The flash kernel of torch's CPU backend, which takes shared keys and values as they are.

    Beside the output it returns one statistic a row, which the formula leaves out.
    """
    heads = sizes["batch_size"], sizes["num_attention_heads"]
    groups = sizes["batch_size"], sizes["num_key_value_heads"]
    queries = zeros(*heads, sizes["queries"], sizes["head_dim"], dtype=dtype)
    keys, values = (zeros(*groups, sizes["keys"], sizes["head_dim"], dtype=dtype) for _ in range(2))
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with Recorder() as forward:
        output, statistics = flash(queries, keys, values)
    gradient = torch.zeros_like(output)
    with Recorder() as backward:
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            gradient, queries, keys, values, output, statistics, 0.0, False
        )
    assert len(forward.names) == len(backward.names) == 1

    each = {"bytes_per_element": dtype.itemsize}
    assert bytes_of(traffic.fused_attention(**sizes, **each)) == forward.moved(beside=[statistics])
    assert bytes_of(traffic.fused_attention_backward(**sizes, **each)) == backward.moved(
        beside=[statistics]
    )


def test_fused_attention_is_what_scaled_dot_product_attention_runs():
    queries = zeros(2, 6, 5, 8, dtype=torch.float32)
    keys, values = (zeros(2, 3, 7, 8, dtype=torch.float32) for _ in range(2))
    with Recorder() as recorder, sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        F.scaled_dot_product_attention(queries, keys, values, enable_gqa=True)
    assert recorder.names == ["_scaled_dot_product_flash_attention_for_cpu"]


ACTIVATIONS = {1: F.gelu, 2: torch.mul, 3: torch.addcmul}


@thousand
@given(elements=st.integers(1, 5000), inputs=st.sampled_from(sorted(ACTIVATIONS)), dtype=floats)
def test_elementwise(elements, inputs, dtype):
    operands = [zeros(elements, dtype=dtype) for _ in range(inputs)]
    with Recorder() as recorder:
        ACTIVATIONS[inputs](*operands)
    assert len(recorder.names) == 1
    cost = traffic.elementwise(elements=elements, inputs=inputs, bytes_per_element=dtype.itemsize)
    assert bytes_of(cost) == recorder.moved()


@thousand
@given(elements=st.integers(1, 5000), inputs=st.sampled_from([1, 2]), dtype=floats)
def test_elementwise_backward(elements, inputs, dtype):
    """torch multiplies a product's gradient with either factor in two calls; here they are one."""
    operands = [zeros(elements, dtype=dtype) for _ in range(inputs)]
    _, backward = forward_and_backward(ACTIVATIONS[inputs], *operands, one_kernel=True)
    assert backward.names == {1: ["gelu_backward"], 2: ["mul", "mul"]}[inputs]
    cost = traffic.elementwise_backward(
        elements=elements, inputs=inputs, bytes_per_element=dtype.itemsize
    )
    assert bytes_of(cost) == backward.moved()


@thousand
@given(rows=sizes, hidden_size=sizes, dtype=floats)
def test_layer_norm(rows, hidden_size, dtype):
    """torch also writes, and reads again, a mean and a reciprocal deviation a row: left out."""
    hidden = zeros(rows, hidden_size, dtype=dtype)
    gain, bias = (zeros(hidden_size, dtype=dtype) for _ in range(2))
    with Recorder() as forward:
        output, *statistics = torch.native_layer_norm(hidden, [hidden_size], gain, bias, 1e-5)
    gradient = torch.zeros_like(output)
    with Recorder() as backward:
        torch.autograd.grad(output, [hidden, gain, bias], gradient)
    assert forward.names == ["native_layer_norm"]
    assert backward.names == ["native_layer_norm_backward"]

    sizes = {"rows": rows, "hidden_size": hidden_size, "bytes_per_element": dtype.itemsize}
    assert bytes_of(traffic.layer_norm(**sizes)) == forward.moved(beside=statistics)
    unread = [*statistics, bias]
    assert bytes_of(traffic.layer_norm_backward(**sizes)) == backward.moved(beside=unread)


def test_the_backward_pass_of_layer_norm_takes_the_bias_but_does_not_read_it():
    generator = torch.Generator().manual_seed(0)
    hidden, gradient = torch.randn(2, 5, 8, generator=generator)
    gain = torch.randn(8, generator=generator)
    gradients = []
    for bias in (torch.zeros(8), torch.full([8], math.nan)):
        _, mean, deviation = torch.native_layer_norm(hidden, [8], gain, bias, 1e-5)
        gradients.append(
            torch.ops.aten.native_layer_norm_backward(
                gradient, hidden, [8], mean, deviation, gain, bias, [True, True, True]
            )
        )
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@thousand
@given(
    tokens=st.integers(1, 40).flatmap(
        lambda vocab: st.tuples(
            st.just(vocab), st.lists(st.integers(0, vocab - 1), min_size=1, unique=True)
        )
    ),
    hidden_size=sizes,
    dtype=floats,
)
def test_embedding(tokens, hidden_size, dtype):
    """The rows that are looked up are all that is read: in the others, poison does not show."""
    vocab_size, ids = tokens
    ids = torch.tensor(ids)
    table = torch.full((vocab_size, hidden_size), math.nan, dtype=dtype)
    table[ids] = 0
    table.requires_grad_()
    forward, backward = forward_and_backward(lambda table: F.embedding(ids, table), table)
    assert forward.names == ["embedding"] and backward.names == ["embedding_dense_backward"]
    assert not F.embedding(ids, table).isnan().any()

    sizes = {"rows": len(ids), "hidden_size": hidden_size, "bytes_per_element": dtype.itemsize}
    _, written = forward.moved()
    assert bytes_of(traffic.embedding(**sizes)) == (ids.nbytes + table[ids].nbytes, written)
    cost = traffic.embedding_backward(**sizes, vocab_size=vocab_size)
    assert bytes_of(cost) == backward.moved()


CACHED = [*FLOATS, torch.float8_e4m3fn, torch.int8]


@thousand
@given(
    batch_size=st.integers(1, 3),
    heads=head_counts(SMALL["heads"]),
    head_dim=st.integers(1, SMALL["head"]),
    num_layers=st.integers(1, 4),
    prompt=st.integers(1, SMALL["length"]),
    steps=st.integers(0, 3),
    dtype=st.sampled_from(CACHED),
)
def test_kv_cache(batch_size, heads, head_dim, num_layers, prompt, steps, dtype):
    """A prompt's keys and values in every layer, to which each step of decoding adds a token's."""
    groups = heads["num_key_value_heads"]

    def new(length):
        return torch.zeros(batch_size, groups, length, head_dim).to(dtype)

    cache = [[new(prompt), new(prompt)] for _ in range(num_layers)]
    for _ in range(steps):
        cache = [[torch.cat([old, new(1)], dim=2) for old in layer] for layer in cache]

    held = sum(tensor.untyped_storage().nbytes() for layer in cache for tensor in layer)
    assert held == kv_cache_bytes(
        batch_size=batch_size,
        seq_len=prompt + steps,
        num_layers=num_layers,
        num_key_value_heads=groups,
        head_dim=head_dim,
        bytes_per_element=dtype.itemsize,
    )


@pytest.mark.parametrize(
    ("function", "sizes"),
    [
        (traffic.linear, {"rows": 3, "d_in": 4, "d_out": 5}),
        (traffic.layer_norm, {"rows": 3, "hidden_size": 4}),
        (traffic.elementwise, {"elements": 6, "inputs": 2}),
    ],
)
def test_four_bits_are_half_a_byte(function, sizes):
    half = function(**sizes, bytes_per_element=0.5)
    whole = function(**sizes, bytes_per_element=1)
    assert half.bytes == whole.bytes / 2
    assert half.flops == whole.flops


@pytest.mark.parametrize("fused", [False, True])
def test_a_layer_of_wider_elements_moves_more_and_computes_the_same(fused):
    passes = {"batch_size": 2, "queries": 3, "keys": 5, "fused": fused}
    narrow = layer_costs(LLAMA_7B, **passes)
    wide = layer_costs(LLAMA_7B, **passes, bytes_per_element=8)
    for name, cost in narrow.items():
        assert wide[name] == Cost(cost.flops, 4 * cost.bytes_read, 4 * cost.bytes_written)
