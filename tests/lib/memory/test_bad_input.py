"""Bad input: each is a `ValueError` that says what was given and what was expected.

The library is imported without the type checks of the test run, as readers have it: what they
see is its own message.
"""

import inspect
import re

import pytest
import sympy

from tests.lib.memory.random_sizes import OPERATORS


@pytest.fixture(scope="module")
def memory(import_unchecked):
    return import_unchecked("lib.memory")


@pytest.fixture(scope="module")
def traffic(memory):
    return memory.traffic


def refused(*parts):
    """Expect a `ValueError` whose message has these parts in this order."""
    return pytest.raises(ValueError, match="(?s)" + ".*".join(map(re.escape, parts)))


COUNTS_NO_TENSOR = {"bytes_per_element", "flops_per_score", "flops_per_element"}
n = sympy.Symbol("n", positive=True)
NOT_A_SIZE = [0, -1, 2.0, 1.5, True, "4", None, [4], float("nan"), -n, sympy.Integer(0)]
NOT_A_SIZE += [sympy.Float(1.5), sympy.Rational(1, 2), sympy.pi, sympy.nan, sympy.oo]


def required_sizes(function):
    """The operator's sizes, 4 each, which every one of them accepts."""
    parameters = inspect.signature(function).parameters
    return {name: 4 for name in parameters if name not in COUNTS_NO_TENSOR}


