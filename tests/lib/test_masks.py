"""Every mask against its definition, read out pair by pair, and against other libraries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.flex_attention import create_mask
from transformers import BigBirdConfig, BigBirdModel, LongformerConfig, LongformerModel

from lib import masks
from lib.attention import attend

sides = st.integers(1, 12)
few = settings(max_examples=20)


@st.composite
def lengths(draw):
    queries = draw(sides)
    return queries, queries + draw(st.integers(0, 6))


def read_out(may_attend, queries, keys):
    """A mask by its definition: a function of the positions of query and key."""
    first = keys - queries
    rows = [[bool(may_attend(first + i, j)) for j in range(keys)] for i in range(queries)]
    return torch.tensor(rows)


def random(seed=0):
    return torch.Generator().manual_seed(seed)


# One name: how to make the mask, its definition, whether no query sees a later key.
DEFINED = {
    "causal": (masks.causal, {}, lambda i, j: j <= i, True),
    "prefix": (masks.prefix_lm, {"prefix": 3}, lambda i, j: j < 3 or j <= i, False),
    "window": (masks.sliding_window, {"window": 3}, lambda i, j: i - 3 < j <= i, True),
    "window to both sides": (
        masks.sliding_window,
        {"window": 3, "causal": False},
        lambda i, j: j in range(i - 2, i + 3),
        False,
    ),
    "dilated": (
        masks.dilated,
        {"window": 3, "dilation": 2},
        lambda i, j: j in (i, i - 2, i - 4),
        True,
    ),
    "dilated to both sides": (
        masks.dilated,
        {"window": 2, "dilation": 3, "causal": False},
        lambda i, j: j in (i - 3, i, i + 3),
        False,
    ),
    "strided": (masks.strided, {"stride": 4}, lambda i, j: abs(i - j) in (0, 4, 8, 12, 16), False),
    "fixed": (
        masks.fixed,
        {"block_size": 4, "summary": 2},
        lambda i, j: j in (2, 3, 6, 7, 10, 11, 14, 15),
        False,
    ),
    "global": (
        masks.global_tokens,
        {"positions": [0, 2]},
        lambda i, j: i in (0, 2) or j in (0, 2),
        False,
    ),
    "Sparse Transformer, strided": (
        masks.sparse_transformer_strided,
        {"stride": 3},
        lambda i, j: j <= i and (j in range(max(0, i - 3), i + 1) or (i - j) % 3 == 0),
        True,
    ),
    "Sparse Transformer, fixed": (
        masks.sparse_transformer_fixed,
        {"block_size": 4, "summary": 2},
        lambda i, j: j <= i and (j // 4 == i // 4 or j % 4 in (2, 3)),
        True,
    ),
    "Longformer": (
        masks.longformer,
        {"window": 2, "dilation": 2, "positions": [1]},
        lambda i, j: abs(i - j) in (0, 2) or 1 in (i, j),
        False,
    ),
}


@pytest.mark.parametrize("name", DEFINED)
@few
@given(sizes=lengths())
def test_a_mask_is_its_definition_pair_by_pair(name, sizes):
    make, options, may_attend, in_order = DEFINED[name]
    queries, keys = sizes
    if keys < 3 and name in ("prefix", "global", "Longformer"):
        keys += 3
    mask = make(queries, keys, **options)
    assert mask.dtype == torch.bool
    assert torch.equal(mask, read_out(may_attend, queries, keys))
    assert not in_order or not (mask & ~masks.causal(queries, keys)).any()


@pytest.mark.parametrize("name", DEFINED)
def test_the_last_queries_see_what_they_see_in_the_whole(name):
    """Decoding two tokens against a cache of twelve is the last two rows of all twelve."""
    make, options, *_ = DEFINED[name]
    assert torch.equal(make(2, 12, **options), make(12, **options)[-2:])


@few
@given(lengths())
def test_causal_is_torchs_lower_right_triangle(sizes):
    queries, keys = sizes
    theirs = torch.empty(queries, keys)
    theirs = causal_lower_right(*sizes)._materialize(theirs.device)
    assert torch.equal(masks.causal(*sizes), theirs)
    assert masks.causal(*sizes)[-1].all()


def test_masks_are_those_that_flex_attention_makes():
    def theirs(rule, queries, keys):
        return create_mask(rule, None, None, queries, keys, device="cpu")[0, 0]

    offset = 5
    rules = {
        "causal": lambda b, h, q, k: q + offset >= k,
        "window": lambda b, h, q, k: (q + offset >= k) & (q + offset - k < 3),
        "prefix": lambda b, h, q, k: (k < 3) | (q + offset >= k),
    }
    for name, rule in rules.items():
        make, options, *_ = DEFINED[name]
        assert torch.equal(make(11, 16, **options), theirs(rule, 11, 16)), name
    ids = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    packed = theirs(lambda b, h, q, k: (ids[q] == ids[k]) & (q >= k), 8, 8)
    assert torch.equal((masks.documents(ids[None]) & masks.causal(8))[0, 0], packed)


# Padding, documents, blocks, random keys


@few
@given(st.lists(st.integers(0, 7), min_size=1, max_size=5))
def test_padding_hides_what_lies_beyond_each_length(lengths):
    mask = masks.padding(torch.tensor(lengths), 7)
    assert mask.shape == (len(lengths), 1, 1, 7)
    for row, length in zip(mask[:, 0, 0], lengths, strict=True):
        assert row.tolist() == [True] * length + [False] * (7 - length)


def test_a_sequence_of_length_zero_attends_to_nothing():
    scores = torch.randn(2, 1, 3, 4, generator=random(), requires_grad=True)
    output, weights = attend(scores, torch.ones(2, 1, 4, 2), masks.padding(torch.tensor([0, 2]), 4))
    output.sum().backward()
    assert (output[0] == 0).all() and (weights[0] == 0).all() and (scores.grad[0] == 0).all()
    torch.testing.assert_close(output[1], torch.ones(1, 3, 2))


@few
@given(st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_documents_see_each_other_only_within(ids):
    mask = masks.documents(torch.tensor([ids]))
    assert torch.equal(mask[0, 0], read_out(lambda i, j: ids[i] == ids[j], len(ids), len(ids)))


def test_packed_documents_come_out_as_if_alone():
    q, v = (torch.randn(1, 1, 7, 4, generator=random(s), dtype=torch.float64) for s in (1, 2))
    mask = masks.documents(torch.tensor([[0, 0, 0, 1, 1, 1, 1]])) & masks.causal(7)
    packed, _ = attend(q @ q.mT, v, mask)
    for part in (slice(0, 3), slice(3, 7)):
        alone, _ = attend(
            q[:, :, part] @ q[:, :, part].mT, v[:, :, part], masks.causal(part.stop - part.start)
        )
        torch.testing.assert_close(packed[:, :, part], alone)


@few
@given(sides, sides, st.integers(1, 4), st.integers(0, 99))
def test_block_sparse_repeats_each_entry_as_a_square(rows, cols, block_size, seed):
    layout = torch.rand(rows, cols, generator=random(seed)) < 0.5
    mask = masks.block_sparse(layout, block_size)
    expected = [
        [layout[i // block_size, j // block_size].item() for j in range(cols * block_size)]
        for i in range(rows * block_size)
    ]
    assert mask.tolist() == expected
    assert masks.density(mask) == masks.density(layout)


@few
@given(lengths(), st.integers(0, 12), st.integers(0, 99))
def test_random_keys_are_as_many_as_asked_for_and_different(sizes, count, seed):
    queries, keys = sizes
    count = min(count, keys)
    mask = masks.random_keys(queries, keys, count=count, generator=random(seed))
    assert (mask.sum(-1) == count).all()
    assert torch.equal(mask, masks.random_keys(queries, keys, count=count, generator=random(seed)))
    window = masks.sliding_window(queries, keys, window=2)
    more = masks.random_keys(queries, keys, count=count, generator=random(seed), beside=window)
    assert not (more & window).any()
    hidden = (~window).sum(-1)
    assert torch.equal(more.sum(-1), hidden.clamp(max=count))


def test_random_keys_are_drawn_evenly():
    """Drawn 4,000 times, 2 out of 5: each key in about 1,600 draws, standard deviation 31."""
    generator = random()
    counts = sum(masks.random_keys(5, count=2, generator=generator).sum(0) for _ in range(800))
    assert counts.sum() == 2 * 4_000
    assert (counts - 1_600).abs().max() < 5 * math.sqrt(4_000 * 0.4 * 0.6)


# Published patterns


@few
@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 3))
def test_what_a_sparse_transformer_hides_is_two_steps_away(stride, blocks, summary):
    """Child et al. ask for it: information from every key can reach every query in two steps."""
    seq_len = stride * blocks
    strided = masks.sparse_transformer_strided(seq_len, stride=stride).float()
    assert ((strided @ strided > 0) == masks.causal(seq_len)).all()
    fixed = masks.sparse_transformer_fixed(
        seq_len, block_size=stride, summary=min(summary, stride)
    ).float()
    assert ((fixed @ fixed > 0) == masks.causal(seq_len)).all()


@few
@given(st.integers(3, 10), st.integers(1, 3), st.integers(0, 3), st.integers(0, 99))
def test_bigbird_is_window_random_and_global_blocks(blocks, block_size, random_blocks, seed):
    mask = masks.bigbird(
        blocks * block_size,
        block_size=block_size,
        random_blocks=min(random_blocks, blocks),
        generator=random(seed),
    )
    layout = mask[::block_size, ::block_size]
    assert torch.equal(mask, masks.block_sparse(layout, block_size))
    ends = (0, blocks - 1)
    for i in range(blocks):
        sure = {j for j in range(blocks) if abs(i - j) <= 1 or i in ends or j in ends}
        seen = set(layout[i].nonzero().flatten().tolist())
        assert sure <= seen
        assert len(seen) == min(blocks, len(sure) + random_blocks)


@pytest.fixture(scope="module")
def bigbird_weights():
    """Attention weights of Hugging Face's BigBird, spread out over 12 blocks of 4 tokens."""
    config = BigBirdConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        block_size=4,
        num_random_blocks=3,
        attention_type="block_sparse",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    np.random.seed(0)
    torch.manual_seed(0)
    # Random blocks are drawn in training mode only; out of it they are all block 0.
    model = BigBirdModel(config).train()
    tokens = torch.randint(20, (1, 48))
    return model(tokens, output_attentions=True).attentions[0]


