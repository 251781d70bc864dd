import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lib.attention.multi_head import (
    MultiHeadAttention,
    merge_heads,
    multi_head_loop,
    repeat_key_value_heads,
    split_heads,
)
from lib.memory.layer import layer_costs, linear_maps
from lib.memory.shapes import ModelShape
from tests.lib.attention.head_cases import (
    Draw,
    TokenCache,
    batches,
    chunks,
    head_counts,
    lengths,
    rotate,
    seeds,
)

few = settings(max_examples=40)


@few
@given(seeds, batches, lengths, lengths, head_counts, st.booleans())
def test_one_module_by_loop_by_steps_and_by_kernel(seed, batch, queries, keys, heads, biased):
    """Self- or cross-attention, any grouping, any mask: three ways to the same numbers."""
    draw = Draw(seed)
    sizes = {"head_dim": 4, "source_size": 7, "bias": biased, "scale": 0.3}
    attention = draw.attention(10, heads, **sizes)
    hidden, source = draw.numbers(batch, queries, 10), draw.numbers(batch, keys, 7)
    mask = draw.mask(batch, heads[0], queries, keys)
    fused = attention(hidden, source, mask=mask)
    steps, weights = attention(hidden, source, mask=mask, return_weights=True)
    torch.testing.assert_close(fused, steps)
    torch.testing.assert_close(fused, multi_head_loop(attention, hidden, source, mask))
    torch.testing.assert_close(weights.sum(dim=-1), mask.any(dim=-1).double())
    again = attention(hidden, keys_values=attention.project_source(source), mask=mask)
    assert torch.equal(fused, again)
    bias = draw.numbers(heads[0], queries, keys)
    fused = attention(hidden, source, mask=mask, bias=bias)
    steps, _ = attention(hidden, source, mask=mask, bias=bias, return_weights=True)
    torch.testing.assert_close(fused, steps)


@few
@given(seeds, batches, lengths, head_counts)
def test_self_attention_is_cross_attention_to_oneself(seed, batch, length, heads):
    draw = Draw(seed)
    attention = draw.attention(12, heads, head_dim=4)
    hidden = draw.numbers(batch, length, 12)
    torch.testing.assert_close(attention(hidden), attention(hidden, hidden))
    torch.testing.assert_close(attention(hidden), multi_head_loop(attention, hidden))
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    expected = attention(hidden, mask=causal)
    torch.testing.assert_close(attention(hidden, is_causal=True), expected)
    steps, _ = attention(hidden, is_causal=True, return_weights=True)
    torch.testing.assert_close(steps, expected)


