"""Problem 4: limits of the intensity, and who waits for memory."""

import math
from collections.abc import Callable
from functools import cache

import sympy

from exercises.checks import Case, Draw, Sum, check
from exercises.hidden.task2_memory.arithmetic_intensity import (
    GROUPED,
    ONE_FLOP,
    PER_ELEMENT,
    UNITS_FIXED,
)
from lib.memory import ModelShape, attention_scores, fused_attention, layer_costs, linear

a, b, d, h, k, s, t = sympy.symbols("a b d h k s t", positive=True)
KERNELS = ("scores", "softmax", "weighted_sum")


def check_linear_limits(function: Callable) -> None:
    check(function, "linear_limits", _linear)


def check_attention_limits(function: Callable) -> None:
    check(function, "attention_limits", _attention)


def check_bounds(function: Callable) -> None:
    check(function, "bounds", _bounds, draws=150)


@cache
def _linear_formulas() -> dict[str, sympy.Expr]:
    """The limits of a projection, and its intensity in decoding."""
    prefill = linear(rows=b * t, d_in=d, d_out=d, bytes_per_element=s).intensity
    decode = linear(rows=b, d_in=d, d_out=d, bytes_per_element=s).intensity
    return {
        "prefill_long": sympy.limit(prefill, t, sympy.oo),
        "decode_large_batch": sympy.limit(decode, b, sympy.oo),
        "decode_wide": sympy.limit(decode, d, sympy.oo),
        "decode": decode,
    }


def _linear(draw: Draw) -> Case:
    batch, width, each = draw.size(2, 500), draw.size(100, 9000), draw.one_of(4, 1, 8, 2)
    values = {b: batch, d: width, s: each}
    right = {name: float(limit.subs(values)) for name, limit in _linear_formulas().items()}
    here = right.pop("decode")
    many_rows, wide = width / each, 2 * batch / each
    factors = {ONE_FLOP: 1 / 2, PER_ELEMENT: each, UNITS_FIXED: each / 2}
    rows = Sum(
        {"the input X": each, "the output Y": each},
        dividend=2 * width,
        factors={**factors, "each multiply-add has 2 FLOPs, not 4": 2},
    )
    return Case(
        inputs={"batch_size": batch, "hidden_size": width, "bytes_per_element": each},
        expected=right,
        sums={
            "prefill_long": rows,
            "decode_large_batch": rows,
            "decode_wide": Sum({"": each}, dividend=2 * batch, factors=factors),
        },
        mistakes={
            "it has a limit: with many rows X and Y dominate, and each of their elements serves "
            "d multiply-adds": {"prefill_long": math.inf, "decode_large_batch": math.inf},
            "it has a limit: in a wide matrix W dominates, and each weight serves b rows":
                {"decode_wide": math.inf},
            "that is the limit of the wide matrix; here the rows grow, and X and Y dominate":
                {"prefill_long": wide, "decode_large_batch": wide},
            "that is the limit for many rows; here the matrix grows, and the weights dominate":
                {"decode_wide": many_rows},
            "that is the intensity at these sizes, not the limit":
                {"decode_large_batch": here, "decode_wide": here},
            "it does not vanish: the FLOPs grow at least as fast as the bytes":
                {"prefill_long": 0, "decode_large_batch": 0, "decode_wide": 0},
            "the b sequences share the weights: the batch is missing": {"decode_wide": 2 / each},
            "it stays that low only for a single sequence: each weight serves b rows":
                {"decode_large_batch": 1, "decode_wide": 1},
        },
    )  # fmt: skip


@cache
def _attention_formulas() -> dict[str, sympy.Expr]:
    """The limits of the scores, and the intensities themselves."""
    heads = {"num_attention_heads": a, "num_key_value_heads": k, "head_dim": h}
    heads["bytes_per_element"] = s
    prefill = attention_scores(batch_size=b, queries=t, keys=t, **heads).intensity
    decode = attention_scores(batch_size=b, queries=1, keys=t, **heads).intensity
    fused = fused_attention(batch_size=b, queries=t, keys=t, **heads).intensity
    return {
        "prefill_long": sympy.limit(prefill, t, sympy.oo),
        "decode_long": sympy.limit(decode, t, sympy.oo),
        "decode_large_batch": sympy.limit(decode, b, sympy.oo),
        "fused_prefill_long": sympy.limit(fused, t, sympy.oo),
        "prefill": prefill,
        "decode": decode,
        "fused": fused,
    }


