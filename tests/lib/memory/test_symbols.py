"""One formula for numbers and for symbols: with numbers put in, it gives the same whole numbers."""

import inspect
import math
from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.memory import (
    DEVICES,
    Cost,
    ModelShape,
    activation_bytes,
    attainable_flops,
    attention_costs,
    compute_bound_batch,
    kv_cache_bytes,
    latent_cache_bytes,
    layer_costs,
    linear_maps,
    max_batch_size,
    paged_cache_bytes,
    quantised_cache_bytes,
    traffic,
    training_state_bytes,
)
from tests.lib.memory.random_sizes import OPERATORS, head_counts, thousand

A100 = DEVICES["A100-80GB"]

SHAPE_SIZES = [name for name in inspect.signature(ModelShape).parameters if name != "gated"]


def of_a_shape(function, gated, **options):
    """`function(shape, ...)` as a function of the shape's sizes and its own, all by keyword."""

    def call(**sizes):
        shape = ModelShape(**{name: sizes.pop(name) for name in SHAPE_SIZES}, gated=gated)
        return function(shape, **sizes, **options)

    return call


def formulas():
    """Every formula that takes sizes, with the names of those sizes, by a name for the test."""
    caches = kv_cache_bytes, latent_cache_bytes, quantised_cache_bytes, paged_cache_bytes
    for name, function in {**OPERATORS, **{f.__name__: f for f in caches}}.items():
        yield name, function, list(inspect.signature(function).parameters)
    states = ["num_parameters", "weight_bytes", "gradient_bytes", "state_bytes"]
    yield "training_state_bytes", training_state_bytes, states
    passes = ["batch_size", "queries", "keys", "bytes_per_element"]
    kept = ["batch_size", "seq_len", "bytes_per_element", "statistic_bytes"]
    flags = False, True
    for gated in flags:
        which = "gated" if gated else "plain"
        for name in ("layer_parameters", "num_parameters"):
            prop = of_a_shape(lambda shape, name=name: getattr(shape, name), gated)
            yield f"{name}-{which}", prop, SHAPE_SIZES
        for fused in flags:
            name = f"{which}-{'fused' if fused else 'unfused'}"
            call = of_a_shape(layer_costs, gated, fused=fused)
            yield f"layer_costs-{name}", call, [*SHAPE_SIZES, *passes]
            for dropout in flags:
                call = of_a_shape(activation_bytes, gated, fused=fused, dropout=dropout)
                label = f"activation_bytes-{name}-{'dropout' if dropout else 'no dropout'}"
                yield label, call, [*SHAPE_SIZES, *kept]


def symbols_for(names):
    return {name: sympy.Symbol(name, positive=True) for name in names}


@st.composite
def numbers_for(draw, names):
    numbers = {name: draw(st.integers(1, 2**20)) for name in names}
    heads = draw(head_counts(64))
    return {**numbers, **{name: heads[name] for name in heads.keys() & numbers.keys()}}


def flat(result):
    """The numbers or expressions in a cost, in a dict of costs or bytes, or the one alone."""
    if isinstance(result, Cost):
        return [result.flops, result.bytes_read, result.bytes_written]
    if isinstance(result, dict):
        return [number for value in result.values() for number in flat(value)]
    return [result]


def in_python(expressions, symbols):
    """The expressions in Python's own numbers: whole ones and fractions stay exact."""
    return sympy.lambdify(list(symbols.values()), expressions, modules="math")


@pytest.mark.parametrize(
    ("function", "names"), [pytest.param(f, names, id=name) for name, f, names in formulas()]
)
def test_the_formula_gives_the_number(function, names):
    symbols = symbols_for(names)
    symbolic = function(**symbols)
    formula = in_python(flat(symbolic), symbols)

    @settings(max_examples=250)
    @given(numbers_for(names))
    def same(numbers):
        result = function(**numbers)
        assert formula(**numbers) == flat(result)
        assert all(type(number) is int for number in flat(result))
        assert not isinstance(result, dict) or list(result) == list(symbolic)

    same()


