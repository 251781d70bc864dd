"""Problem 1: the traffic, the FLOPs and the intensity of a linear map."""

from collections.abc import Callable

from exercises.checks import Case, Draw, Sum, check, check_refuses
from exercises.hidden.task2_memory.arithmetic_intensity import (
    MODES,
    ONE_FLOP,
    UPSIDE_DOWN,
    byte_factors,
    intensity_factors,
)
from lib.memory import linear


def check_linear_elements(function: Callable) -> None:
    check(function, "linear_elements", _elements)


def check_linear_cost(function: Callable) -> None:
    check(function, "linear_cost", _cost)


def check_linear_intensity(function: Callable) -> None:
    check(function, "linear_intensity", _intensity)
    sizes = {"batch_size": 2, "seq_len": 3, "d_in": 3, "d_out": 4, "bytes_per_element": 2}
    for mode in ("training", "", "Decode"):
        check_refuses(function, "linear_intensity", {"mode": mode, **sizes}, MODES)


def _elements(draw: Draw) -> Case:
    rows, d_in, d_out = draw.size(), draw.size(), draw.size()
    x, w, y = rows * d_in, d_in * d_out, rows * d_out
    return Case(
        inputs={"rows": rows, "d_in": d_in, "d_out": d_out},
        expected={"X": x, "W": w, "Y": y},
        mistakes={
            "the weights have a row for each input and a column for each output: the number of "
            "tokens does not enter": {"W": rows * w},
            "that is the shape of X; W goes from d_in to d_out": {"W": x},
            "that is the shape of Y; W goes from d_in to d_out": {"W": y},
            "that is the shape of W; X and Y have one row per token": {"X": w, "Y": w},
            "d_in and d_out have changed places": {"X": y, "Y": x},
            "count all rows, not one": {"X": d_in, "Y": d_out},
            "multiply the sides of the matrix, do not add them": {
                "X": rows + d_in, "W": d_in + d_out, "Y": rows + d_out,
            },
            "elements are numbers: their bytes come in the next part": {
                "X": 2 * x, "W": 2 * w, "Y": 2 * y,
            },
        },
    )  # fmt: skip


def _cost(draw: Draw) -> Case:
    s = draw.one_of(1, 4, 8, 2)
    rows, d_in, d_out = draw.size(), draw.size(), draw.size()
    cost = linear(rows=rows, d_in=d_in, d_out=d_out, bytes_per_element=s)
    x, w, y = s * rows * d_in, s * d_in * d_out, s * rows * d_out
    input_, weights, output = {"the input X": x}, {"the weights W": w}, {"the output Y": y}
    arithmetic = {
        ONE_FLOP: 1 / 2,
        "it counts a multiply-add as 4 FLOPs: a multiplication and an addition are 2": 2,
        "the FLOPs do not depend on bytes_per_element": s,
        "the FLOPs do not depend on bytes_per_element; a multiply-add has 2 of them": s / 2,
    }
    return Case(
        inputs={"rows": rows, "d_in": d_in, "d_out": d_out, "bytes_per_element": s},
        expected={
            "bytes_read": cost.bytes_read,
            "bytes_written": cost.bytes_written,
            "flops": cost.flops,
        },
        sums={
            "bytes_read": Sum({**input_, **weights}, output, factors=byte_factors(s)),
            "bytes_written": Sum(output, {**input_, **weights}, factors=byte_factors(s)),
            "flops": Sum({"the multiply-adds": cost.flops}, factors=arithmetic),
        },
        mistakes={
            "reading and writing have changed places": {
                "bytes_read": cost.bytes_written, "bytes_written": cost.bytes_read,
            },
            "the weights are read once for all rows, not once for each": {
                "bytes_read": x + rows * w,
            },
            "d_in products have d_in - 1 additions between them, but a multiply-add counts as 2: "
            "the first one is added to zero": {"flops": cost.flops - rows * d_out},
            "each token needs d_in x d_out multiply-adds: the number of rows is missing": {
                "flops": 2 * d_in * d_out,
            },
            "each of the rows x d_out results needs d_in multiply-adds: d_in is missing": {
                "flops": 2 * rows * d_out,
            },
            "each token has d_out results: d_out is missing": {"flops": 2 * rows * d_in},
        },
    )  # fmt: skip


def _intensity(draw: Draw) -> Case:
    mode = draw.one_of("prefill", "decode", "train")
    decoding = mode == "decode"
    b, t, s = draw.size(2, 40), draw.size(), draw.one_of(4, 1, 8, 2)
    d_in, d_out = draw.size(2, 900), draw.size(2, 900)

    def with_rows(rows: int) -> float:
        return linear(rows=rows, d_in=d_in, d_out=d_out, bytes_per_element=s).intensity

    rows = b if decoding else b * t
    right = with_rows(rows)
    x, w, y = s * rows * d_in, s * d_in * d_out, s * rows * d_out
    traffic = {"the input X": x, "the weights W": w, "the output Y": y}
    return Case(
        inputs={
            "mode": mode, "batch_size": b, "seq_len": t,
            "d_in": d_in, "d_out": d_out, "bytes_per_element": s,
        },
        expected=right,
        sums={
            "": Sum(traffic, dividend=2 * rows * d_in * d_out, factors=intensity_factors(s)),
        },
        mistakes={
            "a step of decoding sends one token per sequence through the map: b rows, not b t":
                with_rows(b * t),
            "training and prefill send all tokens through at once: b t rows, not b": with_rows(b),
            "training's forward pass is prefill's: b t rows":
                with_rows(b * t if mode == "prefill" else b),
            "the batch is missing: count the rows of all b sequences":
                with_rows(1 if decoding else t),
            "a step of decoding has a row for each of the b sequences, not one":
                with_rows(1 if decoding else b * t),
            "in decoding the rows are the b sequences, not the t tokens so far":
                with_rows(t if decoding else b * t),
            "b sequences of t tokens are b t rows, not b + t": with_rows(b if decoding else b + t),
            UPSIDE_DOWN: 1 / right,
            "it is rounded: the intensity is a float": float(int(right)),
        },
    )  # fmt: skip
