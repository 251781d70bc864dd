"""Weights in 8 bits: how far off they are at most, how many bytes they take, what a model keeps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import gpt2, llama, t5

from lib.data.checkpoints import load
from lib.models.generation import generate
from lib.models.int8 import FEW_ROWS, Int8Map, Int8PanelMap
from lib.models.packed import PackedEmbedding, pack_model
from lib.models.panels import PANEL, PanelMap

# The first sentences of the inaugural address of 1961.
TEXT = (
    "We observe today not a victory of party but a celebration of freedom, symbolizing an end as "
    "well as a beginning, signifying renewal as well as change. For I have sworn before you and "
    "Almighty God the same solemn oath our forebears prescribed nearly a century and three "
    "quarters ago."
)


def drawn(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 99), st.sampled_from([1e-6, 1, 1e6]))
def test_no_weight_is_off_by_more_than_half_a_step(d_out, d_in, seed, scale):
    weight = drawn(d_out, d_in, seed=seed, scale=scale).double()
    packed = Int8Map(weight)
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    assert packed.numbers.dtype == torch.int8
    assert ((packed.weight - weight).abs() <= step * (0.5 + 1e-6)).all()
    assert packed.numbers.abs().amax(dim=1).eq(127).all()


def test_what_8_bits_can_say_comes_back_as_it_was():
    numbers = torch.randint(-127, 128, (5, 16), generator=torch.Generator().manual_seed(0))
    numbers[:, 3] = 127
    weight = numbers * torch.tensor([0.5, 1.0, 0.25, 2.0, 8.0])[:, None]
    packed = Int8Map(weight)
    assert torch.equal(packed.numbers, numbers.to(torch.int8))
    assert torch.equal(packed.weight, weight)
    assert torch.equal(Int8Map(packed.weight).numbers, packed.numbers)


def test_a_row_of_zeros_stays_one():
    packed = Int8Map(torch.zeros(3, 8))
    assert torch.equal(packed.weight, torch.zeros(3, 8))
    assert torch.equal(packed(drawn(2, 8)), torch.zeros(2, 3))


@given(st.integers(1, 2 * FEW_ROWS), st.integers(0, 99), st.booleans())
def test_no_output_is_off_by_more_than_its_inputs_allow(rows, seed, with_bias):
    """Half a step for each input, and for few rows three roundings to bfloat16."""
    weight, x = drawn(24, 32, seed=seed), drawn(rows, 32, seed=seed + 100)
    bias = drawn(24, seed=seed + 200) if with_bias else None
    exact = torch.nn.functional.linear(x.double(), weight.double())
    half_steps = weight.double().abs().amax(dim=1) / 254
    bound = x.double().abs().sum(dim=1, keepdim=True) * half_steps + 1e-4
    sizes = x.double().abs() @ weight.double().abs().T
    bound = bound + 3 * 2**-8 * sizes * (rows <= FEW_ROWS)
    got = Int8Map(weight, bias)(x) - (0 if bias is None else bias)
    assert got.dtype == torch.float32
    assert ((got - exact).abs() <= bound).all()


@pytest.mark.parametrize("d_in", [8, 17, 40])
def test_inputs_that_the_kernel_would_read_past_go_another_way(d_in):
    packed, x = Int8Map(drawn(24, d_in), drawn(24, seed=1)), drawn(1, d_in, seed=2)
    assert torch.equal(packed(x), torch.nn.functional.linear(x, packed.weight, packed.bias))


def test_few_rows_and_many_give_nearly_the_same():
    packed, x = Int8Map(drawn(24, 64), drawn(24, seed=1)), drawn(FEW_ROWS + 1, 64, seed=2)
    many = packed(x)
    few = torch.cat([packed(x[:FEW_ROWS]), packed(x[FEW_ROWS:])])
    assert not torch.equal(few, many)
    assert (few - many).norm() < 0.01 * many.norm()


@pytest.mark.parametrize("make_map", [Int8PanelMap, Int8Map])
def test_an_embedding_is_read_row_by_row_and_scores(make_map):
    weight = drawn(40, 16)
    embedding, ids = PackedEmbedding(weight, make_map), torch.tensor([[3, 39], [0, 3]])
    assert torch.equal(embedding(ids), make_map(weight).rows(ids))
    hidden = drawn(2, 5, 16, seed=1)
    assert embedding.logits(hidden).shape == (2, 5, 40)
    want = hidden @ weight.T
    assert (embedding.logits(hidden) - want).norm() < 0.02 * want.norm()


def test_a_row_is_one_of_the_matrix():
    packed, ids = Int8Map(drawn(40, 16)), torch.tensor([[3, 39], [0, 3]])
    assert torch.equal(packed.rows(ids), packed.weight[ids])


@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 99), st.sampled_from([1e-6, 1, 1e6]))
def test_no_weight_of_a_panel_is_off_by_more_than_half_a_step(d_in, d_out, seed, scale):
    weight = drawn(d_out, d_in, seed=seed, scale=scale) + scale
    got = Int8PanelMap(weight).rows(torch.arange(d_out))
    columns = PanelMap(weight).table  # with the zeros at its end, which have a part in the range
    step = (columns.amax(dim=1) - columns.amin(dim=1)) / 255
    assert got.dtype == torch.float32
    assert ((got - weight).abs() <= step * 0.5 + 1e-6 * weight.abs()).all()


def test_panels_are_stored_as_torchs_kernel_reads_them():
    """By torch's own packing, but for ties that it rounds by a reciprocal."""
    weight = drawn(2 * PANEL, 30)
    ours = Int8PanelMap(weight)
    theirs = torch.ops.quantized.embedding_bag_byte_prepack(PanelMap(weight).table)
    assert ours.table.shape == theirs.shape
    assert torch.equal(ours.table[:, -8:], theirs[:, -8:])
    off = ours.table[:, :-8].int() - theirs[:, :-8].int()
    assert off.abs().max() <= 1 and off.count_nonzero() < 1e-3 * off.numel()
    want = torch.ops.quantized.embedding_bag_byte_unpack(ours.table)
    torch.testing.assert_close(ours.floats(torch.float32), want)