def test_bigbird_is_hugging_faces_but_for_the_draw(bigbird_weights):
    theirs = bigbird_weights[0] > 0
    sure = masks.bigbird(48, block_size=4, random_blocks=0, generator=random())
    ours = masks.bigbird(48, block_size=4, random_blocks=3, generator=random())
    for head in theirs:
        assert (head | ~sure).all()
        assert torch.equal(head, masks.block_sparse(head[::4, ::4], 4))
        assert torch.equal(head.sum(-1), ours.sum(-1))


def test_longformer_is_hugging_faces():
    """Change one token's hidden state: the queries that notice are those that may attend to it."""
    config = LongformerConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        attention_window=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    model = LongformerModel(config, add_pooling_layer=False).double().eval()
    hidden = torch.randn(1, 24, 16, dtype=torch.float64, requires_grad=True)
    chosen = torch.zeros(1, 24, dtype=torch.long)
    chosen[0, [0, 11]] = 1
    output = model(inputs_embeds=hidden, global_attention_mask=chosen).last_hidden_state[0]
    slopes = [torch.autograd.grad(row[0], hidden, retain_graph=True)[0][0] for row in output]
    noticed = torch.stack([slope.abs().sum(-1) for slope in slopes])
    assert torch.equal(noticed > 0, masks.longformer(24, window=5, positions=[0, 11]))