def test_all_operators_are_among_the_formulas():
    assert OPERATORS.keys() >= {"linear", "fused_attention_backward", "embedding", "lm_head"}
    assert len(OPERATORS) == 20


@settings(max_examples=100)
@given(numbers_for(inspect.signature(traffic.attention).parameters))
def test_numbers_are_put_into_a_cost_by_subs(numbers):
    symbols = symbols_for(numbers)
    put_in = traffic.attention(**symbols).subs({symbols[name]: numbers[name] for name in numbers})
    assert put_in == traffic.attention(**numbers)
    assert all(type(number) is int for number in flat(put_in))


def test_numbers_are_put_in_one_after_the_other():
    rows, width, each = sympy.symbols("n d s", positive=True)
    cost = traffic.linear(rows=rows, d_in=width, d_out=width, bytes_per_element=each)
    partly = cost.subs({rows: 3, width: 4})
    assert partly.flops == 96 and sympy.expand(partly.bytes - 40 * each) == 0
    assert partly.subs({each: sympy.Rational(1, 2)}) == Cost(96, 14, 6)


LINEAR = ["rows", "d_in", "d_out", "bytes_per_element"]


@pytest.fixture(scope="module")
def linear_formula():
    symbols = symbols_for(LINEAR)
    cost = traffic.linear(**symbols)
    return in_python([cost.intensity, cost.time(A100), cost.time(A100, "float32")], symbols)


@thousand
@given(numbers_for(LINEAR))
def test_intensity_and_time(linear_formula, numbers):
    cost = traffic.linear(**numbers)
    expected = cost.intensity, cost.time(A100), cost.time(A100, "float32")
    assert linear_formula(**numbers) == pytest.approx(expected, rel=1e-12)


def test_attainable_flops():
    symbols = symbols_for(["intensity"])
    roof = in_python([attainable_flops(symbols["intensity"], A100)], symbols)

    @thousand
    @given(st.floats(1e-3, 1e6))
    def same(intensity):
        assert roof(intensity) == pytest.approx([attainable_flops(intensity, A100)], rel=1e-12)

    same()


def test_compute_bound_batch():
    symbols = symbols_for(["ridge", "d_in", "d_out", "bytes_per_element"])
    formula = in_python([1 / compute_bound_batch(**symbols)], symbols)

    @thousand
    @given(
        ridge=st.integers(1, 1000)
        | st.fractions(1, 1000, max_denominator=100)
        | st.floats(1, 1000),
        d_in=st.integers(1, 2**15),
        d_out=st.integers(1, 2**15),
        bytes_per_element=st.sampled_from([1, 2, 4, Fraction(1, 2)]),
    )
    def same(**numbers):
        [per_row] = formula(**{name: Fraction(number) for name, number in numbers.items()})
        expected = math.ceil(1 / per_row) if per_row > 0 else math.inf
        assert compute_bound_batch(**numbers) == expected

    same()


def test_max_batch_size():
    symbols = symbols_for(["memory_bytes", "bytes_per_sequence", "reserved_bytes"])
    formula = in_python([max_batch_size(**symbols)], symbols)

    @thousand
    @given(numbers_for(symbols))
    def same(numbers):
        numbers["memory_bytes"] += numbers["reserved_bytes"]
        exact = formula(**{name: Fraction(number) for name, number in numbers.items()})
        assert [max_batch_size(**numbers)] == exact

    same()


def test_linear_maps_and_attention_are_the_parts_of_a_layer():
    symbols = symbols_for([*SHAPE_SIZES, "batch_size", "queries", "keys"])
    shape = ModelShape(**{name: symbols.pop(name) for name in SHAPE_SIZES}, gated=True)
    whole = layer_costs(shape, **symbols)
    attention = attention_costs(shape, **symbols)
    assert set(whole) == {*linear_maps(shape), *attention}
    assert list(whole) == [
        *("query", "key", "value", "scores", "softmax", "weighted sum"),
        *("output", "gate", "up", "down"),
    ]
    assert {name: whole[name] for name in attention} == attention
