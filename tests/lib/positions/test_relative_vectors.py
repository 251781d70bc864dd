"""Shaw and Transformer-XL: the fast forms, the loops, and Hugging Face's relatives of both."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2BertConfig, XLNetConfig
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import (
    Wav2Vec2BertSelfAttention as KeyTermAttention,
)
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import (
    _apply_relative_key_position_encoding,
)
from transformers.models.xlnet.modeling_xlnet import XLNetRelativeAttention

from lib.attention import attend
from lib.masks import causal
from lib.positions import (
    ShawPositions,
    TransformerXLPositions,
    clipped_distances,
    relative_shift,
    shaw_scores,
    shaw_scores_loop,
    shaw_values,
    shaw_values_loop,
    sinusoidal_table,
    transformer_xl_scores,
    transformer_xl_scores_loop,
)

few = settings(max_examples=15)
sides = st.integers(1, 7)


def vectors(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# Shaw


@few
@given(sides, st.integers(0, 5), st.integers(1, 4), st.integers(0, 99))
def test_shaw_is_the_papers_formula_with_both_terms(queries, past, max_distance, seed):
    keys, rows = queries + past, 2 * max_distance + 1
    q, k, v = vectors(queries, 6, seed=seed), vectors(keys, 6, seed=1), vectors(keys, 4, seed=2)
    key_table, value_table = vectors(rows, 6, seed=3), vectors(rows, 4, seed=4)
    scores = shaw_scores(q, k, key_table)
    torch.testing.assert_close(scores, shaw_scores_loop(q, k, key_table))
    output, weights = attend(scores, v)
    torch.testing.assert_close(
        shaw_values(weights, value_table), shaw_values_loop(weights, value_table)
    )
    # Equations 3 and 4 of the paper, with a vector for every pair.
    rows = clipped_distances(queries, keys, max_distance=max_distance)
    e = torch.einsum("qd,qkd->qk", q, k + key_table[rows]) / 6**0.5
    z = torch.einsum("qk,qkd->qd", e.softmax(-1), v + value_table[rows])
    torch.testing.assert_close(output + shaw_values(weights, value_table), z)


@few
@given(sides, st.integers(0, 5), st.integers(1, 4))
def test_clipped_distances_are_key_minus_query(queries, past, max_distance):
    rows = clipped_distances(queries, queries + past, max_distance=max_distance)
    for i in range(queries):
        for j in range(queries + past):
            clipped = max(-max_distance, min(max_distance, j - (past + i)))
            assert rows[i, j] == max_distance + clipped


@few
@given(sides, st.integers(1, 4), st.integers(0, 99))
def test_the_key_term_is_hugging_faces(seq_len, max_distance, seed):
    config = Wav2Vec2BertConfig(
        hidden_size=12,
        num_attention_heads=2,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=max_distance,
        right_max_position_embeddings=max_distance,
    )
    theirs = KeyTermAttention(config).double()
    q, k = vectors(3, 2, seq_len, 6, seed=seed), vectors(3, 2, seq_len, 6, seed=1)
    _, bias = _apply_relative_key_position_encoding(theirs, q, k)
    ours = shaw_scores(q, k, theirs.distance_embedding.weight)
    torch.testing.assert_close(ours, q @ k.mT / 6**0.5 + bias)


def test_shaws_module_gives_both_terms_and_learns_both_tables():
    positions = ShawPositions(3, 4, generator=torch.Generator().manual_seed(0)).double()
    q, k, v = (vectors(2, 5, 6, 4, seed=seed) for seed in range(3))
    output, weights = attend(positions.scores(q, k), v, causal(6))
    (output + positions.values(weights)).sum().backward()
    learned = {name: p.grad.abs().sum(-1) > 0 for name, p in positions.named_parameters()}
    # A causal mask leaves nothing to learn of distances above 0.
    assert learned["key_table"].tolist() == [True] * 4 + [False] * 3
    assert learned["value_table"].tolist() == [True] * 4 + [False] * 3


@few
@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 99))
def test_shaws_scores_of_equal_tokens_depend_on_the_distance_only(max_distance, by, seed):
    q, k = (vectors(1, 6, seed=seed + s).expand(9, 6) for s in (0, 1))
    scores = shaw_scores(q, k, vectors(2 * max_distance + 1, 6, seed=2))
    torch.testing.assert_close(scores[by:, by:], scores[: 9 - by, : 9 - by])


# Transformer-XL


@few
@given(st.integers(1, 3), sides, st.integers(0, 5), st.integers(0, 99))
def test_transformer_xl_is_the_papers_four_terms(heads, queries, past, seed):
    keys = queries + past
    q, k = vectors(2, heads, queries, 6, seed=seed), vectors(2, heads, keys, 6, seed=1)
    relative, u, v = vectors(heads, keys, 6, seed=2), *vectors(2, heads, 6, seed=3)
    scores = transformer_xl_scores(q, k, relative, u, v)
    for batch in range(2):
        for head in range(heads):
            loop = transformer_xl_scores_loop(
                q[batch, head], k[batch, head], relative[head], u[head], v[head]
            )
            torch.testing.assert_close(scores[batch, head], loop)


@few
@given(sides, st.integers(0, 5), st.integers(0, 99))
def test_the_shift_hands_each_product_to_the_key_at_its_distance(queries, past, seed):
    keys = queries + past
    by_distance = vectors(2, queries, keys, seed=seed)
    shifted = relative_shift(by_distance)
    for i in range(queries):
        for j in range(keys):
            distance = past + i - j
            expected = by_distance[:, i, keys - 1 - distance] if distance >= 0 else 0
            assert (shifted[:, i, j] == expected).all()


@few
@given(sides, st.integers(0, 5), st.integers(0, 99))
def test_the_modules_weights_are_those_of_hugging_faces_xlnet(queries, past, seed):
    """XLNet computes Transformer-XL's scores; under a causal mask the two are the same."""
    keys = queries + past
    positions = TransformerXLPositions(2, 4, 8).double()
    theirs = XLNetRelativeAttention(XLNetConfig(d_model=8, n_head=2, dropout=0.0)).double()
    with torch.no_grad():
        for number, parameter in enumerate(positions.parameters()):
            parameter.copy_(vectors(*parameter.shape, seed=seed + number))
        theirs.r_w_bias.copy_(positions.content_bias)
        theirs.r_r_bias.copy_(positions.position_bias)
    q, k = vectors(3, 2, queries, 4, seed=seed), vectors(3, 2, keys, 4, seed=seed + 9)
    hidden = vectors(3, 2, keys, 4, seed=8)
    # Theirs wants the distances keys, ..., 1, 0, -1, ..., 1 - queries; those below 0 are masked.
    r = torch.zeros(keys + queries, 2, 4, dtype=torch.float64)
    r[1 : keys + 1] = positions.relative(keys).movedim(0, 1).flip(0)
    mask = ~causal(queries, keys)
    _, weights = theirs.rel_attn_core(
        *(x.permute(2, 0, 1, 3) for x in (q, k, hidden)),
        r[:, None].expand(-1, 3, -1, -1),
        attn_mask=mask[:, :, None, None].double(),
        output_attentions=True,
    )
    _, ours = attend(positions(q, k), hidden, ~mask)
    torch.testing.assert_close(ours, weights.permute(2, 3, 0, 1))


