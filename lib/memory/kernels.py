"""Kernels to predict and to measure: those of a Transformer, and those that calibrate the model.

Each is float32, writes into memory that is there already, and runs where PyTorch computes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch

from lib.memory import traffic
from lib.memory.contention import Operation
from lib.memory.machine import compute_device
from lib.memory.prediction import Work
from lib.memory.speeds import CACHE_LINE

FLOAT32 = {"bytes_per_element": 4}
LINE = CACHE_LINE // 4


@dataclass(frozen=True)
class Kernel:
    """A piece of work and the operation that does it once."""

    work: Work
    run: Operation


@cache
def _shared(what: str) -> torch.Tensor:
    """Memory that the kernels share, one buffer to read and one to write: no two run at once."""
    generator = torch.Generator().manual_seed(0)
    elements = {"inputs": 2**25, "outputs": 2**24}[what]
    return torch.randn(elements, generator=generator).to(compute_device())


def _carve(what: str, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    """Tensors of these shapes, side by side, each beginning with a cache line."""
    tensors, start = [], 0
    for shape in shapes:
        end = start + math.prod(shape)
        tensors.append(_shared(what)[start:end].view(shape))
        start = LINE * math.ceil(end / LINE)
    return tensors


def linear_kernel(rows: int, d_in: int, d_out: int) -> Kernel:
    """Y = X Wᵀ, as `torch.nn.Linear` stores W, into memory that is there."""
    cost = traffic.linear(rows=rows, d_in=d_in, d_out=d_out, **FLOAT32)
    work = Work(f"{rows} × {d_in} → {d_out}", "linear", cost, rows, cost.flops, d_in)
    x, weight = _carve("inputs", (rows, d_in), (d_out, d_in))
    (y,) = _carve("outputs", (rows, d_out))
    return Kernel(work, lambda: torch.mm(x, weight.T, out=y))


def weight_gradient_kernel(rows: int, d_in: int, d_out: int) -> Kernel:
    """dW = dYᵀ X: a product whose long side is summed over."""
    cost = traffic.linear(rows=d_out, d_in=rows, d_out=d_in, **FLOAT32)
    work = Work(f"dW, {rows} × {d_in} → {d_out}", "linear", cost, d_out, cost.flops, rows)
    x, dy = _carve("inputs", (rows, d_in), (rows, d_out))
    (dw,) = _carve("outputs", (d_out, d_in))
    return Kernel(work, lambda: torch.mm(dy.T, x, out=dw))


@dataclass(frozen=True)
class Heads:
    """The sizes of one attention: sequences, heads, queries, keys, head_dim."""

    batch_size: int
    num_attention_heads: int
    queries: int
    keys: int
    head_dim: int = 64

    @property
    def named(self) -> dict[str, int]:
        """As the functions of `traffic` call them."""
        return {**vars(self), **FLOAT32}

    @property
    def scores(self) -> tuple[int, int, int, int]:
        """The shape of the scores."""
        return self.batch_size, self.num_attention_heads, self.queries, self.keys

    def of(self, length: int) -> tuple[int, int, int, int]:
        """The shape of so many queries, keys or values."""
        return self.batch_size, self.num_attention_heads, length, self.head_dim

    def __str__(self) -> str:
        heads = self.batch_size * self.num_attention_heads
        return f"{heads} × {self.queries} × {self.keys}, {self.head_dim}"


def scores_kernel(heads: Heads) -> Kernel:
    """S = Q Kᵀ."""
    cost = traffic.attention_scores(**heads.named)
    work = Work(f"scores, {heads}", "scores", cost, heads.queries, cost.flops, heads.head_dim)
    q, k = _carve("inputs", heads.of(heads.queries), heads.of(heads.keys))
    (s,) = _carve("outputs", heads.scores)
    return Kernel(work, lambda: torch.matmul(q, k.mT, out=s))


def weighted_sum_kernel(heads: Heads) -> Kernel:
    """O = P V."""
    cost = traffic.weighted_sum(**heads.named)
    work = Work(
        f"weighted sum, {heads}", "weighted sum", cost, heads.queries, cost.flops, heads.keys
    )
    p, v = _carve("inputs", heads.scores, heads.of(heads.keys))
    (o,) = _carve("outputs", heads.of(heads.queries))
    return Kernel(work, lambda: torch.matmul(p, v, out=o))


def softmax_kernel(heads: Heads) -> Kernel:
    """P = softmax(S)."""
    sizes = {name: size for name, size in heads.named.items() if name != "head_dim"}
    elements = math.prod(heads.scores)
    work = Work(f"softmax, {heads}", "softmax", traffic.softmax(**sizes), elements=elements)
    (s,), (p,) = _carve("inputs", heads.scores), _carve("outputs", heads.scores)
    return Kernel(work, lambda: torch.softmax(s, dim=-1, out=p))


def fused_attention_kernel(heads: Heads) -> Kernel:
    """PyTorch's scaled_dot_product_attention."""
    cost, scores = traffic.fused_attention(**heads.named), math.prod(heads.scores)
    product = 4 * scores * heads.head_dim
    work = Work(
        f"fused, {heads}", "fused attention", cost, heads.queries, product, heads.head_dim, scores
    )
    keys = heads.of(heads.keys)
    q, k, v = _carve("inputs", heads.of(heads.queries), keys, keys)
    return Kernel(work, lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v))


