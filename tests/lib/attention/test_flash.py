"""FlashAttention: equal to attention with all its scores, and counting exactly what it moves."""

import math
import weakref

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.nn.attention.flex_attention import AuxRequest, flex_attention
from torch.utils._python_dispatch import TorchDispatchMode

from lib.attention.chunked import chunked_attention
from lib.attention.dot_product import scaled_dot_product_attention
from lib.attention.flash import Traffic, flash_attention
from lib.attention.online_softmax import OnlineSoftmax, merge_parts
from lib.attention.tiled import SAFE_EXPONENT, tiled_attention
from lib.masks import causal
from lib.memory.flash import BACKWARD, FORWARD, attention_tile, flash_backward, flash_forward
from lib.memory.traffic import attention_scores, fused_attention, softmax, weighted_sum

close = torch.testing.assert_close


@st.composite
def problems(draw, masked=True):
    """Queries, keys, values that want gradients, a mask or none, whether causal, bytes of SRAM."""
    keys = draw(st.integers(1, 17))
    queries = draw(st.integers(1, keys))
    head_dim = draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shapes = [(2, 3, length, head_dim) for length in (queries, keys, keys)]
    operands = [
        torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes
    ]
    mask = None
    if masked and draw(st.booleans()):
        heads, rows = draw(st.sampled_from([(1, queries), (3, queries), (1, 1)]))
        mask = torch.rand(2, heads, rows, keys, generator=generator) < draw(
            st.sampled_from([0, 0.5])
        )
    rows_that_fit = draw(st.integers(1, 20))
    sram_bytes = 8 * (7 * head_dim * rows_that_fit + 2 * rows_that_fit**2)
    return operands, mask, draw(st.booleans()), sram_bytes


def dense(operands, mask, is_causal):
    q, k, v = operands
    if is_causal:
        triangle = causal(q.shape[-2], k.shape[-2])
        mask = triangle if mask is None else mask & triangle
    return scaled_dot_product_attention(q, k, v, mask), mask


def gradients(output, operands):
    upstream = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad(output, operands, upstream)


@settings(max_examples=150)
@given(problems())
def test_forward_and_backward_equal_attention_with_all_scores(problem):
    operands, mask, is_causal, sram_bytes = problem
    expected, _ = dense(operands, mask, is_causal)
    output, _ = flash_attention(*operands, mask, is_causal=is_causal, sram_bytes=sram_bytes)
    close(output, expected)
    close(gradients(output, operands), gradients(expected, operands))


@settings(max_examples=60)
@given(problems(), st.integers(1, 9))
def test_chunks_of_queries_equal_attention_with_all_scores(problem, chunk):
    operands, mask, is_causal, _ = problem
    expected, _ = dense(operands, mask, is_causal)
    output = chunked_attention(*operands, mask, chunk=chunk, is_causal=is_causal)
    close(output, expected)
    close(gradients(output, operands), gradients(expected, operands))


@settings(max_examples=60)
@given(problems())
def test_the_log_sum_exp_is_that_of_the_scores(problem):
    (q, k, v), mask, is_causal, sram_bytes = problem
    _, mask = dense((q, k, v), mask, is_causal)
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    _, lse = flash_attention(q, k, v, mask, sram_bytes=sram_bytes)
    close(lse, scores.logsumexp(dim=-1))


def test_flex_attention_agrees_on_output_and_log_sum_exp():
    q, k, v = torch.randn(3, 1, 2, 32, 8, dtype=torch.float64)
    expected, extra = flex_attention(q, k, v, return_aux=AuxRequest(lse=True))
    output, lse = flash_attention(q, k, v, sram_bytes=2000)
    close(output, expected)
    close(lse, extra.lse.to(lse.dtype), rtol=1e-6, atol=1e-6)


def test_torchs_own_kernel_agrees():
    q, k, v = torch.randn(3, 2, 3, 50, 16)
    expected = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)
    close(flash_attention(q, k, v, is_causal=True, scale=0.3)[0], expected)
    close(tiled_attention(q, k, v, is_causal=True, scale=0.3), expected)