def test_a_segment_with_its_memory_scores_as_the_whole_text_does():
    positions = TransformerXLPositions(2, 4, 8, generator=torch.Generator().manual_seed(1)).double()
    q, k = vectors(2, 9, 4), vectors(2, 9, 4, seed=1)
    whole = positions(q, k)
    torch.testing.assert_close(positions(q[:, -3:], k), whole[:, -3:])
    # Without the memory the distances stay the same, so the scores do too.
    torch.testing.assert_close(positions(q[:, -3:], k[:, -3:]).tril(), whole[:, -3:, -3:].tril())


def test_relative_vectors_are_projected_sinusoids():
    positions = TransformerXLPositions(3, 4, 10).double()
    r = positions.relative(6)
    table = sinusoidal_table(6, 10, dtype=torch.float64)
    for head in range(3):
        matrix = positions.projection[4 * head : 4 * head + 4]
        torch.testing.assert_close(r[head], torch.stack([matrix @ row for row in table]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.ShawPositions(0, 4), "max_distance must be a positive whole number.*got 0"),
        (lambda p: p.clipped_distances(3, max_distance=0), "max_distance must be .*got 0"),
        (lambda p: p.clipped_distances(3, 2, max_distance=1), "3 queries cannot stand"),
        (
            lambda p: p.shaw_scores(torch.ones(3, 4), torch.ones(3, 4), torch.ones(4, 4)),
            "an odd number from 3, got 4",
        ),
        (lambda p: p.shaw_values(torch.ones(3, 3), torch.ones(1, 4)), "odd number from 3, got 1"),
        (
            lambda p: p.TransformerXLPositions(2, 4, 7)(torch.ones(2, 3, 4), torch.ones(2, 3, 4)),
            "number must be even, got 7",
        ),
        (lambda p: p.TransformerXLPositions(0, 4, 8), "num_attention_heads must be a positive"),
    ],
)
def test_bad_input_is_refused(import_unchecked, call, message):
    with pytest.raises(ValueError, match=message):
        call(import_unchecked("lib.positions"))