@few
@given(seeds, batches, lengths, head_counts)
def test_grouped_heads_are_heads_with_repeated_weights(seed, batch, length, heads):
    """Repeated one by one, 0 0 1 1: tiled, 0 1 0 1, the result would be another."""
    draw, (many, groups) = Draw(seed), heads
    grouped = draw.attention(12, heads, head_dim=4)
    whole = MultiHeadAttention(12, many, head_dim=4).double()
    state = grouped.state_dict()
    for name in ("key", "value"):
        for part in (f"{name}.weight", f"{name}.bias"):
            rows = state[part].unflatten(0, (groups, 4)).repeat_interleave(many // groups, dim=0)
            state[part] = rows.flatten(0, 1)
    whole.load_state_dict(state)
    hidden = draw.numbers(batch, length, 12)
    torch.testing.assert_close(grouped(hidden), whole(hidden))


def test_key_value_heads_are_repeated_one_by_one():
    x = torch.arange(2.0)[None, :, None, None]
    assert repeat_key_value_heads(x, 4).flatten().tolist() == [0, 0, 1, 1]
    assert repeat_key_value_heads(x, 2) is x


@few
@given(seeds, batches, lengths, lengths)
def test_heads_are_split_and_merged(seed, batch, length, heads):
    x = Draw(seed).numbers(batch, length, heads * 3)
    split = split_heads(x, heads)
    assert split.shape == (batch, heads, length, 3) and split.data_ptr() == x.data_ptr()
    oracle = rearrange(x, "batch seq (heads dim) -> batch heads seq dim", heads=heads)
    assert torch.equal(split, oracle)
    assert torch.equal(merge_heads(split), x)


@few
@given(seeds, st.integers(2, 7), st.data())
def test_the_future_cannot_change_the_past(seed, length, data):
    draw, cut = Draw(seed), data.draw(st.integers(1, length - 1))
    attention, hidden = draw.attention(12, (4, 2)), draw.numbers(2, length, 12)
    other = torch.cat([hidden[:, :cut], draw.numbers(2, length - cut, 12)], dim=1)
    for options in ({}, {"return_weights": True}):
        results = [attention(x, is_causal=True, **options) for x in (hidden, other)]
        before, after = (result[0] for result in results) if options else results
        torch.testing.assert_close(before[:, :cut], after[:, :cut], rtol=0, atol=1e-14)
        assert not torch.allclose(before[:, cut:], after[:, cut:])


@few
@given(seeds, batches, lengths, lengths, head_counts)
def test_without_positions_order_means_nothing(seed, batch, queries, keys, heads):
    """Permuted queries give permuted results; permuted keys, with their mask, the same results."""
    draw = Draw(seed)
    attention = draw.attention(12, heads, head_dim=4)
    hidden, source = draw.numbers(batch, queries, 12), draw.numbers(batch, keys, 12)
    mask = draw.mask(batch, 1, queries, keys)
    rows = torch.randperm(queries, generator=draw.generator)
    columns = torch.randperm(keys, generator=draw.generator)
    expected = attention(hidden, source, mask=mask)[:, rows]
    shuffled = mask[:, :, rows][..., columns]
    got = attention(hidden[:, rows], source[:, columns], mask=shuffled)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(attention(hidden[:, rows]), attention(hidden)[:, rows])


@pytest.mark.parametrize("return_weights", [False, True])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
def test_who_sees_nothing_gets_the_output_bias_and_finite_gradients(heads, return_weights):
    draw = Draw()
    attention = draw.attention(12, heads)
    hidden, bias = draw.numbers(2, 5, 12, grad=True), draw.numbers(4, 5, 5, grad=True)
    mask = draw.mask(2, 1, 5, 5)
    mask[0], mask[1, :, 3] = False, False
    result = attention(hidden, mask=mask, bias=bias, return_weights=return_weights)
    output = result[0] if return_weights else result
    for blind in (output[0], output[1, 3:4]):
        torch.testing.assert_close(blind, attention.output.bias.expand_as(blind))
    output.square().sum().backward()
    for tensor in (hidden, bias, *attention.parameters()):
        assert tensor.grad.isfinite().all() and tensor.grad.any()
    assert (hidden.grad[0] == 0).all() and (bias.grad[:, 3] == 0).all()


@few
@given(seeds, head_counts, st.integers(1, 8), st.lists(st.integers(1, 7), max_size=4))
def test_cached_decoding_is_the_full_forward(seed, heads, length, cuts):
    """In blocks of any size, positions and grouping included."""
    draw = Draw(seed)
    attention, hidden = draw.attention(12, heads, head_dim=4), draw.numbers(2, length, 12)
    full = attention(hidden, is_causal=True, rotary=lambda x: rotate(x, range(length)))
    cache, outputs = TokenCache(), []
    for block in chunks(length, cuts):
        positions = range(block.start, block.stop)
        outputs.append(
            attention(hidden[:, block], cache=cache, rotary=lambda x, p=positions: rotate(x, p))
        )
    torch.testing.assert_close(torch.cat(outputs, dim=1), full)
    assert cache.length == length
    assert cache.blocks[0][0].shape[1] == attention.num_key_value_heads


def test_a_mask_of_padding_goes_together_with_a_cache():
    draw = Draw()
    attention, hidden = draw.attention(12, (4, 2)), draw.numbers(2, 6, 12)
    padding = torch.arange(6) >= torch.tensor([0, 2])[:, None, None, None]
    full = attention(hidden, mask=padding, is_causal=True)
    cache = TokenCache()
    first = attention(hidden[:, :4], mask=padding[..., :4], cache=cache)
    steps = [attention(hidden[:, 4:5], mask=padding[..., :5], cache=cache)]
    steps.append(attention(hidden[:, 5:], mask=padding, cache=cache, return_weights=True)[0])
    torch.testing.assert_close(torch.cat([first, *steps], dim=1), full)


def test_dropout_is_for_training_and_keeps_the_expectation():
    draw = Draw()
    attention = draw.attention(12, (4, 2), dropout=0.4)
    hidden = draw.numbers(1, 5, 12)
    expected = attention.eval()(hidden)
    assert torch.equal(attention(hidden), expected)
    attention.train()
    many = hidden.expand(20_000, -1, -1)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for options in ({}, {"return_weights": True}):
            result = attention(many, **options)
            output, *weights = result if options else (result,)
            assert not torch.allclose(output[0], expected[0])
            torch.testing.assert_close(output.mean(dim=0), expected[0], atol=0.05, rtol=0)
    whole = torch.ones(4, 5, dtype=torch.float64)
    torch.testing.assert_close(weights[0][0].sum(dim=-1), whole)


@pytest.mark.parametrize("heads", [(8, 8), (8, 2), (8, 1)])
def test_its_sizes_and_flops_are_those_of_the_ledger(heads):
    shape = ModelShape(
        num_layers=1,
        hidden_size=16,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=4,
        intermediate_size=1,
        vocab_size=1,
    )
    attention = MultiHeadAttention(16, *heads, head_dim=4, bias=False)
    maps = {name: getattr(attention, name).weight for name in ("query", "key", "value", "output")}
    expected = {name: linear_maps(shape)[name] for name in maps}
    assert {name: tuple(weight.T.shape) for name, weight in maps.items()} == expected
    costs = layer_costs(shape, batch_size=3, queries=5, keys=5)
    flops = sum(costs[name].flops for name in (*maps, "scores", "weighted sum"))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        attention(torch.ones(3, 5, 16))
    assert counter.get_total_flops() == flops


def test_the_kernel_gets_every_key_value_head_once():
    """No repeated copy: what the kernel reads of the cache is the cache."""
    seen = []

    class Spy(TokenCache):
        def append(self, keys, values):
            seen.extend(super().append(keys, values))
            return seen[-2], seen[-1]

    attention, original = Draw().attention(12, (4, 2)), F.scaled_dot_product_attention
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            F,
            "scaled_dot_product_attention",
            lambda *args, **options: calls.append(args) or original(*args, **options),
        )
        attention(Draw().numbers(1, 1, 12), cache=Spy())
    assert calls[0][1] is seen[0] and calls[0][2] is seen[1]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"num_attention_heads": 5}, "num_attention_heads must divide hidden_size.*12 / 5"),
        ({"num_key_value_heads": 3}, "num_key_value_heads must divide num_attention.*4 / 3"),
        ({"num_key_value_heads": 8}, "num_key_value_heads must divide num_attention.*4 / 8"),
        ({"hidden_size": 0}, "hidden_size must be a positive whole number.*got 0"),
        ({"head_dim": -2}, "head_dim must be a positive whole number.*got -2"),
        ({"source_size": 1.5}, "source_size must be a positive whole number.*got 1.5"),
        ({"num_attention_heads": "4"}, "num_attention_heads must be a positive.*got '4'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
    ],
)
def test_sizes_that_do_not_fit(import_unchecked, given_, message):
    module = import_unchecked("lib.attention.multi_head")
    with pytest.raises(ValueError, match=message):
        module.MultiHeadAttention(**{"hidden_size": 12, "num_attention_heads": 4, **given_})


