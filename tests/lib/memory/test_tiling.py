import math

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.memory import traffic
from lib.memory.cost import Cost
from lib.memory.tiling import compute_bound_tile, largest_tile, matmul_traffic, tiled_matmul

sides = st.integers(1, 24)
n, tile_side, element, memory, ridge = sympy.symbols("n T s M R", positive=True)


@settings(max_examples=300)
@given(sides, sides, sides, st.integers(1, 30), st.sampled_from([torch.float32, torch.float64]))
def test_tiled_product_is_the_product_and_moves_what_the_formula_says(
    rows, inner, cols, tile, dtype
):
    generator = torch.Generator().manual_seed(rows * 7919 + inner * 104729 + cols)
    left = torch.randn(rows, inner, dtype=dtype, generator=generator)
    right = torch.randn(inner, cols, dtype=dtype, generator=generator)
    product, counted = tiled_matmul(left, right, tile=tile)
    torch.testing.assert_close(product, left @ right)
    assert product.dtype == dtype
    assert counted == matmul_traffic(
        rows=rows, inner=inner, cols=cols, tile=tile, bytes_per_element=left.itemsize
    )


@given(sides, sides, sides, st.integers(1, 30))
def test_traffic_equals_a_count_of_elements_one_by_one(rows, inner, cols, tile):
    """The oracle looks at no tile: it asks of every single element how often it is wanted."""
    column_tiles = len({col // tile for col in range(cols)})
    row_tiles = len({row // tile for row in range(rows)})
    read = sum(column_tiles for _ in range(rows * inner))
    read += sum(row_tiles for _ in range(inner * cols))
    cost = matmul_traffic(rows=rows, inner=inner, cols=cols, tile=tile, bytes_per_element=1)
    assert cost == Cost(2 * rows * inner * cols, read, rows * cols)


@given(sides, sides, sides)
def test_naive_and_ideal_traffic_are_the_two_ends(rows, inner, cols):
    sizes = {"rows": rows, "inner": inner, "cols": cols, "bytes_per_element": 4}
    naive = matmul_traffic(**sizes, tile=1)
    assert naive.bytes_read == 2 * rows * inner * cols * 4
    whole = matmul_traffic(**sizes, tile=max(rows, cols))
    assert whole == traffic.linear(rows=rows, d_in=inner, d_out=cols, bytes_per_element=4)
    partial = matmul_traffic(**sizes, tile=2)
    assert whole.bytes <= partial.bytes <= naive.bytes


def test_symbols_give_the_formula_and_its_limit():
    cost = matmul_traffic(rows=n, inner=n, cols=n, tile=tile_side, bytes_per_element=element)
    assert sympy.simplify(cost.bytes - (2 * n**3 / tile_side + n**2) * element) == 0
    assert sympy.limit(cost.intensity, n, sympy.oo) == tile_side / element
    assert cost.subs({n: 96, tile_side: 8, element: 2}) == matmul_traffic(
        rows=96, inner=96, cols=96, tile=8, bytes_per_element=2
    )


@given(st.integers(12, 10**7), st.sampled_from([0.5, 1, 2, 4]))
def test_largest_tile_fits_and_the_next_one_does_not(fast_memory_bytes, bytes_per_element):
    side = largest_tile(fast_memory_bytes, bytes_per_element)
    assert 3 * side**2 * bytes_per_element <= fast_memory_bytes
    assert 3 * (side + 1) ** 2 * bytes_per_element > fast_memory_bytes


def test_largest_tile_of_known_memories():
    assert largest_tile(228 * 1024, 2) == 197
    assert largest_tile(sympy.Integer(12), 4) == 1
    assert largest_tile(3 * 49, element) == 7 / sympy.sqrt(element)
    assert sympy.simplify(largest_tile(memory, element) - sympy.sqrt(memory / (3 * element))) == 0


@given(st.integers(1, 400), st.sampled_from([1, 2, 4]), st.integers(1, 400))
def test_compute_bound_tile_is_the_first_to_reach_the_ridge(ridge_point, bytes_per_element, inner):
    tile = compute_bound_tile(ridge_point, inner=inner, bytes_per_element=bytes_per_element)
    sizes = {"inner": inner, "bytes_per_element": bytes_per_element}

    def reaches(side: int) -> bool:
        cost = matmul_traffic(rows=side, cols=side, tile=side, **sizes)
        return cost.flops >= ridge_point * cost.bytes

    if tile == math.inf:
        assert not reaches(10**9)
    else:
        assert reaches(tile)
        assert tile == 1 or not reaches(tile - 1)


def test_compute_bound_tile_of_a_long_product_is_ridge_times_element():
    assert compute_bound_tile(295.3, bytes_per_element=2) == 591
    assert compute_bound_tile(100, bytes_per_element=4) == 400
    assert compute_bound_tile(ridge, bytes_per_element=element) == ridge * element
    assert compute_bound_tile(ridge, bytes_per_element=2) == 2 * ridge
    assert compute_bound_tile(295.5, bytes_per_element=element) == sympy.Rational(591, 2) * element
    finite = compute_bound_tile(ridge, inner=n, bytes_per_element=element)
    assert sympy.limit(finite, n, sympy.oo) == ridge * element


@pytest.mark.parametrize("name", ["rows", "inner", "cols", "tile"])
def test_traffic_refuses_sizes_that_are_not_positive(name):
    sizes = {"rows": 4, "inner": 4, "cols": 4, "tile": 2, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be a positive whole number.*got 0"):
        matmul_traffic(**sizes)


@pytest.mark.parametrize(
    ("left", "right", "tile", "message"),
    [
        (torch.ones(2, 3), torch.ones(4, 2), 2, r"got \(2, 3\) and \(4, 2\)"),
        (torch.ones(2, 3, 1), torch.ones(3, 2), 2, r"got \(2, 3, 1\) and \(3, 2\)"),
        (torch.ones(2, 3), torch.ones(3, 2).double(), 2, "torch.float32 and torch.float64"),
        (torch.ones(2, 3), torch.ones(3, 2), 0, "tile must be a positive whole number.*got 0"),
        (torch.ones(2, 3), torch.ones(3, 2), 1.5, "tile must be a positive whole number.*1.5"),
    ],
)
def test_tiled_matmul_refuses_what_is_no_product(import_unchecked, left, right, tile, message):
    with pytest.raises(ValueError, match=message):
        import_unchecked("lib.memory.tiling").tiled_matmul(left, right, tile=tile)


def test_memory_too_small_for_any_tile_is_refused():
    with pytest.raises(ValueError, match="three elements of 4 bytes do not fit in 11 bytes"):
        largest_tile(11, 4)
    with pytest.raises(ValueError, match="fast_memory_bytes must be a number above zero"):
        largest_tile(-1, 4)
    with pytest.raises(ValueError, match="ridge must be a number above zero"):
        compute_bound_tile(0)
    with pytest.raises(ValueError, match="inner must be a positive whole number"):
        compute_bound_tile(10, inner=0)
