"""Problem 2: the scores, the softmax and the weighted sum, with grouped-query attention."""

from collections.abc import Callable

from exercises.checks import Case, Draw, Sum, check, check_refuses
from exercises.hidden.task2_memory.arithmetic_intensity import (
    GROUPED,
    MODES,
    ONE_FLOP,
    PER_ELEMENT,
    UNITS_FIXED,
    UPSIDE_DOWN,
    byte_factors,
    intensity_factors,
)
from lib.memory import attention, attention_scores, fused_attention, softmax, weighted_sum

CAUSAL = "a causal mask saves nothing here: the naive kernels compute and move every score"
FUSED = "a fused kernel would keep the scores on the chip; these three move them"
OWN_SCORES = "each attention head has its own scores: num_attention_heads, not num_key_value_heads"


def check_attention_elements(function: Callable) -> None:
    check(function, "attention_elements", _elements)


def check_attention_costs(function: Callable) -> None:
    check(function, "attention_costs", _costs)


def check_attention_intensity(function: Callable) -> None:
    check(function, "attention_intensity", _intensity, draws=36)
    sizes = {"batch_size": 1, "seq_len": 8, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes = {**sizes, "head_dim": 16, "bytes_per_element": 2}
    for mode in ("training", "", "Decode"):
        check_refuses(function, "attention_intensity", {"mode": mode, **sizes}, MODES)


def _heads(draw: Draw) -> tuple[int, int]:
    """Attention heads and key-value heads; every fourth draw or so without groups."""
    key_value_heads, group = draw.size(2, 9), draw.one_of(4, 1, 3, 8)
    return group * key_value_heads, key_value_heads


def _elements(draw: Draw) -> Case:
    b, (a, k) = draw.size(2, 30), _heads(draw)
    queries, keys, h = draw.size(), draw.size(), draw.size()
    query, key, score = b * a * queries * h, b * k * keys * h, b * a * queries * keys

    def both(names: str, elements: float) -> dict[str, float]:
        return dict.fromkeys(names, elements)

    return Case(
        inputs={
            "batch_size": b, "num_attention_heads": a, "num_key_value_heads": k,
            "queries": queries, "keys": keys, "head_dim": h,
        },
        expected={"Q": query, "K": key, "S": score, "P": score, "V": key, "O": query},
        mistakes={
            "it grows with the attention heads: with grouped-query attention K and V have "
            "num_key_value_heads": both("KV", b * a * keys * h),
            "K and V have num_key_value_heads heads; a / num_key_value_heads is the size of a "
            "group": both("KV", b * (a // k) * keys * h),
            "all key-value heads count, not one": both("KV", b * keys * h),
            "the queries have num_attention_heads heads, and so has the output":
                both("QO", b * k * queries * h),
            OWN_SCORES: both("SP", b * k * queries * keys),
            "the batch is missing": {
                **both("QO", query // b), **both("KV", key // b), **both("SP", score // b),
            },
            "the heads are missing": {**both("QO", query // a), **both("SP", score // a)},
            "head_dim is missing": {**both("QO", query // h), **both("KV", key // h)},
            "a score is one number for a query and a key: head_dim is summed away":
                both("SP", score * h),
            "every query has a score for every key: queries x keys":
                {**both("SP", score // queries)},
            "every query has a score for every key: queries x keys, not keys x keys":
                both("SP", b * a * keys * keys),
            "every query has a score for every key: queries x keys, not queries x queries":
                both("SP", b * a * queries * queries),
            "K and V have a row for each key, not for each query": both("KV", b * k * queries * h),
            "Q and O have a row for each query, not for each key": both("QO", b * a * keys * h),
            CAUSAL: both("SP", score / 2),
            "K and V are entries of their own: count each once": both("KV", 2 * key),
        },
    )  # fmt: skip


def _costs(draw: Draw) -> Case:
    b, (a, k), s = draw.size(2, 12), _heads(draw), draw.one_of(4, 1, 8, 2)
    queries, keys, h = draw.size(), draw.size(), draw.size()
    sizes = {"batch_size": b, "num_attention_heads": a, "queries": queries, "keys": keys}
    heads = {**sizes, "head_dim": h, "num_key_value_heads": k}
    costs = {
        "scores": attention_scores(**heads, bytes_per_element=s),
        "softmax": softmax(**sizes, bytes_per_element=s),
        "weighted_sum": weighted_sum(**heads, bytes_per_element=s),
    }
    query, key, score = s * b * a * queries * h, s * b * k * keys * h, s * b * a * queries * keys
    traffic = {
        "scores": ({"the queries Q": query, "the keys K": key}, {"the scores S": score}),
        "softmax": ({"the scores S": score}, {"the weights P": score}),
        "weighted_sum": ({"the weights P": score, "the values V": key}, {"the output O": query}),
    }
    sums = {}
    for name, (read, written) in traffic.items():
        sums[f"{name}.bytes_read"] = Sum(read, written, factors=byte_factors(s))
        sums[f"{name}.bytes_written"] = Sum(written, read, factors=byte_factors(s))
        sums[f"{name}.flops"] = Sum({"the products": costs[name].flops}, factors=_arithmetic(s))
    sums["softmax.bytes_read"] = Sum({"the scores S": score}, factors=byte_factors(s))
    sums["softmax.bytes_written"] = Sum({"the weights P": score}, factors=byte_factors(s))
    sums["softmax.flops"] = Sum({"": costs["softmax"].flops}, factors=_softmax_arithmetic(h, s))

    def flops(scores: float) -> dict[str, dict[str, float]]:
        """The FLOPs of all three, with this many scores."""
        products = {"flops": 2 * h * scores}
        return {"scores": products, "softmax": {"flops": 5 * scores}, "weighted_sum": products}

    def with_key(size: float) -> dict[str, dict[str, float]]:
        """The bytes read, with K and V of this size."""
        return {
            "scores": {"bytes_read": query + size},
            "weighted_sum": {"bytes_read": score + size},
        }

    scores = b * a * queries * keys
    without_mask = flops(scores / 2)
    without_mask["scores"]["bytes_written"] = score / 2
    without_mask["softmax"] |= {"bytes_read": score / 2, "bytes_written": score / 2}
    return Case(
        inputs={**heads, "bytes_per_element": s},
        expected={
            name: {
                "bytes_read": cost.bytes_read,
                "bytes_written": cost.bytes_written,
                "flops": cost.flops,
            }
            for name, cost in costs.items()
        },
        sums=sums,
        mistakes={
            GROUPED: with_key(a * key // k),
            "all num_key_value_heads heads of K and V are read, not one": with_key(key // k),
            OWN_SCORES: flops(scores * k / a),
            "the batch is missing": flops(scores / b),
            CAUSAL: without_mask,
            FUSED: {
                "scores": {"bytes_written": 0},
                "softmax": {"bytes_read": 0, "bytes_written": 0},
                "weighted_sum": {"bytes_read": key},
            },
            "reading and writing of the scores have changed places": {
                "scores": {"bytes_read": score, "bytes_written": query + key},
            },
            "reading and writing of the weighted sum have changed places": {
                "weighted_sum": {"bytes_read": query, "bytes_written": score + key},
            },
            "every query has a score for every key: queries x keys, not keys x keys":
                flops(b * a * keys * keys),
            "head_dim is missing: every score sums head_dim products": {
                "scores": {"flops": 2 * scores},
            },
            "head_dim is missing: every weight scales a row of head_dim values": {
                "weighted_sum": {"flops": 2 * scores},
            },
        },
    )  # fmt: skip


def _arithmetic(s: int) -> dict[str, float]:
    return {
        ONE_FLOP: 1 / 2,
        "a multiply-add has 2 FLOPs, not 4; and each of the two products counts once": 2,
        "the FLOPs do not depend on bytes_per_element": s,
    }


def _softmax_arithmetic(h: int, s: int) -> dict[str, float]:
    counted = {
        f"it counts {flops} FLOPs per score; 5 were agreed on": flops / 5 for flops in (1, 2, 3, 4)
    }
    return {
        **counted,
        "the softmax works on the scores: head_dim does not enter": h,
        "the softmax is no product: 5 FLOPs per score, without head_dim": 2 * h / 5,
        "the softmax has 5 FLOPs per score, not per byte": s,
    }


def _intensity(draw: Draw) -> Case:
    mode = draw.one_of("prefill", "decode", "train")
    decoding = mode == "decode"
    b, (a, k), t = draw.size(2, 12), _heads(draw), draw.size(3)
    h, s = draw.size(), draw.one_of(4, 1, 8, 2)

    def all_four(queries: int = 1 if decoding else t, keys: int = t, key_value_heads: int = k):
        sizes = {"batch_size": b, "num_attention_heads": a, "queries": queries, "keys": keys}
        heads = {**sizes, "head_dim": h, "num_key_value_heads": key_value_heads}
        return {
            "scores": attention_scores(**heads, bytes_per_element=s).intensity,
            "softmax": softmax(**sizes, bytes_per_element=s).intensity,
            "weighted_sum": weighted_sum(**heads, bytes_per_element=s).intensity,
            "together": attention(**heads, bytes_per_element=s).intensity,
        }

    right = all_four()
    separate = [right["scores"], right["softmax"], right["weighted_sum"]]
    sizes = {"batch_size": b, "num_attention_heads": a, "queries": 1 if decoding else t, "keys": t}
    heads = {**sizes, "head_dim": h, "num_key_value_heads": k}
    products = attention_scores(**heads, bytes_per_element=s)
    exponentials = softmax(**sizes, bytes_per_element=s)
    whole = attention(**heads, bytes_per_element=s)
    fused = fused_attention(**heads, bytes_per_element=s)
    score = exponentials.bytes / 2
    query, key = s * b * a * sizes["queries"] * h, s * b * k * t * h
    factors = intensity_factors(s)
    return Case(
        inputs={
            "mode": mode, "batch_size": b, "seq_len": t, "num_attention_heads": a,
            "num_key_value_heads": k, "head_dim": h, "bytes_per_element": s,
        },
        expected=right,
        sums={
            "scores": Sum(
                {"the queries Q": query, "the keys K": key, "the scores S": score},
                dividend=products.flops, factors=factors,
            ),
            "weighted_sum": Sum(
                {"the weights P": score, "the values V": key, "the output O": query},
                dividend=products.flops, factors=factors,
            ),
            "softmax": Sum(
                {"S and P": 2 * score}, dividend=exponentials.flops,
                factors={
                    "it counts one FLOP per score; 5 were agreed on": 1 / 5,
                    "it moves both S and P: reading the scores is one half, writing the weights "
                    "the other": 2,
                    PER_ELEMENT: s,
                    UNITS_FIXED: s / 2,
                },
            ),
            "together": Sum({"": whole.bytes}, dividend=whole.flops, factors=factors),
        },
        mistakes={
            "a step of decoding has one query per sequence, not t": all_four(queries=t),
            "training and prefill have t queries per sequence, not one": all_four(queries=1),
            "training's forward pass is prefill's: t queries":
                all_four(queries=t if mode == "prefill" else 1),
            "in decoding the new token asks all t tokens so far, not itself alone":
                all_four(keys=1 if decoding else t),
            "seq_len includes the new token: seq_len keys, not one more":
                all_four(keys=t + 1 if decoding else t),
            "the new token attends to itself too: seq_len keys, not one fewer":
                all_four(keys=t - 1 if decoding else t),
            GROUPED: all_four(key_value_heads=a),
            "intensities do not add up: add the FLOPs, add the bytes, then divide":
                {"together": sum(separate)},
            "the mean of the intensities is not the intensity of the whole: add the FLOPs, add "
            "the bytes, then divide": {"together": sum(separate) / 3},
            "that is the lowest of the three: add the FLOPs, add the bytes, then divide":
                {"together": min(separate)},
            "that is the highest of the three: add the FLOPs, add the bytes, then divide":
                {"together": max(separate)},
            "the FLOPs of the softmax are missing":
                {"together": 2 * products.flops / whole.bytes},
            "the softmax is missing, its FLOPs and its bytes":
                {"together": 2 * products.flops / (2 * products.bytes)},
            "the bytes of the softmax are missing":
                {"together": whole.flops / (2 * products.bytes)},
            FUSED: {"together": fused.intensity},
            UPSIDE_DOWN: {name: 1 / value for name, value in right.items()},
        },
    )  # fmt: skip
