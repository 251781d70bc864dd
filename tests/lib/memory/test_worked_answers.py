"""The exercise sheet's Task 2 and the tables of the hand derivation, to the digit.

Formulas are compared as formulas; numbers that the answers print rounded, to half a unit of their
last digit.
"""

import dataclasses
from decimal import Decimal

import pytest
import sympy
from sympy import Rational, limit, oo, simplify

from lib.memory import (
    DEVICES,
    EXERCISE_7B,
    LLAMA_7B,
    Device,
    ModelShape,
    activation_bytes,
    attention_costs,
    compute_bound_batch,
    kv_cache_bytes,
    layer_costs,
    max_batch_size,
    ridge_point,
    traffic,
    training_state_bytes,
)

b, t, T, h, a, L, s, ridge = sympy.symbols("b t T h a L s I", positive=True)
d = a * h
width = sympy.Symbol("d", positive=True)

A100, A100_40 = DEVICES["A100-80GB"], DEVICES["A100-40GB"]
H100, H200 = DEVICES["H100"], DEVICES["H200"]
# The answers round NVIDIA's 989.4 TFLOP/s of the H100 and the H200 to 989.
ROUNDED_H100 = dataclasses.replace(H100, peak_flops={"bfloat16": 989e12})
ROUNDED_H200 = dataclasses.replace(H200, peak_flops={"bfloat16": 989e12})


def printed(number: str, unit: float = 1):
    """A number as an answer prints it: right to half a unit of its last digit."""
    digit = Decimal(1).scaleb(Decimal(number).as_tuple().exponent)
    return pytest.approx(float(number) * unit, abs=float(digit) / 2 * unit, rel=0)


def same(left, right):
    return simplify(left - right) == 0


SIZES = {"batch_size": b, "num_attention_heads": a, "bytes_per_element": s}
PREFILL = {**SIZES, "queries": t, "keys": t, "head_dim": h}
DECODE = {**SIZES, "queries": 1, "keys": T, "head_dim": h}
SCORES = {**SIZES, "queries": t, "keys": t}


def linear(rows, d_in, d_out):
    return traffic.linear(rows=rows, d_in=d_in, d_out=d_out, bytes_per_element=s)


# Row: the cost, and the sheet's FLOPs, bytes, intensity, and intensity for 2 bytes an element.
FORMULAS = {
    "prefill: projection": (
        linear(b * t, d, d),
        2 * b * t * d**2,
        s * (2 * b * t * d + d**2),
        2 * b * t * d / (s * (2 * b * t + d)),
        b * t * d / (2 * b * t + d),
    ),
    "prefill: FFN up": (
        linear(b * t, d, 4 * d),
        8 * b * t * d**2,
        s * (5 * b * t * d + 4 * d**2),
        8 * b * t * d / (s * (5 * b * t + 4 * d)),
        4 * b * t * d / (5 * b * t + 4 * d),
    ),
    "prefill: FFN down": (
        linear(b * t, 4 * d, d),
        8 * b * t * d**2,
        s * (5 * b * t * d + 4 * d**2),
        8 * b * t * d / (s * (5 * b * t + 4 * d)),
        4 * b * t * d / (5 * b * t + 4 * d),
    ),
    "prefill: scores": (
        traffic.attention_scores(**PREFILL),
        2 * b * a * t**2 * h,
        s * b * (2 * t * d + a * t**2),
        2 * t * h / (s * (2 * h + t)),
        t * h / (2 * h + t),
    ),
    "prefill: softmax": (
        traffic.softmax(**SCORES),
        5 * b * a * t**2,
        2 * s * b * a * t**2,
        5 / (2 * s),
        Rational(5, 4),
    ),
    "prefill: weighted sum": (
        traffic.weighted_sum(**PREFILL),
        2 * b * t**2 * d,
        s * b * (a * t**2 + 2 * t * d),
        2 * t * h / (s * (2 * h + t)),
        t * h / (2 * h + t),
    ),
    "prefill: both products": (
        traffic.attention_scores(**PREFILL) + traffic.weighted_sum(**PREFILL),
        4 * b * t**2 * d,
        2 * s * b * (2 * t * d + a * t**2),
        2 * t * h / (s * (2 * h + t)),
        t * h / (2 * h + t),
    ),
    "prefill: all three, products' FLOPs": (
        traffic.attention(**PREFILL, flops_per_score=0),
        4 * b * t**2 * d,
        4 * s * b * (t * d + a * t**2),
        t * h / (s * (t + h)),
        t * h / (2 * (t + h)),
    ),
    "prefill: fused": (
        traffic.fused_attention(**PREFILL, flops_per_score=0),
        4 * b * t**2 * d,
        4 * s * b * t * d,
        t / s,
        t / 2,
    ),
    "decode: projection": (
        linear(b, d, d),
        2 * b * d**2,
        s * (2 * b * d + d**2),
        2 * b * d / (s * (2 * b + d)),
        b * d / (2 * b + d),
    ),
    "decode: FFN": (
        linear(b, d, 4 * d),
        8 * b * d**2,
        s * (5 * b * d + 4 * d**2),
        8 * b * d / (s * (5 * b + 4 * d)),
        4 * b * d / (5 * b + 4 * d),
    ),
    "decode: scores": (
        traffic.attention_scores(**DECODE),
        2 * b * T * d,
        s * b * (d + T * d + a * T),
        2 / (s * (1 + 1 / T + 1 / h)),
        1 / (1 + 1 / T + 1 / h),
    ),
    "decode: weighted sum": (
        traffic.weighted_sum(**DECODE),
        2 * b * T * d,
        s * b * (a * T + T * d + d),
        2 / (s * (1 + 1 / T + 1 / h)),
        1 / (1 + 1 / T + 1 / h),
    ),
}


