"""Linear attention, Performer and Linformer: their forms agree, and they estimate what they say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_cases import gradients, operands, seeds

from lib.attention.dot_product import scaled_dot_product_attention
from lib.attention.linear import (
    LinearState,
    causal_linear_attention,
    causal_linear_attention_recurrent,
    elu_plus_one,
    linear_attention,
    linear_attention_weights,
)
from lib.attention.linformer import LinformerAttention
from lib.attention.performer import performer_attention, random_directions, softmax_features

close = torch.testing.assert_close
some = settings(max_examples=40)
lengths = st.integers(1, 20)


def features(inputs):
    q, k, v = inputs
    return elu_plus_one(q), elu_plus_one(k), v


@some
@given(seeds, lengths, lengths)
def test_the_linear_form_is_the_quadratic_one(seed, queries, keys):
    inputs = operands(seed, queries, keys, keys)
    q, k, v = features(inputs)
    weights = linear_attention_weights(q, k)
    close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]))
    output, expected = linear_attention(q, k, v), weights @ v
    close(output, expected)
    close(gradients(output, inputs), gradients(expected, inputs))


@some
@given(seeds, lengths, st.integers(1, 25))
def test_chunks_and_recurrence_are_the_quadratic_causal_form(seed, seq_len, chunk):
    inputs = operands(seed, seq_len)
    q, k, v = features(inputs)
    expected = linear_attention_weights(q, k, is_causal=True) @ v
    for output in (
        causal_linear_attention(q, k, v, chunk=chunk),
        causal_linear_attention_recurrent(q, k, v),
    ):
        close(output, expected)
        close(gradients(output, inputs), gradients(expected, inputs))


def test_the_state_does_not_grow():
    q, k, v = features(operands(0, 50))
    state = LinearState.empty(k, v)
    sizes = set()
    for token in zip(q.unbind(-2), k.unbind(-2), v.unbind(-2), strict=True):
        _, state = state.step(*token)
        sizes.add((state.summed.shape, state.total.shape))
    assert sizes == {((2, 2, 4, 4), (2, 2, 4))}


def test_keys_without_features_are_not_seen_and_nothing_seen_gives_zeros():
    q, k, v = features(operands(1, 6))
    hidden = torch.tensor([True, False, True, True, False, False])
    output = linear_attention(q, k * hidden[:, None], v)
    close(output, linear_attention(q, k[..., hidden, :], v[..., hidden, :]))
    assert (linear_attention(q, k * 0, v) == 0).all()
    assert (causal_linear_attention(q, k * 0, v, chunk=4) == 0).all()


def test_the_future_changes_nothing():
    q, k, v = (x.detach() for x in features(operands(2, 30)))
    before = causal_linear_attention(q, k, v, chunk=8)
    k[..., 17:, :] *= 3
    v[..., 17:, :] -= 5
    after = causal_linear_attention(q, k, v, chunk=8)
    close(before[..., :17, :], after[..., :17, :])
    assert not torch.allclose(before[..., 17:, :], after[..., 17:, :])


def test_elu_plus_one_is_its_formula():
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    close(elu_plus_one(x), torch.where(x > 0, x + 1, x.exp()))


# Performer.


def kernel_estimates(orthogonal, trials=100_000, head_dim=4):
    """exp(q · k / √head_dim) for one pair, from head_dim features at a time; and the truth."""
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, head_dim, generator=generator, dtype=torch.float64)
    q, k = 1.5 * q / q.norm(), 1.5 * k / k.norm()
    w = random_directions(
        trials * head_dim,
        head_dim,
        generator=generator,
        orthogonal=orthogonal,
        dtype=torch.float64,
    )
    x, y = q * head_dim**-0.25, k * head_dim**-0.25
    exponents = w @ (x + y) - (x.square().sum() + y.square().sum()) / 2
    return exponents.exp().view(trials, head_dim).mean(dim=1), (q @ k / head_dim**0.5).exp()


def test_the_features_estimate_softmax_without_bias_and_orthogonal_ones_vary_less():
    spread = {}
    for orthogonal in (True, False):
        estimates, truth = kernel_estimates(orthogonal)
        standard_error = estimates.std() / len(estimates) ** 0.5
        assert abs(estimates.mean() - truth) < 4 * standard_error < 0.02 * truth
        spread[orthogonal] = estimates.var()
    assert spread[True] < 0.95 * spread[False]


def test_features_are_the_formula_up_to_shifts_that_cancel():
    q, k, _ = operands(3, 7)
    w = random_directions(32, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def plain(x):
        x = x * 4**-0.25
        return (x @ w.mT - x.square().sum(dim=-1, keepdim=True) / 2).exp() / 32**0.5

    expected = linear_attention_weights(plain(q), plain(k))
    shifted = [softmax_features(x, w, shared_shift=x is k) for x in (q, k)]
    close(linear_attention_weights(*shifted), expected)
    assert all((x > 0).all() and (x <= 32**-0.5 + 1e-9).all() for x in shifted)


def test_directions_are_orthogonal_within_each_block_and_as_long_as_normal_ones():
    w = random_directions(
        64 * 50, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    gram = w[:64] @ w[:64].T
    close(gram, torch.diag(gram.diagonal()), atol=1e-9, rtol=0)
    mean_square = w.square().sum(dim=-1).mean()
    assert abs(mean_square - 64) < 4 * (2 * 64 / len(w)) ** 0.5
    assert abs(w.mean()) < 4 / w.numel() ** 0.5


@pytest.mark.parametrize("is_causal", [False, True])
def test_performer_comes_nearer_to_softmax_with_more_features(is_causal):
    q, k, v = operands(4, 40, head_dim=8)
    q, k = q / 2, k / 2
    mask = torch.ones(40, 40).tril().bool() if is_causal else None
    expected = scaled_dot_product_attention(q, k, v, mask)
    errors = []
    for num_features in (16, 256, 4096):
        generator = torch.Generator().manual_seed(2)
        w = random_directions(num_features, 8, generator=generator, dtype=torch.float64)
        output = performer_attention(q, k, v, w, is_causal=is_causal)
        errors.append((output - expected).norm() / expected.norm())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.05


# Linformer.


def test_linformer_with_identities_is_attention():
    q, k, v = operands(5, 9)
    attention = LinformerAttention(9, 9).double()
    with torch.no_grad():
        attention.key_projection.copy_(torch.eye(9))
        attention.value_projection.copy_(torch.eye(9))
    close(attention(q, k, v), scaled_dot_product_attention(q, k, v))


@some
@given(seeds, lengths, st.integers(1, 6), st.booleans())
def test_linformer_attends_to_mixtures_of_keys(seed, seq_len, rank, shared):
    q, k, v = operands(seed, seq_len)
    attention = LinformerAttention(
        20, rank, shared=shared, generator=torch.Generator().manual_seed(seed)
    ).double()
    e, f = attention.key_projection[:, :seq_len], attention.value_projection[:, :seq_len]
    assert (e is f) == shared or torch.equal(e, f) == shared
    mixed = [torch.einsum("rn,bhnd->bhrd", *pair) for pair in ((e, k), (f, v))]
    close(attention(q, k, v, scale=0.4), scaled_dot_product_attention(q, *mixed, scale=0.4))
    assert len(list(attention.parameters())) == (1 if shared else 2)


def test_bad_input_is_named(import_unchecked):
    linear = import_unchecked("lib.attention.linear")
    linformer = import_unchecked("lib.attention.linformer")
    performer = import_unchecked("lib.attention.performer")
    q, k, v = torch.rand(3, 1, 1, 10, 4)
    with pytest.raises(ValueError, match="chunk must be a positive whole number"):
        linear.causal_linear_attention(q, k, v, chunk=0)
    with pytest.raises(ValueError, match="10 keys, but the projections were made for at most 8"):
        linformer.LinformerAttention(8, 4)(q, k, v)
    with pytest.raises(ValueError, match="cannot be causal"):
        linformer.LinformerAttention(10, 4)(q, k, v, is_causal=True)
    with pytest.raises(ValueError, match="num_features must be a positive whole number"):
        performer.random_directions(0, 4, generator=torch.Generator())
