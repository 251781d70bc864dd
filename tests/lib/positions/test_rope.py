"""RoPE against Hugging Face's Llama and GPT-J, in float64, and what it promises."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as gptj_rotary
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as llama_rotary

from lib.positions import (
    angular_frequencies,
    apply_rotary,
    ntk_base,
    rotary_permutation,
    rotary_table,
)

head_dims = st.sampled_from([2, 4, 6, 16, 64])
few = settings(max_examples=15)


def vectors(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def table(positions, head_dim, **options):
    return rotary_table(torch.as_tensor(positions), head_dim, dtype=torch.float64, **options)


def turn(x, position, *, interleaved=False):
    """One vector at one position."""
    turned = apply_rotary(x[None], *table([position], len(x)), interleaved=interleaved)
    return turned[0]


@few
@given(head_dims, st.integers(0, 500), st.integers(0, 99), st.booleans())
def test_it_turns_each_pair_by_its_angle(head_dim, position, seed, interleaved):
    """As complex numbers: x_a + i x_b times e^(i · position · frequency)."""
    x = vectors(head_dim, seed=seed)
    half = head_dim // 2
    for pair in range(half):
        a, b = (2 * pair, 2 * pair + 1) if interleaved else (pair, pair + half)
        angle = position * 10_000 ** (-2 * pair / head_dim)
        expected = complex(x[a], x[b]) * complex(math.cos(angle), math.sin(angle))
        got = turn(x, position, interleaved=interleaved)
        assert complex(got[a], got[b]) == pytest.approx(expected, abs=1e-10)


@few
@given(head_dims, st.booleans(), st.integers(0, 99))
def test_halves_are_hugging_faces_llama_and_neighbours_its_gptj(head_dim, interleaved, seed):
    q, k = vectors(2, 3, 9, head_dim, seed=seed), vectors(2, 1, 9, head_dim, seed=seed + 1)
    cos, sin = table(range(4, 13), head_dim)
    ours = [apply_rotary(x, cos, sin, interleaved=interleaved) for x in (q, k)]
    if interleaved:
        theirs = [gptj_rotary(x.mT.movedim(-1, 1), sin[None], cos[None]) for x in (q, k)]
        theirs = [x.movedim(1, -1).mT for x in theirs]
    else:
        theirs = llama_rotary(q, k, cos.repeat(1, 2)[None], sin.repeat(1, 2)[None])
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("kind", "extra", "ours"),
    [
        ("default", {}, {}),
        ("linear", {"factor": 4.0}, {"interpolation": 4.0}),
        ("dynamic", {"factor": 1.0}, {"base": ntk_base(50_000.0, 4, 32)}),
    ],
)
def test_tables_and_scalings_are_hugging_faces(kind, extra, ours):
    """Dynamic scaling with a factor of 1, read at four times the trained length, is NTK by 4."""
    config = LlamaConfig(
        hidden_size=64,
        num_attention_heads=2,
        max_position_embeddings=128,
        rope_parameters={"rope_type": kind, "rope_theta": 50_000.0, **extra},
    )
    if kind == "default":
        frequencies = LlamaRotaryEmbedding(config).inv_freq
    else:
        frequencies, _ = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=512)
    options = {"base": 50_000.0, **ours}
    angles = torch.outer(torch.arange(40).double(), frequencies.double())
    cos, sin = table(range(40), 32, **options)
    torch.testing.assert_close(cos, angles.cos(), rtol=0, atol=1e-5)
    torch.testing.assert_close(sin, angles.sin(), rtol=0, atol=1e-5)


def test_llamas_own_tables_agree_in_float32():
    rotary = LlamaRotaryEmbedding(LlamaConfig(hidden_size=64, num_attention_heads=2))
    positions = torch.tensor([[0, 1, 2, 50], [7, 8, 9, 10]])
    cos, sin = rotary(torch.zeros(1), positions)
    ours = rotary_table(positions, 32)
    torch.testing.assert_close(ours[0], cos[..., :16], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours[1], sin[..., 16:], rtol=0, atol=1e-5)
    assert ours[0].dtype == torch.float32


@few
@given(
    head_dims,
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.integers(0, 5000),
    st.booleans(),
    st.integers(0, 99),
)
def test_scores_depend_on_the_distance_only(head_dim, here, there, by, interleaved, seed):
    q, k = vectors(2, head_dim, seed=seed)

    def score(query, key):
        return turn(q, query, interleaved=interleaved) @ turn(k, key, interleaved=interleaved)

    torch.testing.assert_close(score(here, there), score(here + by, there + by), rtol=0, atol=1e-9)
    torch.testing.assert_close(score(here, here), q @ k)
    torch.testing.assert_close(turn(q, here).norm(), q.norm())


@few
@given(head_dims, st.integers(0, 99))
def test_a_permutation_lies_between_the_layouts(head_dim, seed):
    x = vectors(3, 5, head_dim, seed=seed)
    order = rotary_permutation(head_dim)
    cos, sin = table(range(5), head_dim)
    neighbours = apply_rotary(x, cos, sin, interleaved=True)
    torch.testing.assert_close(apply_rotary(x[..., order], cos, sin), neighbours[..., order])
    assert sorted(order.tolist()) == list(range(head_dim))
    assert torch.equal(x[..., order][..., order.argsort()], x)


def test_permuted_weights_turn_one_layout_into_the_other():
    """What a converter of checkpoints does: permute the rows of W_Q and W_K within each head."""
    hidden, w_q, w_k = vectors(6, 12), vectors(16, 12, seed=1), vectors(16, 12, seed=2)
    order, (cos, sin) = rotary_permutation(8), table(range(6), 8)

    def scores(w_q, w_k, interleaved):
        q, k = ((hidden @ w.mT).unflatten(-1, (2, 8)).movedim(1, 0) for w in (w_q, w_k))
        turned = [apply_rotary(x, cos, sin, interleaved=interleaved) for x in (q, k)]
        return turned[0] @ turned[1].mT

    permuted = [w.unflatten(0, (2, 8))[:, order].flatten(0, 1) for w in (w_q, w_k)]
    torch.testing.assert_close(scores(w_q, w_k, True), scores(*permuted, False))


def test_sequences_may_have_positions_of_their_own():
    x = vectors(2, 3, 4, 8)
    positions = torch.tensor([[0, 1, 2, 3], [5, 9, 9, 1]])
    cos, sin = table(positions[:, None], 8)
    together = apply_rotary(x, cos, sin)
    for row, sequence, places in zip(together, x, positions, strict=True):
        torch.testing.assert_close(row, apply_rotary(sequence, *table(places, 8)))


@few
@given(st.sampled_from([4, 6, 64, 128]), st.floats(1, 64), st.floats(2, 1e6))
def test_ntk_slows_the_slowest_pair_by_the_scale_and_the_fastest_not_at_all(head_dim, scale, base):
    before = angular_frequencies(head_dim, base)
    after = angular_frequencies(head_dim, ntk_base(base, scale, head_dim))
    slower = before / after
    assert slower[0] == 1
    assert slower[-1].item() == pytest.approx(scale)
    assert (slower.diff() >= -1e-9).all()


def test_interpolation_reads_between_the_positions():
    cos, sin = table(range(33), 16, interpolation=4.0)
    whole_cos, whole_sin = table(range(9), 16)
    torch.testing.assert_close(cos[::4], whole_cos)
    torch.testing.assert_close(sin[::4], whole_sin)


def test_float32_angles_would_be_off_by_a_thousandth():
    """Why the table computes in float64: the worst angle up to position 10,000."""
    frequencies = 1 / 10_000 ** (torch.arange(0, 128, 2).float() / 128)
    positions = torch.arange(10_001)
    in_float32 = torch.outer(positions.float(), frequencies)
    error = in_float32.double() - torch.outer(positions.double(), angular_frequencies(128))
    assert 5e-4 < error.abs().max() < 2e-3


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("rotary_table", (torch.arange(3), 7), "number must be even, got 7"),
        ("rotary_table", (torch.arange(3), 0), "size must be a positive whole number.*got 0"),
        ("rotary_permutation", (5,), "an even head size, got 5"),
        ("ntk_base", (1e4, 2, 2), "an even head size from 4, got 2"),
        ("ntk_base", (1e4, 0, 8), "scale must be a number above zero, got 0"),
        (
            "apply_rotary",
            (torch.ones(3, 8), torch.ones(3, 3), torch.ones(3, 3)),
            "tables for a head size of 6 cannot turn one of 8",
        ),
    ],
)
def test_bad_input_is_refused(import_unchecked, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(import_unchecked("lib.positions"), name)(*arguments)
    with pytest.raises(ValueError, match="interpolation must be a number above zero"):
        rotary_table(torch.arange(3), 8, interpolation=0.0)
