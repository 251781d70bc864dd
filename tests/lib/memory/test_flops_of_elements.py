"""The FLOPs an element that softmax and LayerNorm are charged: counted in loops over one row.

torch counts matrix products alone. Here a row's numbers count the operations on themselves; the
loops are held against torch, and a row twice as long shows what each element costs.
"""

import math

import pytest
import torch

from lib.memory import traffic


class Counted(float):
    """A number that counts the operations on it; an exponential counts as one."""

    operations = 0

    def exp(self):
        Counted.operations += 1
        return Counted(math.exp(self))

    def larger(self, other):
        Counted.operations += 1
        return Counted(max(self, other))


def counting(name):
    def operate(self, other):
        Counted.operations += 1
        return Counted(getattr(float, name)(self, float(other)))

    return operate


for name in ("__add__", "__radd__", "__sub__", "__mul__", "__truediv__"):
    setattr(Counted, name, counting(name))


def softmax(scores):
    top = Counted(-math.inf)
    for score in scores:
        top = top.larger(score)
    powers = [(score - top).exp() for score in scores]
    total = sum(powers)
    return [power / total for power in powers]


def softmax_backward(weights, gradient):
    total = sum([g * w for g, w in zip(gradient, weights, strict=True)])
    return [w * (g - total) for g, w in zip(gradient, weights, strict=True)]


def statistics(row):
    mean = sum(row) / len(row)
    centred = [x - mean for x in row]
    variance = sum([c * c for c in centred]) / len(row)
    return mean, centred, Counted((variance + 1e-5) ** -0.5)


def layer_norm(row, gain, bias):
    _, centred, deviation = statistics(row)
    return [c * deviation * g + b for c, g, b in zip(centred, gain, bias, strict=True)]


def layer_norm_backward(row, mean, deviation, gain, sums, gradient):
    """`sums` are the gradients of gain and bias so far, to which this row adds its own."""
    normed = [(x - mean) * deviation for x in row]
    gains = [s + g * n for s, g, n in zip(sums[0], gradient, normed, strict=True)]
    biases = [s + g for s, g in zip(sums[1], gradient, strict=True)]
    gradient = [g * w for g, w in zip(gradient, gain, strict=True)]
    first = sum(gradient) / len(row)
    second = sum([g * n for g, n in zip(gradient, normed, strict=True)]) / len(row)
    row = [(g - first - n * second) * deviation for g, n in zip(gradient, normed, strict=True)]
    return row, gains, biases


def run(operator, inputs):
    """The loop's result, by element, and the number of operations it took."""
    row, other, gain, bias, sums = ([Counted(x) for x in vector.tolist()] for vector in inputs)
    weights = softmax(row)
    mean, _, deviation = statistics(row)
    Counted.operations = 0
    match operator:
        case "softmax":
            result = softmax(row)
        case "softmax_backward":
            result = softmax_backward(weights, other)
        case "layer_norm":
            result = layer_norm(row, gain, bias)
        case "layer_norm_backward":
            parts = layer_norm_backward(row, mean, deviation, gain, [sums] * 2, other)
            result = [number for part in parts for number in part]
    return [float(x) for x in result], Counted.operations


def torch_run(operator, inputs):
    row, other, gain, bias, sums = inputs
    row, gain, bias = (x.clone().requires_grad_() for x in (row, gain, bias))
    if operator.startswith("softmax"):
        result, needed = row.softmax(0), [row]
    else:
        result = torch.nn.functional.layer_norm(row, row.shape, gain, bias)
        needed = [row, gain, bias]
    if operator.endswith("backward"):
        gradients = torch.autograd.grad(result, needed, other)
        added = [torch.zeros_like(sums), sums, sums]
        return torch.cat([g + s for g, s in zip(gradients, added, strict=False)]).tolist()
    return result.tolist()


def charged(operator, width):
    """What the library charges for one row of this width."""
    if operator.startswith("softmax"):
        sizes = {"batch_size": 1, "num_attention_heads": 1, "queries": 1, "keys": width}
    else:
        sizes = {"rows": 1, "hidden_size": width}
    return getattr(traffic, operator)(**sizes).flops


@pytest.mark.parametrize(
    "operator", ["softmax", "softmax_backward", "layer_norm", "layer_norm_backward"]
)
def test_flops_of_elements(operator):
    generator = torch.Generator().manual_seed(0)
    operations = {}
    for width in (8, 16):
        inputs = torch.randn(5, width, generator=generator, dtype=torch.float64)
        result, operations[width] = run(operator, inputs)
        assert result == pytest.approx(torch_run(operator, inputs), abs=1e-12)
    # Of what is done once a row, such as dividing by its length, nothing is left in the difference.
    assert operations[16] - operations[8] == charged(operator, 16) - charged(operator, 8)
    assert charged(operator, 16) == 2 * charged(operator, 8)
