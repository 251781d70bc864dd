"""Matrices stored for one row and for several: the same products, each by the kernel it is for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from lib.models.panels import LINE, PANEL, PanelMap
from lib.models.tiles import MOST_ROWS, TileMap

MAPS = [PanelMap, TileMap]
SIZES = st.one_of(st.integers(1, 40), st.sampled_from([PANEL - 1, PANEL, PANEL + 1, 2 * PANEL + 5]))
ROWS = st.one_of(st.integers(1, 9), st.sampled_from([MOST_ROWS, MOST_ROWS + 1]))


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("kind", MAPS)
@given(SIZES, st.integers(1, 40), ROWS, st.booleans(), st.integers(0, 99))
def test_the_product_is_that_of_torch(kind, d_out, d_in, rows, with_bias, seed):
    weight, x = drawn(d_out, d_in, seed=seed), drawn(rows, d_in, seed=seed + 1)
    bias = drawn(d_out, seed=seed + 2) if with_bias else None
    want = functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    got = kind(weight, bias)(x)
    assert got.dtype == torch.float32 and got.shape == want.shape
    bound = 2e-7 * (d_in + 1) * (x.abs() @ weight.abs().T + 1)
    assert ((got - want).abs() <= bound).all()


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("rows", [1, 2, MOST_ROWS + 1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_multiplied_too(kind, rows, dtype):
    weight, bias, x = (
        drawn(*shape, seed=seed, dtype=dtype)
        for seed, shape in enumerate([(PANEL + 7, 33), (PANEL + 7,), (rows, 33)])
    )
    got = kind(weight, bias)(x)
    assert got.dtype == dtype
    torch.testing.assert_close(got, functional.linear(x, weight, bias), atol=0.1, rtol=0.02)


@pytest.mark.parametrize("kind", MAPS)
def test_rows_of_the_matrix_come_back_as_they_were(kind):
    weight, ids = drawn(PANEL + 7, 5), torch.tensor([[0, PANEL + 6], [PANEL - 1, PANEL]])
    assert torch.equal(kind(weight).rows(ids), weight[ids])


@pytest.mark.parametrize("kind", MAPS)
def test_the_weight_is_left_alone(kind):
    weight, x = drawn(24, 5), drawn(1, 5, seed=1)
    before = weight.clone()
    kind(weight)(x)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("d_out", [1, 16, 17, PANEL, PANEL + 1, 8192, 50_257])
def test_panels_are_as_wide_as_they_need_to_be(monkeypatch, threads, d_out):
    """A multiple of a cache line, of at most `PANEL` columns, with less than a panel to fill up."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    panels = PanelMap(drawn(d_out, 3))
    assert panels.table.shape == (3 * panels.count, panels.width)
    assert panels.width % LINE == 0 and panels.width <= PANEL
    assert 0 <= panels.count * panels.width - d_out < panels.width
    weight, x = drawn(d_out, 3), drawn(1, 3, seed=1)
    torch.testing.assert_close(PanelMap(weight)(x), x @ weight.T)


@pytest.mark.parametrize("wide", [1, 2, 3, 7])
def test_two_threads_have_as_many_panels_each(monkeypatch, wide):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert PanelMap(drawn(wide * PANEL, 3)).count == 2 * -(-wide // 2)


def test_one_row_goes_through_a_bag_and_several_do_not(monkeypatch):
    calls = []
    real = torch.embedding_bag
    monkeypatch.setattr(torch, "embedding_bag", lambda *args: calls.append(1) or real(*args))
    panels = PanelMap(drawn(24, 5))
    panels(drawn(2, 5))
    assert not calls
    panels(drawn(1, 5))
    assert calls == [1]


def test_few_rows_go_through_a_convolution_and_many_do_not():
    """What is in the tiles alone decides: for many rows the matrix beside them."""
    tiles, zeros = TileMap(drawn(24, 5)), TileMap(torch.zeros(24, 5))
    tiles.tiles = zeros.tiles
    for rows in (1, MOST_ROWS):
        assert torch.equal(tiles(drawn(rows, 5)), torch.zeros(rows, 24))
    assert tiles(drawn(MOST_ROWS + 1, 5)).abs().sum() > 1
    assert tiles(drawn(0, 5)).shape == (0, 24)


def test_bytes(monkeypatch):
    """Four for a weight and for a bias; two 4-byte indices for each row and panel of a table."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    weight, bias = drawn(2 * PANEL, 5), drawn(2 * PANEL)
    floats = 4 * 2 * PANEL * (5 + 1)
    assert TileMap(weight, bias).nbytes == floats
    assert PanelMap(weight, bias).nbytes == floats + 4 * 2 * 5 + 4 * 2
