"""Costs below n²: FLOPs against FlopCounterMode, bytes against tensors, lengths against algebra."""

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lib.attention.linear import (
    LinearState,
    causal_linear_attention,
    linear_attention,
)
from lib.attention.linformer import LinformerAttention
from lib.attention.local import local_attention
from lib.attention.sparse import block_sparse_attention, sparse_attention
from lib.attention.sparse_tiles import dilated_tiles
from lib.memory import fused_attention, kv_cache_bytes, sub_quadratic

some = settings(max_examples=40)
few = st.integers(1, 4)
lengths = st.integers(1, 40)
dims = st.integers(1, 8)


def counted(function, *inputs):
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        function(*inputs)
    return counter.get_total_flops()


def drawn(batch, heads, *shapes):
    return [torch.rand(batch, heads, *shape) for shape in shapes]


@some
@given(few, few, lengths, dims, st.integers(1, 60), st.integers(1, 60), st.booleans())
def test_local(batch, heads, seq_len, head_dim, window, block_size, is_causal):
    sizes = {"window": window, "block_size": block_size, "is_causal": is_causal}
    q, k, v = drawn(batch, heads, *[(seq_len, head_dim)] * 3)
    cost = sub_quadratic.local_attention_cost(
        batch_size=batch,
        num_attention_heads=heads,
        seq_len=seq_len,
        head_dim=head_dim,
        flops_per_score=0,
        **sizes,
    )
    assert cost.flops == counted(lambda: local_attention(q, k, v, **sizes))


@some
@given(few, few, st.integers(1, 5), st.integers(1, 6), dims, st.integers(0, 99))
def test_blocks_that_are_on(batch, heads, count, block_size, head_dim, seed):
    layout = torch.rand(count, count, generator=torch.Generator().manual_seed(seed)) < 0.5
    layout[0, 0] = True
    q, k, v = drawn(batch, heads, *[(count * block_size, head_dim)] * 3)
    cost = sub_quadratic.tiles_cost(
        batch_size=batch,
        num_attention_heads=heads,
        tiles=int(layout.sum()),
        rows=block_size,
        cols=block_size,
        head_dim=head_dim,
        flops_per_score=0,
    )
    assert cost.flops == counted(lambda: block_sparse_attention(q, k, v, layout))


@some
@given(few, few, lengths, dims, st.integers(1, 9), few)
def test_tiles_of_a_pattern(batch, heads, seq_len, head_dim, window, dilation):
    (tiles,) = dilated_tiles(seq_len, window=window, dilation=dilation)
    q, k, v = drawn(batch, heads, *[(seq_len, head_dim)] * 3)
    number, rows, cols = tiles.seen.shape
    sizes = {"batch_size": batch, "num_attention_heads": heads, "head_dim": head_dim}
    cost = sub_quadratic.tiles_cost(**sizes, tiles=number, rows=rows, cols=cols, flops_per_score=0)
    assert cost.flops == counted(lambda: sparse_attention(q, k, v, [tiles]))
    assert cost.bytes_written == 2 * batch * heads * tiles.queries.numel() * head_dim
    read = tiles.queries.numel() + 2 * tiles.keys.numel()
    assert cost.bytes_read == 2 * batch * heads * read * head_dim


@some
@given(few, few, lengths, lengths, dims, dims)
def test_linear(batch, heads, queries, keys, num_features, head_dim):
    q, k, v = drawn(batch, heads, (queries, num_features), (keys, num_features), (keys, head_dim))
    cost = sub_quadratic.linear_attention_cost(
        batch_size=batch,
        num_attention_heads=heads,
        queries=queries,
        keys=keys,
        num_features=num_features,
        head_dim=head_dim,
        bytes_per_element=4,
    )
    assert cost.flops == counted(linear_attention, q, k, v)
    state = (k.mT @ v).nbytes + k.sum(dim=-2).nbytes
    assert cost.bytes_read == q.nbytes + k.nbytes + v.nbytes + state
    assert cost.bytes_written == linear_attention(q, k, v).nbytes + state


@some
@given(few, few, lengths, dims, dims, st.integers(1, 50))
def test_linear_in_chunks(batch, heads, seq_len, num_features, head_dim, chunk):
    q, k, v = drawn(batch, heads, *[(seq_len, num_features)] * 2, (seq_len, head_dim))
    cost = sub_quadratic.causal_linear_attention_cost(
        batch_size=batch,
        num_attention_heads=heads,
        seq_len=seq_len,
        num_features=num_features,
        head_dim=head_dim,
        chunk=chunk,
    )
    assert cost.flops == counted(lambda: causal_linear_attention(q, k, v, chunk=chunk))