def test_gradients_by_finite_differences_of_output_and_log_sum_exp():
    operands = [torch.randn(1, 5, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mask = torch.tensor([1, 1, 1, 0, 1], dtype=torch.bool)[:, None].expand(5, 5)

    def flash(*operands):
        output, lse = flash_attention(*operands, mask, is_causal=True, sram_bytes=300)
        return output, lse[:, mask[:, 0]]

    assert torch.autograd.gradcheck(flash, operands)


def test_queries_that_see_nothing_get_zeros_everywhere():
    q, k, v = (torch.randn(1, 6, 4, requires_grad=True) for _ in range(3))
    mask = torch.ones(6, 6, dtype=torch.bool)
    mask[2] = False
    output, lse = flash_attention(q, k, v, mask, sram_bytes=600)
    assert (output[0, 2] == 0).all() and lse[0, 2] == float("-inf")
    dq, dk, dv = torch.autograd.grad(output.sum(), (q, k, v))
    assert (dq[0, 2] == 0).all() and all(g.isfinite().all() for g in (dq, dk, dv))


# What moves.


@settings(max_examples=100)
@given(problems(masked=False))
def test_what_is_counted_is_what_the_formulas_say(problem):
    operands, _, is_causal, sram_bytes = problem
    queries, head_dim = operands[0].shape[-2:]
    counted = Traffic()
    output, _ = flash_attention(
        *operands, is_causal=is_causal, sram_bytes=sram_bytes, traffic=counted
    )
    sizes = {"queries": queries, "keys": operands[1].shape[-2], "head_dim": head_dim}
    sizes |= {"batch_size": 2, "num_attention_heads": 3}
    sizes |= {"bytes_per_element": 8, "bytes_per_statistic": 8}
    sram = {"sram_bytes": sram_bytes, "head_dim": head_dim, "bytes_per_element": 8}
    forward = flash_forward(**sizes, tile=attention_tile(**sram), causal=is_causal)
    assert (counted.bytes_read, counted.bytes_written) == (
        forward.bytes_read,
        forward.bytes_written,
    )
    output.sum().backward()
    tile = attention_tile(**sram, residents=BACKWARD)
    both = forward + flash_backward(**sizes, tile=tile, causal=is_causal)
    assert (counted.bytes_read, counted.bytes_written) == (both.bytes_read, both.bytes_written)


def test_hidden_tiles_are_not_read():
    q, k, v = torch.randn(3, 64, 8)
    counted, half = Traffic(), Traffic()
    mask = (torch.arange(64) < 32).expand(64, 64)
    flash_attention(q, k, v, torch.ones_like(mask), sram_bytes=1024, traffic=counted)
    flash_attention(q, k, v, mask, sram_bytes=1024, traffic=half)
    saved = counted.bytes_read - half.bytes_read
    assert 0.4 < saved / (counted.bytes_read - q.nbytes) < 0.6


@pytest.mark.parametrize("causal_", [False, True])
def test_formulas_with_symbols_are_those_with_numbers(causal_):
    n, d, t = sympy.symbols("n d t", positive=True, integer=True)
    values = {n: 96, d: 4, t: 8}
    for formula in (flash_forward, flash_backward):

        def cost(n, d, t, formula=formula):
            sizes = {"batch_size": 2, "num_attention_heads": 3, "queries": n, "keys": n}
            return formula(**sizes, head_dim=d, tile=t, causal=causal_)

        assert cost(n, d, t).subs(values) == cost(96, 4, 8)


def test_the_traffic_is_within_the_published_bound():
    """Θ(n² d² / M), for M from d² to n d elements; stored scores move Θ(n d + n²) instead."""
    flash, stored = [], []
    for n in (2**12, 2**16, 2**20):
        for d in (16, 64, 256):
            scores = {"batch_size": 1, "num_attention_heads": 1, "queries": n, "keys": n}
            sizes = {**scores, "head_dim": d}
            unfused = attention_scores(**sizes) + softmax(**scores) + weighted_sum(**sizes)
            stored.append(unfused.bytes / 2 / (n * d + n * n))
            for elements in (8 * d * d, n * d // 32, n * d // 4):
                tile = attention_tile(sram_bytes=2 * elements, head_dim=d)
                cost = flash_forward(**sizes, tile=tile)
                flash.append(cost.bytes / 2 / (n * n * d * d / elements))
    assert min(flash) > 5 and max(flash) < 17
    assert min(stored) > 3.5 and max(stored) < 4.1


def test_the_bound_follows_from_the_formula():
    n, d, m = sympy.symbols("n d M", positive=True)
    tile = attention_tile(sram_bytes=2 * m, head_dim=d)
    sizes = {"batch_size": 1, "num_attention_heads": 1, "queries": n, "keys": n, "head_dim": d}
    elements = flash_forward(**sizes, tile=tile).bytes / 2
    assert sympy.limit(sympy.limit(elements / n**2, n, sympy.oo) * m / d**2, m, sympy.oo) == 6


def test_less_moves_than_when_scores_are_stored_and_no_less_than_must():
    scores = {"batch_size": 1, "num_attention_heads": 8, "queries": 4096, "keys": 4096}
    sizes = {**scores, "head_dim": 64}
    flash = flash_forward(**sizes, tile=attention_tile(sram_bytes=164 * 1024, head_dim=64))
    stored = attention_scores(**sizes) + softmax(**scores) + weighted_sum(**sizes)
    assert fused_attention(**sizes).bytes < flash.bytes < stored.bytes / 3
    assert flash.flops == fused_attention(**sizes).flops


@pytest.mark.parametrize("residents", [FORWARD, BACKWARD])
def test_tiles_fill_the_sram_and_no_more(residents):
    def needed(tile, d=8):
        passing = min(tile, d)
        vectors = residents.staying * tile + residents.passing * passing
        return vectors * d + residents.scores * tile * passing

    for sram_bytes in range(256, 20_000, 77):
        sram = {"sram_bytes": sram_bytes, "head_dim": 8, "bytes_per_element": 4}
        tile = attention_tile(**sram, residents=residents)
        assert 4 * needed(tile) <= sram_bytes < 4 * needed(tile + 1)
    m, d = sympy.symbols("M d", positive=True, integer=True)
    tile = attention_tile(sram_bytes=m, head_dim=d, residents=residents)
    assert tile.subs({m: 2 * needed(37), d: 8}) == 37


class LiveBytes(TorchDispatchMode):
    """The most bytes that tensors made inside had at one time."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return result

    def count(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.free, key, size)

    def free(self, key, size):
        self.known.discard(key)
        self.live -= size


def peak_bytes(function):
    with LiveBytes() as mode:
        function()
    return mode.peak


def test_memory_grows_with_the_length_not_with_its_square():
    def attend(kind, n):
        q, k, v = torch.randn(3, 1, 1, n, 16)
        return peak_bytes(lambda: kind(q, k, v))

    kinds = {
        "flash": lambda *qkv: flash_attention(*qkv, sram_bytes=2**13),
        "tiled": tiled_attention,
        "all scores": scaled_dot_product_attention,
    }
    growth = {name: attend(kind, 1024) / attend(kind, 256) for name, kind in kinds.items()}
    assert growth["all scores"] > 12
    assert growth["flash"] < 5 and growth["tiled"] < 5


# Its parts.


@settings(max_examples=50)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 2**31))
def test_online_softmax_does_not_care_how_keys_are_cut(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    keys = sum(lengths)
    scores = 30 * torch.randn(4, keys, generator=generator, dtype=torch.float64)
    scores[torch.rand(4, keys, generator=generator) < 0.4] = float("-inf")
    values = torch.randn(keys, 3, generator=generator, dtype=torch.float64)
    softmax_ = OnlineSoftmax(torch.empty(4, 3, dtype=torch.float64))
    for part in zip(scores.split(lengths, dim=1), values.split(lengths), strict=True):
        softmax_.add(*part)
    output, lse = softmax_.result()
    close(output, scores.softmax(dim=-1).nan_to_num() @ values)
    close(lse, scores.logsumexp(dim=-1))


@settings(max_examples=40)
@given(problems(), st.data())
def test_two_halves_of_the_keys_merge_into_the_whole(problem, data):
    (q, k, v), mask, _, sram_bytes = problem
    cut = data.draw(st.integers(1, k.shape[-2]))
    halves = []
    for cols in (slice(0, cut), slice(cut, None)):
        if k[..., cols, :].shape[-2]:
            part = None if mask is None else mask[..., cols]
            operands = q, k[..., cols, :], v[..., cols, :], part
            halves.append(flash_attention(*operands, sram_bytes=sram_bytes))
    merged = merge_parts(*halves) if len(halves) == 2 else halves[0]
    close(merged, flash_attention(q, k, v, mask, sram_bytes=sram_bytes))


# The fast form.


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("queries, keys", [(1, 1), (300, 300), (300, 4500), (1, 1300)])
@pytest.mark.parametrize("size", [1.0, 40.0])
def test_the_fast_form_is_flash_attention(queries, keys, is_causal, size):
    """Also where scores are so large that 2 to their power would overflow."""
    q, k, v = (size * torch.randn(2, n, 8, dtype=torch.float64) for n in (queries, keys, keys))
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    largest = math.log2(math.e) * q.norm(dim=-1).max() * k.norm(dim=-1).max() / math.sqrt(8)
    assert (largest > SAFE_EXPONENT) == (size > 1)
    expected, _ = dense((q, k, v), None, is_causal)
    output = tiled_attention(q, k, v, is_causal=is_causal)
    close(output, expected)
    close(gradients(output, (q, k, v)), gradients(expected, (q, k, v)))


def test_heads_may_lie_in_memory_as_a_split_leaves_them():
    """Views (batch, heads, length, head_dim) of (batch, length, heads, head_dim)."""
    q, k, v = (x.requires_grad_() for x in torch.randn(3, 2, 70, 3, 8).transpose(2, 3))
    expected, _ = dense((q, k, v), None, True)
    slopes = gradients(expected, (q, k, v))
    for kind in (tiled_attention, lambda *x, **y: flash_attention(*x, **y)[0]):
        output = kind(q, k, v, is_causal=True)
        close(output, expected)
        close(gradients(output, (q, k, v)), slopes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_exact_as_torchs_own_kernel(dtype):
    q, k, v = torch.randn(3, 1, 2, 600, 16).to(dtype).requires_grad_()
    with torch.no_grad():
        exact = scaled_dot_product_attention(q.double(), k.double(), v.double())
        theirs = functional.scaled_dot_product_attention(q, k, v).double() - exact
        for output in (flash_attention(q, k, v, sram_bytes=2**14)[0], tiled_attention(q, k, v)):
            assert output.dtype == dtype
            assert (output.double() - exact).abs().max() < 1.5 * theirs.abs().max()


def test_the_fast_form_keeps_its_digits_in_float32():
    q, k, v = torch.randn(3, 2, 700, 64)
    expected = scaled_dot_product_attention(q.double(), k.double(), v.double(), causal(700))
    ours = tiled_attention(q, k, v, is_causal=True) - expected
    theirs = functional.scaled_dot_product_attention(q, k, v, is_causal=True) - expected
    assert ours.norm() < 1.2 * theirs.norm()


def test_bad_input_is_named(import_unchecked):
    flash = import_unchecked("lib.attention.flash").flash_attention
    chunked = import_unchecked("lib.attention.chunked").chunked_attention
    q, k, v = torch.randn(3, 8, 4)
    with pytest.raises(ValueError, match=r"no tile fits: one row of 4 .* needs 68 bytes .* got 60"):
        flash(q, k, v, sram_bytes=60)
    with pytest.raises(ValueError, match="must be boolean"):
        flash(q, k, v, torch.zeros(8, 8))
    with pytest.raises(ValueError, match=r"\(8, 9\) does not fit scores of shape \(8, 8\)"):
        flash(q, k, v, torch.ones(8, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="chunk must be a positive whole number"):
        chunked(q, k, v, chunk=0)
    with pytest.raises(ValueError, match="queries cannot stand at the end"):
        flash(q, k[:5], v[:5], is_causal=True)