@given(st.sampled_from([5, PANEL, PANEL + 1]), st.integers(1, 4), st.booleans())
def test_panels_multiply_with_what_they_hold(d_out, rows, with_bias):
    weight, x = drawn(d_out, 24), drawn(rows, 24, seed=1)
    bias = drawn(d_out, seed=2) if with_bias else None
    packed = Int8PanelMap(weight, bias)
    want = torch.nn.functional.linear(x, packed.rows(torch.arange(d_out)), bias)
    torch.testing.assert_close(packed(x), want, atol=1e-5, rtol=1e-4)
    assert not torch.equal(want, torch.nn.functional.linear(x, weight, bias))


def test_panels_of_equal_weights_stay_so():
    """As wide as a panel, so that no zeros fill it up."""
    for value in (0.0, 0.3, -2.0):
        weight = torch.full((32, 8), value)
        assert torch.equal(Int8PanelMap(weight).rows(torch.arange(32)), weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_panels_answer_in_the_type_of_the_model(dtype):
    packed, x = Int8PanelMap(drawn(24, 8).to(dtype)), drawn(1, 8, seed=1).to(dtype)
    assert packed.rows(torch.tensor([3])).dtype == packed(x).dtype == dtype
    want = x @ packed.rows(torch.arange(24)).T
    torch.testing.assert_close(packed(x), want, atol=0.05, rtol=0.02)


def test_ids_out_of_range_are_named(import_unchecked):
    packed, int8 = (import_unchecked(f"lib.models.{name}") for name in ("packed", "int8"))
    for make_map in (int8.Int8Map, int8.Int8PanelMap):
        embedding = packed.PackedEmbedding(drawn(40, 16), make_map)
        for wrong in (40, -1):
            with pytest.raises(ValueError, match=f"between 0 and 39, got ids from .*{wrong}"):
                embedding(torch.tensor([[1, wrong]]))


def test_bytes(monkeypatch):
    """One for a weight, two for a scale, four for a bias; against four for a weight.

    A panel's row has a scale and a least weight, and an index.
    """
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    packed = Int8Map(drawn(24, 64), drawn(24))
    assert packed.nbytes == 24 * 64 + 2 * 24 + 4 * 24
    assert Int8Map(drawn(24, 64)).nbytes == 24 * 64 + 2 * 24
    panels = Int8PanelMap(drawn(32, 64), drawn(32))
    assert panels.nbytes == (32 + 8) * 64 + 4 * (64 + 1) + 4 * 32


@torch.no_grad()
@pytest.mark.parametrize("make_map", [Int8PanelMap, Int8Map])
@pytest.mark.parametrize("make", [gpt2, llama, t5])
def test_a_small_model_keeps_its_logits(make, make_map):
    model = make().float()
    packed, ids = pack_model(model, make_map), torch.tensor([[3, 14, 15, 9, 2]])
    given = (ids, ids[:, :3]) if hasattr(model, "encode") else (ids,)
    got, want = packed(*given), model(*given)
    assert not torch.equal(got, want)
    assert (got - want).norm() < 0.1 * want.norm()
    assert len(generate(packed, [[1, 2, 3], [4]], max_new_tokens=5)) == 2


@torch.no_grad()
def test_smollm2_hardly_notices():
    """All its matrices rounded: the text is as probable as before, the next tokens as likely."""
    model, tokenizer = load("SmolLM2-135M")
    ids = torch.tensor([tokenizer.encode(TEXT).ids])
    want = model(ids)[0, :-1].log_softmax(-1)
    nats = -want.gather(-1, ids[0, 1:, None])[:, 0]
    assert nats.mean() < 5.4  # half of what a guess among 49,152 tokens costs
    many = len(ids[0]) - 1
    for make_map, tokens in ((Int8Map, many), (Int8Map, FEW_ROWS), (Int8PanelMap, many)):
        packed = pack_model(model, make_map)
        got, before = packed(ids[:, :tokens])[0].log_softmax(-1), want[:tokens]
        divergence = (before.exp() * (before - got)).sum(-1).mean()
        assert 0 < divergence < 0.02
        got_nats = -got.gather(-1, ids[0, 1 : tokens + 1, None])[:, 0]
        assert abs((got_nats - nats[:tokens]).mean()) < 0.02 * nats.mean()


@pytest.mark.parametrize("kind", ["Int8Map", "Int8PanelMap"])
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.zeros(3), r"expected a matrix of floats, got \(3,\) of torch.float32"),
        (torch.zeros(2, 3, 4), r"expected a matrix of floats, got \(2, 3, 4\)"),
        (torch.zeros(2, 3, dtype=torch.int8), "of torch.int8"),
        (torch.tensor([[1.0, float("nan")]]), "expected finite numbers"),
        (torch.tensor([[float("inf"), 1.0]]), "expected finite numbers"),
    ],
)
def test_what_is_refused(import_unchecked, weight, message, kind):
    with pytest.raises(ValueError, match=message):
        getattr(import_unchecked("lib.models.int8"), kind)(weight)