@some
@given(few, few, lengths, lengths, st.integers(1, 9), dims)
def test_linformer(batch, heads, queries, keys, rank, head_dim):
    q, k, v = drawn(batch, heads, (queries, head_dim), (keys, head_dim), (keys, head_dim))
    cost = sub_quadratic.linformer_cost(
        batch_size=batch,
        num_attention_heads=heads,
        queries=queries,
        keys=keys,
        rank=rank,
        head_dim=head_dim,
        flops_per_score=0,
    )
    assert cost.flops == counted(LinformerAttention(keys, rank), q, k, v)


@some
@given(few, few, few, dims, st.none() | dims)
def test_the_state_of_linear_attention(batch, layers, heads, head_dim, num_features):
    k, v = drawn(batch, heads, (3, num_features or head_dim), (3, head_dim))
    state = LinearState.empty(k, v)
    assert sub_quadratic.linear_attention_state_bytes(
        batch_size=batch,
        num_layers=layers,
        num_attention_heads=heads,
        head_dim=head_dim,
        num_features=num_features,
    ) == layers * (state.summed.nbytes + state.total.nbytes)


N, H, W, B, R, C = sympy.symbols("n h w B r C", positive=True, integer=True)
ONE_HEAD = {"batch_size": 1, "num_attention_heads": 1, "head_dim": H}
FULL = fused_attention(**ONE_HEAD, queries=N, keys=N, flops_per_score=0).flops


def crossing(cost):
    return sub_quadratic.crossover_length(cost.flops, FULL, N)


def test_from_which_length_on_each_is_cheaper():
    local = sub_quadratic.local_attention_cost(
        **ONE_HEAD, seq_len=N, window=W, block_size=B, flops_per_score=0
    )
    low_rank = sub_quadratic.linformer_cost(
        **ONE_HEAD, queries=N, keys=N, rank=R, flops_per_score=0
    )
    linear = sub_quadratic.linear_attention_cost(**ONE_HEAD, queries=N, keys=N, num_features=H)
    chunks = sub_quadratic.causal_linear_attention_cost(
        **ONE_HEAD, seq_len=N, num_features=H, chunk=C
    )
    assert sympy.simplify(crossing(local) - (B + W - 1)) == 0
    assert sympy.simplify(crossing(low_rank) - 2 * R) == 0
    assert sympy.simplify(crossing(linear) - (H + sympy.Rational(1, 2))) == 0
    assert sympy.simplify(crossing(chunks) - (C + H + sympy.Rational(1, 2))) == 0


def test_the_state_is_a_cache_of_about_half_as_many_tokens_as_the_head_has_numbers():
    layers = {"batch_size": 1, "num_layers": 1, "head_dim": H, "bytes_per_element": 2}
    state = sub_quadratic.linear_attention_state_bytes(num_attention_heads=1, **layers)
    cache = kv_cache_bytes(seq_len=N, num_key_value_heads=1, **layers)
    assert sympy.simplify(sub_quadratic.crossover_length(state, cache, N) - (H + 1) / 2) == 0


@some
@given(*[st.integers(1, 20)] * 5)
def test_symbols_and_numbers_agree_where_blocks_divide(blocks, block_size, window, head_dim, heads):
    seq_len = blocks * block_size * window
    sizes = {"batch_size": 2, "num_attention_heads": heads}
    numbers = {N: seq_len, H: head_dim, W: window, B: block_size}
    for is_causal in (True, False):
        formula = sub_quadratic.local_attention_cost(
            **sizes, head_dim=H, seq_len=N, window=W, block_size=B, is_causal=is_causal
        )
        assert formula.subs(numbers) == sub_quadratic.local_attention_cost(
            **sizes,
            head_dim=head_dim,
            seq_len=seq_len,
            window=window,
            block_size=block_size,
            is_causal=is_causal,
        )


def test_costs_that_do_not_meet_are_named():
    with pytest.raises(ValueError, match="not at one length above zero"):
        sub_quadratic.crossover_length(N + 1, N, N)
    with pytest.raises(ValueError, match="not at one length above zero"):
        sub_quadratic.crossover_length(N**2 + 2, 3 * N, N)


def test_sizes_that_are_none_are_named(import_unchecked):
    unchecked = import_unchecked("lib.memory.sub_quadratic")
    sizes = {"batch_size": 1, "num_attention_heads": 2, "head_dim": 4}
    calls = {
        "tiles": lambda: unchecked.tiles_cost(**sizes, tiles=0, rows=1, cols=1),
        "window": lambda: unchecked.local_attention_cost(
            **sizes, seq_len=8, window=0, block_size=4
        ),
        "num_features": lambda: unchecked.linear_attention_cost(
            **sizes, queries=3, keys=3, num_features=-1
        ),
        "chunk": lambda: unchecked.causal_linear_attention_cost(
            **sizes, seq_len=3, num_features=4, chunk="2"
        ),
        "rank": lambda: unchecked.linformer_cost(**sizes, queries=3, keys=3, rank=1.5),
        "num_layers": lambda: unchecked.linear_attention_state_bytes(**sizes, num_layers=0),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"{name} must be a positive whole number"):
            call()