@pytest.mark.parametrize("return_weights", [False, True])
@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"mask": torch.ones(3, 3)}, r"boolean \(True = may attend\), got torch.float32"),
        ({"mask": torch.ones(3, 5) > 0}, r"mask of shape \(3, 5\) does not fit"),
        ({"mask": torch.ones(3, 3), "is_causal": True}, "must be boolean"),
        ({"bias": torch.ones(5, 3, 3)}, r"bias of shape \(5, 3, 3\) does not fit"),
        ({"rotary": lambda x: x, "source": torch.ones(2, 3, 12)}, "rotary .* positions of hidden"),
        ({"cache": TokenCache(), "source": torch.ones(2, 3, 12)}, "give keys_values=project_sou"),
        ({"source": torch.ones(2, 3, 12), "keys_values": ()}, "source or its keys_values, not b"),
    ],
)
def test_calls_that_do_not_fit(import_unchecked, return_weights, given_, message):
    attention = import_unchecked("lib.attention.multi_head").MultiHeadAttention(12, 4)
    with pytest.raises(ValueError, match=message):
        attention(torch.ones(2, 3, 12), return_weights=return_weights, **given_)


def test_it_is_an_ordinary_module():
    attention = MultiHeadAttention(12, 4, 2, bias=False)
    assert {name for name, _ in attention.named_parameters()} == {
        "query.weight",
        "key.weight",
        "value.weight",
        "output.weight",
    }
    assert isinstance(attention, nn.Module)
    output = attention.to(torch.bfloat16)(torch.ones(1, 3, 12, dtype=torch.bfloat16))
    assert output.dtype == torch.bfloat16 and output.shape == (1, 3, 12)