@pytest.mark.parametrize("row", FORMULAS)
def test_formulas(row):
    cost, flops, moved, intensity, in_two_bytes = FORMULAS[row]
    assert same(cost.flops, flops)
    assert same(cost.bytes, moved)
    assert same(cost.intensity, intensity)
    assert same(cost.intensity.subs(s, 2), in_two_bytes)


def test_a_linear_map_is_limited_by_its_smallest_dimension():
    rows, d_in, d_out = sympy.symbols("N d_in d_out", positive=True)
    cost = linear(rows, d_in, d_out)
    assert same(cost.flops, 2 * rows * d_in * d_out)
    assert same(cost.bytes, s * (rows * d_in + d_in * d_out + rows * d_out))
    assert same(cost.intensity, 2 / (s * (1 / d_in + 1 / d_out + 1 / rows)))


def test_a_new_token_adds_one_key_and_one_value_to_the_cache():
    added = kv_cache_bytes(
        batch_size=b,
        seq_len=1,
        num_layers=1,
        num_key_value_heads=a,
        head_dim=h,
        bytes_per_element=s,
    )
    assert same(added, 2 * s * b * d)


def test_the_backward_pass_has_the_intensity_of_the_forward_pass_and_twice_its_flops():
    projection = {"rows": b * t, "d_in": d, "d_out": d, "bytes_per_element": s}
    pairs = [
        (traffic.linear(**projection), traffic.linear_backward(**projection)),
        (traffic.attention_scores(**PREFILL), traffic.attention_scores_backward(**PREFILL)),
        (traffic.weighted_sum(**PREFILL), traffic.weighted_sum_backward(**PREFILL)),
    ]
    for forward, backward in pairs:
        assert same(backward.flops, 2 * forward.flops)
        assert same(backward.bytes, 2 * forward.bytes)
        assert same(backward.intensity, forward.intensity)
    # Four products, dP, dV, dQ and dK: two in each of the last two pairs.
    _, scores, weighted = (backward for _, backward in pairs)
    assert same((scores + weighted).flops, 4 * 2 * b * t**2 * d)
    assert same((scores + weighted).bytes, 4 * s * b * (2 * t * d + a * t**2))


def intensity_of(row):
    return FORMULAS[row][0].intensity.subs(s, 2)