def _attention(draw: Draw) -> Case:
    key_value_heads, group = draw.size(1, 12), draw.one_of(4, 1, 3, 8)
    heads = group * key_value_heads
    batch, length, width = draw.size(2, 60), draw.size(5, 400), draw.size(8, 256)
    each = draw.one_of(4, 1, 8, 2)
    values = {b: batch, t: length, a: heads, k: key_value_heads, h: width, s: each}

    def at(**other: int) -> dict[str, float]:
        sizes = {**values, **({k: other["k"]} if other else {})}
        return {name: float(f.subs(sizes)) for name, f in _attention_formulas().items()}

    found, ungrouped = at(), at(k=heads)
    names = ("prefill_long", "decode_long", "decode_large_batch", "fused_prefill_long")
    right = {name: found[name] for name in names}
    flops = 2 * heads * width
    factors = {ONE_FLOP: 1 / 2, PER_ELEMENT: each, UNITS_FIXED: each / 2, "it is twice that": 2}
    query, key, score = each * heads * width / length, each * key_value_heads * width, each * heads
    keys_and_scores = {"the keys K": key, "the scores S": score}
    return Case(
        inputs={
            "batch_size": batch, "seq_len": length, "num_attention_heads": heads,
            "num_key_value_heads": key_value_heads, "head_dim": width, "bytes_per_element": each,
        },
        expected=right,
        sums={
            "prefill_long": Sum({"the scores S": score}, dividend=flops, factors=factors),
            "decode_long": Sum(
                keys_and_scores, {"the query, which does not grow with t": query},
                dividend=flops, factors=factors,
            ),
            "decode_large_batch": Sum(
                {"the queries Q": query, **keys_and_scores}, dividend=flops, factors=factors,
            ),
        },
        mistakes={
            "it has a limit: the t x t scores dominate, and each serves only h multiply-adds":
                {"prefill_long": math.inf},
            "it has a limit: each further key brings its own bytes, for one query per head":
                {"decode_long": math.inf},
            "a larger batch does not help: each sequence brings keys of its own, FLOPs and bytes "
            "grow alike": {"decode_large_batch": math.inf},
            "with grouped-query attention a group of query heads shares its keys: "
            "num_key_value_heads is missing": {
                "decode_long": ungrouped["decode_long"],
                "decode_large_batch": ungrouped["decode_large_batch"],
            },
            "the groups do not enter: the scores dominate, and each query head has its own":
                {"prefill_long": 2 * width * group / each},
            "that is prefill's intensity at this t, not its limit":
                {"prefill_long": found["prefill"]},
            "that is decoding's intensity at this t, not its limit":
                {"decode_long": found["decode"]},
            "that is the fused kernel's intensity at this t, not its limit":
                {"fused_prefill_long": found["fused"]},
            "that is its intensity at this t, products only, and not its limit":
                {"fused_prefill_long": 2 * heads * length / (each * (heads + key_value_heads))},
            "that is its intensity at this t without groups, and not its limit":
                {"fused_prefill_long": length / each},
            "that is the limit for a long sequence; here t stays what it is":
                {"decode_large_batch": right["decode_long"]},
            "that is the limit of prefill; in decoding one query per head meets all these keys":
                {"decode_long": right["prefill_long"]},
            "that is the limit of prefill; in decoding, whatever the batch, one query per head "
            "meets all these keys": {"decode_large_batch": right["prefill_long"]},
            "the batch multiplies FLOPs and bytes alike: it cancels": {
                "decode_long": batch * right["decode_long"],
                "decode_large_batch": batch * right["decode_large_batch"],
            },
            "the scores are small beside the keys, but they are written":
                {"decode_long": 2 * group / each, "decode_large_batch": 2 * group / each},
            "the keys dominate, but a group of query heads shares them; and the scores count":
                {"decode_long": 2 / each, "decode_large_batch": 2 / each},
            "nothing of size t x t is moved: FLOPs grow with t squared, bytes with t, without "
            "bound": {"fused_prefill_long": 2 * width / each},
            "the limit is not zero: FLOPs grow at least as fast as bytes": dict.fromkeys(names, 0),
        },
    )  # fmt: skip