# Density in closed form


@few
@given(st.integers(1, 40), st.integers(1, 40))
def test_density_of_causal_and_window(seq_len, window):
    assert masks.causal(seq_len).sum() == seq_len * (seq_len + 1) // 2
    w = min(window, seq_len)
    pairs = w * seq_len - w * (w - 1) // 2
    one_side = masks.sliding_window(seq_len, window=window)
    assert masks.density(one_side) == pytest.approx(pairs / seq_len**2, rel=1e-12)
    both = masks.sliding_window(seq_len, window=window, causal=False)
    assert both.sum() == 2 * pairs - seq_len


@few
@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40))
def test_density_of_prefix_and_global(seq_len, prefix, globals_):
    p, g = min(prefix, seq_len), min(globals_, seq_len)
    assert masks.prefix_lm(seq_len, prefix=p).sum() == (
        seq_len * (seq_len + 1) // 2 + p * (p - 1) // 2
    )
    mask = masks.global_tokens(seq_len, positions=range(g))
    assert mask.sum() == 2 * g * seq_len - g * g


@few
@given(st.integers(1, 6), st.integers(1, 6))
def test_density_of_the_sparse_transformer(stride, blocks):
    """Whole blocks: each query sees its stride, and one more for every whole stride before."""
    seq_len = stride * blocks
    before = stride * blocks * (blocks - 1) // 2
    recent = stride * seq_len - stride * (stride - 1) // 2
    strided = masks.sparse_transformer_strided(seq_len, stride=stride)
    assert strided.sum() == recent + before
    fixed = masks.sparse_transformer_fixed(seq_len, block_size=stride)
    assert fixed.sum() == blocks * stride * (stride + 1) // 2 + before


# Putting masks together