def test_limits():
    n = sympy.Symbol("n", positive=True)  # b t, the rows of a projection
    projection = traffic.linear(rows=n, d_in=width, d_out=width).intensity
    wide = traffic.linear(rows=n, d_in=width, d_out=4 * width).intensity
    assert limit(projection, n, oo) == width / 2
    assert limit(wide, n, oo) == 4 * width / 5
    assert limit(projection.subs(width, 4096), n, oo) == 2048
    assert float(limit(wide.subs(width, 4096), n, oo)) == printed("3277")
    assert limit(projection / n, n, 0) == 1
    assert limit(projection, width, oo) == n
    assert limit(intensity_of("prefill: scores"), t, oo) == h
    assert limit(intensity_of("prefill: all three, products' FLOPs"), t, oo) == h / 2
    assert limit(intensity_of("prefill: scores"), h, oo) == t / 2
    assert limit(intensity_of("decode: projection").subs(h, width / a), width, oo) == b
    assert limit(intensity_of("decode: FFN").subs(h, width / a), width, oo) == b


def test_decoding_stays_below_one_flop_per_byte():
    for row in ("decode: scores", "decode: weighted sum"):
        intensity = intensity_of(row)
        assert intensity.free_symbols == {T, h}
        assert limit(limit(intensity, T, oo), h, oo) == 1
        assert simplify(1 / intensity - 1).is_positive


def test_fused_attention_is_as_intense_as_the_sequence_is_long():
    fused = traffic.fused_attention(**PREFILL, flops_per_score=0).intensity
    assert same(fused, t / s)
    assert fused.subs({s: 2, t: 4096}) == 2048
    long, short = (int(2 * ridge_point(A100)) + extra for extra in (1, 0))
    for length, bound in ((long, "compute"), (short, "memory")):
        cost = traffic.fused_attention(
            batch_size=1,
            num_attention_heads=32,
            queries=length,
            keys=length,
            head_dim=128,
            flops_per_score=0,
        )
        assert cost.bound(A100) == bound