def sum_kernel(elements: int) -> Kernel:
    """A residual sum, z = x + y."""
    cost = traffic.elementwise(elements=elements, inputs=2, **FLOAT32)
    (x, y), (z,) = _carve("inputs", (elements,), (elements,)), _carve("outputs", (elements,))
    return Kernel(Work(f"sum of {elements:,}", "sum", cost), lambda: torch.add(x, y, out=z))


def gelu_kernel(elements: int) -> Kernel:
    """The activation of BERT and GPT, at 8 FLOPs an element."""
    cost = traffic.elementwise(elements=elements, flops_per_element=8, **FLOAT32)
    work = Work(f"GELU of {elements:,}", "gelu", cost, elements=elements)
    (x,), (y,) = _carve("inputs", (elements,)), _carve("outputs", (elements,))
    return Kernel(work, lambda: torch.ops.aten.gelu.out(x, out=y))


def layer_norm_kernel(rows: int, hidden_size: int) -> Kernel:
    """LayerNorm with its gain and bias."""
    cost = traffic.layer_norm(rows=rows, hidden_size=hidden_size, **FLOAT32)
    name = f"LayerNorm, {rows:,} × {hidden_size}"
    x, gain, bias = _carve("inputs", (rows, hidden_size), (hidden_size,), (hidden_size,))
    results = _carve("outputs", (rows, hidden_size), (rows, 1), (rows, 1))
    into = dict(zip(("out0", "out1", "out2"), results, strict=True))

    def run() -> None:
        torch.ops.aten.native_layer_norm.out(x, (hidden_size,), gain, bias, 1e-5, **into)

    return Kernel(Work(name, "layer norm", cost, elements=rows * hidden_size), run)


def calibration_kernels(*, quick: bool = False) -> dict[str, list[Kernel]]:
    """The kernels that `fit_kernel_model` needs, of sizes that no predicted kernel has."""
    step = 2 if quick else 1
    sums = (2000, 20_000, 250_000, 10**6, 4 * 10**6, 16 * 10**6)[::-step]
    widths = (900, 1500, 2400, 3600)[::-step]
    return {
        "call": [linear_kernel(8, 8, 8)],
        "rows": [linear_kernel(2**power, 320, 320) for power in range(0, 10, step)],
        "stream": [sum_kernel(size) for size in sums],
        "one row": [linear_kernel(1, width, width) for width in widths],
        "one row, short sums": [linear_kernel(1, 160, width**2 // 160) for width in widths],
        "many rows": [linear_kernel(16, width, width) for width in widths],
        "elements": [
            softmax_kernel(Heads(1, 1, 400, 400)),
            gelu_kernel(160_000),
            layer_norm_kernel(250, 640),
            fused_attention_kernel(Heads(1, 4, 320, 320)),
        ],
    }


def transformer_kernels(*, quick: bool = False) -> list[Kernel]:
    """The kernels of a Transformer, small and large; if `quick`, every fourth of them."""
    return list(_transformer_kernels())[:: 4 if quick else 1]


def _transformer_kernels() -> Iterator[Kernel]:
    for rows in (1, 4, 16, 64, 256, 1024):
        yield linear_kernel(rows, 768, 3072)
    for rows in (1, 24, 128, 768):
        yield linear_kernel(rows, 3072, 768)
    for rows in (1, 6, 48, 192):
        yield linear_kernel(rows, 1024, 1024)
    for rows in (1, 8, 32, 512):
        yield linear_kernel(rows, 2048, 2048)
    for rows in (1, 64):
        yield linear_kernel(rows, 4096, 4096)
    for rows in (1, 100):
        yield linear_kernel(rows, 512, 16_384)
    for rows in (128, 512):
        yield weight_gradient_kernel(rows, 768, 768)
    for heads in (Heads(1, 12, 128, 128), Heads(1, 12, 512, 512), Heads(1, 4, 1024, 1024)):
        yield scores_kernel(heads)
        yield softmax_kernel(heads)
        yield weighted_sum_kernel(heads)
        yield fused_attention_kernel(heads)
    for heads in (Heads(1, 2, 2048, 2048), Heads(1, 1, 4096, 4096), Heads(1, 2, 1024, 1024, 128)):
        yield fused_attention_kernel(heads)
    for heads in (Heads(1, 12, 1, 512), Heads(1, 12, 1, 4096), Heads(8, 12, 1, 1024)):
        yield scores_kernel(heads)
        yield fused_attention_kernel(heads)
    for elements in (50_000, 400_000, 3_000_000, 12_000_000):
        yield sum_kernel(elements)
        yield gelu_kernel(elements)
    for rows in (16, 128, 1024, 8192):
        yield layer_norm_kernel(rows, 768)