@few
@given(lengths(), st.permutations([0, 1, 2]))
def test_the_order_of_combining_does_not_matter(sizes, order):
    queries, keys = sizes
    parts = [
        masks.causal(queries, keys),
        masks.padding(torch.tensor([keys, 1]), keys),
        masks.strided(queries, keys, stride=2)[None],
    ]
    together = masks.combine(*(parts[index] for index in order))
    assert together.shape == (2, 1, queries, keys)
    assert torch.equal(together, parts[0] & parts[1] & parts[2])
    assert torch.equal(masks.combine(together, *parts), together)
    assert torch.equal(masks.combine(parts[0]), parts[0])


@few
@given(lengths())
def test_special_cases_are_the_simpler_masks(sizes):
    keys = sizes[1]
    assert torch.equal(masks.sliding_window(*sizes, window=keys), masks.causal(*sizes))
    assert torch.equal(masks.prefix_lm(*sizes, prefix=0), masks.causal(*sizes))
    assert masks.prefix_lm(*sizes, prefix=keys).all()
    assert masks.strided(*sizes, stride=1).all()
    assert masks.fixed(*sizes, block_size=3, summary=3).all()
    assert not masks.global_tokens(*sizes, positions=[]).any()
    assert masks.random_keys(*sizes, count=keys, generator=random()).all()


@few
@given(lengths(), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_added_to_the_scores_it_gives_the_same_softmax(sizes, dtype):
    mask = masks.sliding_window(*sizes, window=2)
    additive = masks.to_additive(mask, dtype)
    assert additive.dtype == dtype
    scores = torch.randn(*sizes, generator=random()).to(dtype)
    _, weights = attend(scores, torch.ones(sizes[1], 1, dtype=dtype), mask)
    torch.testing.assert_close((scores + additive).softmax(-1), weights)


# What is refused


@pytest.mark.parametrize(
    ("name", "arguments", "options", "message"),
    [
        ("causal", (5, 3), {}, "5 queries cannot stand at the end of only 3 keys"),
        ("causal", (0,), {}, "queries must be a positive whole number.*got 0"),
        ("causal", (2, -1), {}, "keys must be a positive whole number.*got -1"),
        ("causal", (2.0,), {}, "queries must be a positive whole number.*got 2.0"),
        ("sliding_window", (4,), {"window": 0}, "window must be a positive whole number.*got 0"),
        ("dilated", (4,), {"window": 2, "dilation": 0}, "dilation must be a positive whole"),
        ("strided", (4,), {"stride": 0}, "stride must be a positive whole number.*got 0"),
        ("prefix_lm", (4,), {"prefix": 5}, "prefix must be a whole number from 0 to 4, got 5"),
        ("prefix_lm", (4,), {"prefix": -1}, "prefix must be a whole number from 0 to 4, got -1"),
        ("fixed", (4,), {"block_size": 2, "summary": 3}, "summary must be .* 1 to 2, got 3"),
        ("global_tokens", (4,), {"positions": [4]}, "global position must be .* 0 to 3, got 4"),
        ("global_tokens", (4,), {"positions": [-1]}, "global position must be .* 0 to 3, got -1"),
        ("random_keys", (2,), {"count": 3, "generator": None}, "count must be .* 0 to 2, got 3"),
        ("padding", (torch.tensor([5]), 4), {}, "a length must be .* 0 to 4, got 5"),
        ("padding", (torch.tensor([-1]), 4), {}, "a length must be .* 0 to 4, got -1"),
        ("padding", (torch.tensor([1]), 0), {}, "max_len must be a positive whole number"),
        ("block_sparse", (torch.ones(2, 2) > 0, 0), {}, "block_size must be a positive whole"),
        (
            "bigbird",
            (10,),
            {"block_size": 4, "generator": random()},
            "block_size must divide seq_len, but 10 / 4 leaves 2",
        ),
        ("combine", (), {}, "at least one mask, got none"),
        ("combine", (torch.ones(2, 3) > 0, torch.ones(4, 3) > 0), {}, r"\(2, 3\), \(4, 3\)"),
        ("combine", (torch.ones(2, 3),), {}, "must be boolean .*got torch.float32"),
    ],
)
def test_bad_input_is_refused_with_what_fits(import_unchecked, name, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(import_unchecked("lib.masks"), name)(*arguments, **options)


def test_a_mask_to_stand_beside_must_fit():
    with pytest.raises(ValueError, match=r"\(2, 3\) does not fit scores of shape \(2, 4\)"):
        masks.random_keys(
            2, 4, count=1, generator=random(), beside=torch.zeros(2, 3, dtype=torch.bool)
        )