def test_shared_keys_multiply_the_intensity_of_decoding_by_the_size_of_the_group():
    group = sympy.Symbol("g", positive=True)
    shared = traffic.attention_scores(**DECODE, num_key_value_heads=a / group).intensity
    assert same(shared.subs(s, 2), 1 / (1 / group + 1 / T + 1 / h))
    assert limit(limit(shared.subs(s, 2), T, oo), h, oo) == group
    for size, answer in ((4, "3.9"), (8, "7.5"), (32, "25.4")):
        shape = dataclasses.replace(EXERCISE_7B, num_key_value_heads=32 // size)
        costs = attention_costs(shape, batch_size=1, queries=1, keys=4096)
        assert costs["scores"].intensity == costs["weighted sum"].intensity == printed(answer)


# ----- the example: h = 128, a = 32, d = 4096, t = 4096, L = 32, 16-bit -----

WHOLE = layer_costs(EXERCISE_7B, batch_size=1, queries=4096, keys=4096)
STEP = layer_costs(EXERCISE_7B, batch_size=1, queries=1, keys=4096)
STEP_64 = layer_costs(EXERCISE_7B, batch_size=64, queries=1, keys=4096)
LLAMA = layer_costs(LLAMA_7B, batch_size=1, queries=4096, keys=4096)
FUSED = layer_costs(EXERCISE_7B, batch_size=1, queries=4096, keys=4096, fused=True)["attention"]
FUSED_STEP = layer_costs(EXERCISE_7B, batch_size=1, queries=1, keys=4096, fused=True)["attention"]
LM_HEAD = {"hidden_size": 4096, "vocab_size": 32_000}

G, M = 1e9, 1e6

# Name: the cost, and its FLOPs, bytes and intensity with their units, as printed.
NUMBERS = {
    "projection, prefill": (WHOLE["query"], ("137.44", G), ("100.66", M), "1365.3"),
    "scores, prefill": (WHOLE["scores"], ("137.44", G), ("1140.85", M), "120.47"),
    "softmax, prefill": (WHOLE["softmax"], ("2.684", G), ("2147.48", M), "1.25"),
    "weighted sum, prefill": (WHOLE["weighted sum"], ("137.44", G), ("1140.85", M), "120.47"),
    "fused, prefill": (FUSED, ("277.56", G), ("134.22", M), "2068"),
    "gate": (LLAMA["gate"], ("369.37", G), ("213.91", M), "1726.7"),
    "up": (LLAMA["up"], ("369.37", G), ("213.91", M), "1726.7"),
    "down": (LLAMA["down"], ("369.37", G), ("213.91", M), "1726.7"),
    "projection, decode": (STEP["query"], ("33.55", M), ("33.57", M), "1.00"),
    "scores, decode": (STEP["scores"], ("33.55", M), ("33.82", M), "0.992"),
    "weighted sum, decode": (STEP["weighted sum"], ("33.55", M), ("33.82", M), "0.992"),
    "fused, decode": (FUSED_STEP, ("67.8", M), ("67.13", M), "1.010"),
    "LM head, prefill": (
        traffic.lm_head(rows=4096, **LM_HEAD),
        ("1073.7", G),
        ("557.8", M),
        "1924.8",
    ),
    "LM head, decode": (traffic.lm_head(rows=1, **LM_HEAD), ("262", M), ("262.2", M), "1.0"),
    "projection, decode, b = 64": (STEP_64["query"], ("2.147", G), ("34.6", M), "62.1"),
    "FFN, prefill": (WHOLE["up"], ("549.8", G), ("302.0", M), "1820"),
}


@pytest.mark.parametrize("row", NUMBERS)
def test_numbers(row):
    cost, flops, moved, intensity = NUMBERS[row]
    assert cost.flops == printed(*flops)
    assert cost.bytes == printed(*moved)
    assert cost.intensity == printed(intensity)


def test_numbers_that_the_tables_leave_out():
    projections = [WHOLE[name] for name in ("query", "key", "value", "output")]
    assert all(cost == WHOLE["query"] for cost in projections)
    assert WHOLE["query"].intensity == 4096 / 3 == printed("1365")
    products_alone = traffic.attention(
        batch_size=1,
        num_attention_heads=32,
        queries=4096,
        keys=4096,
        head_dim=128,
        flops_per_score=0,
    )
    assert products_alone.intensity == printed("62.1")


@pytest.mark.parametrize("batch_size", [1, 2, 64, 4096])
def test_batching_does_not_help_the_attention_of_decoding(batch_size):
    costs = attention_costs(EXERCISE_7B, batch_size=batch_size, queries=1, keys=4096)
    assert costs["scores"].intensity == costs["weighted sum"].intensity == printed("0.992")


def test_one_number_of_the_worked_answer_is_a_slip():
    """It prints 33.83 MB where its own formula, s b (d + T d + a T), gives 33.82 MB."""
    assert STEP["scores"].bytes == 2 * (4096 + 4096 * 4096 + 32 * 4096) == 33_824_768
    assert STEP["scores"].bytes != printed("33.83", M)
    assert STEP["scores"].bytes == printed("33.82", M)


def test_ridge_points():
    assert ridge_point(A100_40) == printed("201")
    assert ridge_point(A100) == printed("153")
    for device in (H100, ROUNDED_H100):
        assert ridge_point(device) == printed("295")
    for device in (H200, ROUNDED_H200):
        assert ridge_point(device) == printed("206")


def test_the_batch_that_makes_a_projection_of_decoding_compute_bound():
    formula = compute_bound_batch(ridge, d_in=width, d_out=width)
    assert same(formula, ridge * width / (width - 2 * ridge))
    for device, answer in ((A100, 166), (A100_40, 223), (H200, 230), (ROUNDED_H200, 230)):
        assert compute_bound_batch(ridge_point(device), d_in=4096, d_out=4096) == answer
        assert_first_compute_bound(answer, device)


def test_the_batch_of_the_h100_depends_on_the_fourth_digit_of_its_peak():
    """I d / (d - 2 I) is 344.95 for 989 TFLOP/s, which the answer uses, and 345.11 for 989.4."""
    for device, exact, answer in ((ROUNDED_H100, "344.95", 345), (H100, "345.11", 346)):
        intensity = ridge_point(device)
        assert intensity * 4096 / (4096 - 2 * intensity) == printed(exact)
        assert compute_bound_batch(intensity, d_in=4096, d_out=4096) == answer
        assert_first_compute_bound(answer, device)


def assert_first_compute_bound(batch_size: int, device: Device):
    for rows, bound in ((batch_size - 1, "memory"), (batch_size, "compute")):
        assert traffic.linear(rows=rows, d_in=4096, d_out=4096).bound(device) == bound


def test_naive_attention_is_memory_bound_even_in_prefill_and_fused_is_not():
    for name in ("scores", "softmax", "weighted sum"):
        assert WHOLE[name].bound(A100) == "memory"
    for name in ("query", "key", "value", "output", "up", "down"):
        assert WHOLE[name].bound(A100) == "compute"
    assert FUSED.bound(A100) == "compute"
    assert all(cost.bound(A100) == "memory" for cost in [*STEP.values(), *STEP_64.values()])


def total_time(costs, *names):
    return sum(costs[name].time(A100) for name in names)


PROJECTIONS = "query", "key", "value", "output"
MS, US = 1e-3, 1e-6


def test_roofline_times_of_one_layer_in_prefill():
    assert total_time(WHOLE, *PROJECTIONS) == printed("1.76", MS)
    assert total_time(WHOLE, "up", "down") == printed("3.52", MS)
    assert WHOLE["scores"].time(A100) == WHOLE["weighted sum"].time(A100) == printed("0.56", MS)
    assert WHOLE["softmax"].time(A100) == printed("1.05", MS)
    attention = total_time(WHOLE, "scores", "softmax", "weighted sum")
    assert attention == printed("2.17", MS)
    assert total_time(WHOLE, *WHOLE) == printed("7.46", MS)
    assert attention / total_time(WHOLE, *WHOLE) == printed("0.29")


def test_fused_attention_in_prefill_takes_its_products_time():
    """The answer's 0.88 ms leaves out the softmax's FLOPs; with them it is 0.89 ms."""
    sizes = {"batch_size": 1, "num_attention_heads": 32, "queries": 4096, "keys": 4096}
    products = traffic.fused_attention(**sizes, head_dim=128, flops_per_score=0)
    assert products.time(A100) == products.flops / 312e12 == printed("0.88", MS)
    assert FUSED.time(A100) == printed("0.89", MS)


def test_roofline_times_of_one_layer_in_decoding():
    for costs, projections, feed_forward, cache in (
        (STEP, "66", "132", "33"),
        (STEP_64, "68", "134", "2123"),
    ):
        assert total_time(costs, *PROJECTIONS) == printed(projections, US)
        assert total_time(costs, "up", "down") == printed(feed_forward, US)
        assert total_time(costs, "scores", "weighted sum") == printed(cache, US)


CACHE = {"num_key_value_heads": 32, "head_dim": 128}


def test_key_value_cache():
    symbolic = kv_cache_bytes(
        batch_size=b,
        seq_len=t,
        num_layers=L,
        num_key_value_heads=a,
        head_dim=h,
        bytes_per_element=s,
    )
    assert same(symbolic, 2 * L * b * t * d * s)
    token = kv_cache_bytes(batch_size=1, seq_len=1, num_layers=32, **CACHE)
    assert token == 524_288 == 512 * 2**10
    sizes = {4095: (67_092_480, 2_146_959_360), 4096: (67_108_864, 2_147_483_648)}
    for length, (layer, whole) in sizes.items():
        assert kv_cache_bytes(batch_size=1, seq_len=length, num_layers=1, **CACHE) == layer
        assert kv_cache_bytes(batch_size=1, seq_len=length, num_layers=32, **CACHE) == whole
    assert sizes[4095][0] == printed("67.1", 1e6) and sizes[4095][0] == printed("63.98", 2**20)
    assert sizes[4095][1] == printed("2.147", 1e9) and sizes[4095][1] == printed("1.9995", 2**30)
    assert sizes[4096] == (64 * 2**20, 2 * 2**30)


# Two norms a layer and one at the end have a gain for each of 4,096: the 30.98 counts them, where
# 6.738e9 parameters, as the answer prints them, leave room for 30.985.
NORMS = (2 * 32 + 1) * 4096
WEIGHTS = {
    "none": 0,
    "7e9": 14e9,
    "LLaMA-7B": 2 * (LLAMA_7B.num_parameters + NORMS),
    "12 L d^2": 12 * 32 * 4096**2 * 2,
}
BATCHES = {
    80e9: {"none": "37.26", "7e9": "30.74", "LLaMA-7B": "30.98", "12 L d^2": "31.26"},
    80 * 2**30: {"none": "40.01", "7e9": "33.49", "LLaMA-7B": "33.73", "12 L d^2": "34.01"},
}


@pytest.mark.parametrize("capacity", BATCHES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_largest_batch(capacity, weights):
    answer, reserved = BATCHES[capacity][weights], WEIGHTS[weights]
    sequence = kv_cache_bytes(batch_size=1, seq_len=4095, num_layers=32, **CACHE)
    fitting = max_batch_size(
        memory_bytes=capacity, bytes_per_sequence=sequence, reserved_bytes=reserved
    )
    assert fitting == int(float(answer))
    assert (capacity - reserved) / sequence == printed(answer)
    held = kv_cache_bytes(batch_size=fitting, seq_len=4095, num_layers=32, **CACHE)
    assert held + reserved <= capacity < held + sequence + reserved


def test_the_weights_that_the_answer_subtracts():
    assert LLAMA_7B.num_parameters + NORMS == 6_738_415_616
    assert LLAMA_7B.num_parameters == printed("6.738", 1e9)
    assert 32 * EXERCISE_7B.layer_parameters * 2 == WEIGHTS["12 L d^2"] == printed("12.9", 1e9)


def test_largest_batch_with_eight_key_value_heads():
    sizes = {"batch_size": 1, "num_layers": 32, "num_key_value_heads": 8, "head_dim": 128}
    sequence = kv_cache_bytes(seq_len=4096, **sizes)
    assert sequence == printed("0.537", 1e9)
    assert max_batch_size(memory_bytes=80e9, bytes_per_sequence=sequence) == 149
    beside = max_batch_size(memory_bytes=80e9, bytes_per_sequence=sequence, reserved_bytes=14e9)
    assert beside == 122


def test_model_states_of_training():
    adam = training_state_bytes(7 * 10**9)
    assert sum(adam.values()) == 16 * 7 * 10**9 == 112 * 10**9 > 80e9
    assert list(adam.values()) == [n * 7 * 10**9 for n in (2, 2, 4, 8)]
    wide_gradients = training_state_bytes(7 * 10**9, gradient_bytes=4)
    assert sum(wide_gradients.values()) == 18 * 7 * 10**9 == 126 * 10**9
    plain = training_state_bytes(1, weight_bytes=4, gradient_bytes=4, master_weights=False)
    assert plain == {"weights": 4, "gradients": 4, "optimizer states": 8}
    sgd = training_state_bytes(1, optimizer_states=0)
    assert sgd == {"weights": 2, "gradients": 2, "master weights": 4}


MODEL = ModelShape(
    num_layers=L,
    hidden_size=d,
    num_attention_heads=a,
    num_key_value_heads=a,
    head_dim=h,
    intermediate_size=4 * d,
    vocab_size=sympy.Symbol("V", positive=True),
)


def without_statistics(kept):
    return sum(size for name, size in kept.items() if "statistics" not in name)


def test_activations_of_one_layer():
    kept = activation_bytes(MODEL, batch_size=b, seq_len=t)
    assert same(without_statistics(kept), 34 * b * t * d + 5 * a * b * t**2)
    # The rest, which the paper leaves out: a mean and a deviation, 4 bytes each, for two norms.
    assert same(sum(kept.values()) - without_statistics(kept), 16 * b * t)


def test_activations_of_the_example():
    kept = activation_bytes(EXERCISE_7B, batch_size=1, seq_len=4096)
    layer, square = without_statistics(kept), 5 * 32 * 4096**2
    assert layer == 34 * 4096 * 4096 + square == printed("3.25", 1e9)
    assert 32 * layer == printed("104", 1e9) and 32 * sum(kept.values()) == printed("104", 1e9)
    assert 32 * square == printed("85.9", 1e9)
    assert kept["attention: weights"] == printed("1.07", 1e9)
    assert 32 * kept["attention: weights"] == printed("34.4", 1e9)


def test_activations_with_fused_attention():
    kept = activation_bytes(EXERCISE_7B, batch_size=1, seq_len=4096, fused=True)
    assert 32 * without_statistics(kept) == 32 * 34 * 4096 * 4096 == printed("18.3", 1e9)
    assert 32 * sum(kept.values()) == printed("18.3", 1e9)


def test_checkpoints_are_the_inputs_of_every_layer():
    kept = activation_bytes(MODEL, batch_size=b, seq_len=t)
    assert same(kept["attention norm: input"], 2 * b * t * d)
    example = activation_bytes(EXERCISE_7B, batch_size=1, seq_len=4096)
    assert 32 * example["attention norm: input"] == printed("1.07", 1e9)