def _bounds(draw: Draw) -> Case:
    mode = draw.one_of("prefill", "decode", "train")
    shape, b, t, s, ridge = _layer_and_ridge(draw, mode)
    bandwidth = draw.spread(1e11, 8e12)
    queries = 1 if mode == "decode" else t
    heads = shape.num_attention_heads

    def intensities(b: int = b, queries: int = queries, s: int = s, **other) -> dict[str, float]:
        return _intensities(ModelShape(**{**vars(shape), **other}), b, queries, t, s)

    def sides(values: dict[str, float], ridge: float = ridge) -> dict[str, str]:
        return {name: "compute" if v >= ridge else "memory" for name, v in values.items()}

    def mapping(d_in: int, d_out: int) -> dict[str, str]:
        """The sides of all operators, if they were this linear map."""
        cost = linear(rows=b * queries, d_in=d_in, d_out=d_out, bytes_per_element=s)
        return sides(dict.fromkeys(values, cost.intensity))

    values = intensities()
    right, ungrouped = sides(values), sides(intensities(num_key_value_heads=heads))
    half = {name: value for name, value in values.items() if name != "softmax"}
    d, width = shape.hidden_size, heads * shape.head_dim
    fused = layer_costs(
        shape, batch_size=b, queries=queries, keys=t, bytes_per_element=s, fused=True
    )["attention"].intensity
    return Case(
        inputs={
            "mode": mode, "batch_size": b, "seq_len": t, "hidden_size": d,
            "num_attention_heads": heads, "num_key_value_heads": shape.num_key_value_heads,
            "head_dim": shape.head_dim, "intermediate_size": shape.intermediate_size,
            "bytes_per_element": s, "peak_flops": ridge * bandwidth, "bandwidth": bandwidth,
        },
        expected=right,
        mistakes={
            "compute and memory have changed places":
                {name: "memory" if v == "compute" else "compute" for name, v in right.items()},
            "the ridge is upside down: it is peak_flops / bandwidth": sides(values, 1 / ridge),
            "compare with the ridge of this device, not with one fixed number":
                sides(values, 153.01618),
            "it depends on sizes and device, not only on mode and operator: compare the "
            "intensity with the ridge": {
                name: "memory" if mode == "decode" or name in KERNELS else "compute"
                for name in right
            },
            "a step of decoding has one token per sequence: b rows, one query":
                sides(intensities(queries=t)),
            "training and prefill send all t tokens through at once":
                sides(intensities(queries=1)),
            "training's forward pass is prefill's: all t tokens at once":
                sides(intensities(queries=t if mode == "prefill" else 1)),
            "the batch is missing": sides(intensities(b=1)),
            GROUPED: _pick(ungrouped, "scores", "weighted_sum"),
            "it maps to num_key_value_heads x head_dim, which is narrower than the queries":
                _pick(ungrouped, "key", "value"),
            "it maps from d to num_key_value_heads x head_dim, not to d":
                _pick(mapping(d, d), "key", "value"),
            "it maps between d and a h, which may differ":
                _pick(mapping(d, d), "query", "output"),
            "it maps between a h and d, which may differ":
                _pick(mapping(width, width), "query", "output"),
            "the other side is intermediate_size, which is not always 4 d":
                _pick(sides(intensities(intermediate_size=4 * d)), "up", "down"),
            "the other side is intermediate_size, not d":
                _pick(sides(intensities(intermediate_size=d)), "up", "down"),
            UNITS_FIXED: sides(intensities(s=2)),
            ONE_FLOP: sides(half, 2 * ridge),
            "the softmax has 5 FLOPs per score and moves two elements":
                {"softmax": sides({"softmax": 1 / (2 * s)})["softmax"]},
            "where the ridge is low the softmax, with 5 FLOPs per two elements, is compute-bound":
                {"softmax": "memory"},
            "a fused kernel would keep the scores on the chip; these three move them":
                sides(dict.fromkeys(KERNELS, fused)),
        },
    )  # fmt: skip


def _layer_and_ridge(draw: Draw, mode: str) -> tuple[ModelShape, int, int, int, float]:
    """A layer and a ridge close to one of its operators, so that a small mistake changes sides."""
    while True:
        k, group, width = draw.size(2, 8), draw.one_of(4, 1, 8), draw.one_of(128, 32, 64, 80)
        hidden = round(k * group * width * draw.one_of(1, 1.5, 0.5))
        shape = ModelShape(
            num_layers=1, hidden_size=hidden, num_attention_heads=k * group,
            num_key_value_heads=k, head_dim=width, vocab_size=1,
            intermediate_size=round(hidden * draw.spread(0.5, 5)),
        )  # fmt: skip
        b, t, s = round(draw.spread(1, 400)), round(draw.spread(16, 4000)), draw.one_of(2, 1, 4)
        values = _intensities(shape, b, 1 if mode == "decode" else t, t, s)
        near = values[draw.one_of(*values)]
        ridge = near * draw.one_of(0.99, 1.01, 0.9, 1.1, 0.6, 1.6, 0.15)
        if all(abs(value / ridge - 1) > 1e-6 for value in values.values()):
            return shape, b, t, s, ridge


def _intensities(shape: ModelShape, b: int, queries: int, keys: int, s: int) -> dict[str, float]:
    costs = layer_costs(shape, batch_size=b, queries=queries, keys=keys, bytes_per_element=s)
    return {name.replace(" ", "_"): cost.intensity for name, cost in costs.items()}


def _pick(answer: dict[str, str], *names: str) -> dict[str, str]:
    return {name: answer[name] for name in names}