@pytest.mark.parametrize("size", NOT_A_SIZE, ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_sizes_of_operators(traffic, operator, size):
    function = getattr(traffic, operator)
    sizes = required_sizes(function)
    assert function(**sizes).bytes > 0
    for name in sizes:
        if name == "num_key_value_heads" and size is None:  # as many as attention heads
            continue
        with refused(name, "must be", "positive", str(size)):
            function(**{**sizes, name: size})


@pytest.mark.parametrize("each", [0, -2, True, "2", None, float("nan")], ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_bytes_per_element(traffic, operator, each):
    function = getattr(traffic, operator)
    with refused("bytes_per_element must be a number above zero", f"got {each!r}"):
        function(**required_sizes(function), bytes_per_element=each)


@pytest.mark.parametrize(
    "operator", [name for name in OPERATORS if "attention" in name or "weighted" in name]
)
@pytest.mark.parametrize(("heads", "groups"), [(32, 5), (4, 8), (7, 2)])
def test_heads_that_do_not_divide(traffic, operator, heads, groups):
    function = getattr(traffic, operator)
    sizes = {**required_sizes(function), "num_attention_heads": heads}
    with refused("num_key_value_heads must divide num_attention_heads", f"{heads} / {groups}"):
        function(**{**sizes, "num_key_value_heads": groups})


@pytest.mark.parametrize("flops", [-1, "5", None, True, float("nan")], ids=str)
@pytest.mark.parametrize(
    ("operator", "name"),
    [
        (operator, name)
        for operator, function in OPERATORS.items()
        for name in inspect.signature(function).parameters
        if name.startswith("flops_per")
    ],
)
def test_flops_of_elements(traffic, operator, name, flops):
    function = getattr(traffic, operator)
    with refused(f"{name} must be a number, 0 or more", f"got {flops!r}"):
        function(**required_sizes(function), **{name: flops})


SHAPE = {
    "num_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 2,
    "intermediate_size": 16,
    "vocab_size": 32,
}


@pytest.mark.parametrize("size", NOT_A_SIZE, ids=str)
@pytest.mark.parametrize("name", SHAPE)
def test_sizes_of_shapes(memory, name, size):
    with refused(name, "must be", "positive", str(size)):
        memory.ModelShape(**{**SHAPE, name: size})


def test_heads_of_shapes_that_do_not_divide(memory):
    with refused("num_key_value_heads must divide num_attention_heads", "4 / 3 leaves 1"):
        memory.ModelShape(**{**SHAPE, "num_key_value_heads": 3})


@pytest.mark.parametrize("size", NOT_A_SIZE, ids=str)
def test_sizes_of_layers(memory, size):
    shape = memory.ModelShape(**SHAPE)
    passes = {"batch_size": 2, "queries": 2, "keys": 2}
    kept = {"batch_size": 2, "seq_len": 2}
    for function, sizes in (
        (memory.attention_costs, passes),
        (memory.layer_costs, passes),
        (memory.activation_bytes, kept),
    ):
        for name in sizes:
            with refused(name, "must be", "positive", str(size)):
                function(shape, **{**sizes, name: size})
    for name in ("bytes_per_element", "statistic_bytes"):
        with refused(f"{name} must be a number above zero", "got 0"):
            memory.activation_bytes(shape, **kept, **{name: 0})


CACHE = {"batch_size": 1, "seq_len": 1, "num_layers": 1, "num_key_value_heads": 1, "head_dim": 1}


@pytest.mark.parametrize("size", NOT_A_SIZE, ids=str)
@pytest.mark.parametrize("name", CACHE)
def test_sizes_of_the_cache(memory, name, size):
    with refused(name, "must be", "positive", str(size)):
        memory.kv_cache_bytes(**{**CACHE, name: size})


def test_a_reservation_beyond_the_capacity(memory):
    with refused("reserved_bytes", "between 0 and memory_bytes", "80,000", "90,000"):
        memory.max_batch_size(memory_bytes=80_000, bytes_per_sequence=2, reserved_bytes=90_000)
    with refused("reserved_bytes", "-5"):
        memory.max_batch_size(memory_bytes=80_000, bytes_per_sequence=2, reserved_bytes=-5)
    for reserved in ("14e9", True, None):
        with refused("reserved_bytes must be a number, 0 or more", f"got {reserved!r}"):
            memory.max_batch_size(
                memory_bytes=80_000, bytes_per_sequence=2, reserved_bytes=reserved
            )
    for name in ("memory_bytes", "bytes_per_sequence"):
        sizes = {"memory_bytes": 80_000, "bytes_per_sequence": 2, name: 0}
        with refused(f"{name} must be a number above zero", "got 0"):
            memory.max_batch_size(**sizes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_parameters", 7e9),
        ("num_parameters", -1),
        ("weight_bytes", 0),
        ("gradient_bytes", "2"),
        ("state_bytes", -4),
        ("optimizer_states", -1),
        ("optimizer_states", 1.5),
        ("optimizer_states", True),
    ],
)
def test_training_states(memory, name, value):
    with refused(name, "must be", f"got {value!r}"):
        memory.training_state_bytes(**{"num_parameters": 7, name: value})


@pytest.mark.parametrize("field", ["flops", "bytes_read", "bytes_written"])
@pytest.mark.parametrize("value", [-1, -0.5, -n, "1", None, True, float("nan")], ids=str)
def test_costs(memory, field, value):
    parts = {"flops": 1, "bytes_read": 1, "bytes_written": 1, field: value}
    with refused(f"{field} must be a number, 0 or more", str(value)):
        memory.Cost(**parts)


def test_a_negative_number_of_repetitions(memory):
    with refused("flops must be a number, 0 or more", "-2"):
        memory.Cost(1, 1, 1) * -2


def test_the_intensity_of_a_cost_that_moves_nothing(memory):
    with refused("moves no bytes", "no arithmetic intensity"):
        _ = memory.Cost(1, 0, 0).intensity


def test_the_bound_of_a_cost_in_symbols(memory):
    with refused("has the symbols n", ".subs"):
        memory.Cost(n, 1, 1).bound(memory.device("H100"))
    assert memory.Cost(sympy.Integer(1), 1, 1).bound(memory.device("H100")) == "memory"


def test_a_dtype_without_a_peak(memory):
    v100, cost = memory.device("V100"), memory.Cost(1, 1, 1)
    for ask in (
        lambda: memory.ridge_point(v100, "bfloat16"),
        lambda: memory.attainable_flops(1, v100, "bfloat16"),
        lambda: cost.time(v100, "bfloat16"),
        lambda: cost.bound(v100, "bfloat16"),
    ):
        with refused("V100", "no peak for 'bfloat16'", "float32, float16"):
            ask()


def test_a_device_that_is_not_in_the_table(memory):
    with refused("unknown device 'H1000'", *memory.DEVICES):
        memory.device("H1000")


@pytest.mark.parametrize("value", [0, -1, "295", None, float("nan")], ids=str)
def test_intensities(memory, value):
    with refused("intensity must be a number above zero", f"got {value!r}"):
        memory.attainable_flops(value, memory.device("H100"))
    with refused("ridge must be a number above zero", f"got {value!r}"):
        memory.compute_bound_batch(value, d_in=8, d_out=8)


@pytest.mark.parametrize("size", NOT_A_SIZE, ids=str)
def test_sizes_of_the_compute_bound_batch(memory, size):
    for name in ("d_in", "d_out"):
        with refused(name, "must be", "positive", str(size)):
            memory.compute_bound_batch(295, **{"d_in": 8, "d_out": 8, name: size})


def test_only_costs_add_up(memory):
    cost = memory.Cost(1, 2, 3)
    with pytest.raises(TypeError):
        cost + 3
    with pytest.raises(TypeError):
        cost * cost
    assert sum([cost, cost]) == 2 * cost == cost * 2 == memory.Cost(2, 4, 6)
