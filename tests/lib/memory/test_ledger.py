"""The whole model's ledger, against what PyTorch counts and the formulas of the textbooks."""

import sympy
import torch
from sympy import simplify
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lib.memory import EXERCISE_7B, LLAMA_3_8B, ModelShape, model_costs, traffic
from lib.memory.ledger import between_products

b, t, a, h, L, V, s = sympy.symbols("b t a h L V s", positive=True, integer=True)
d = a * h
SYMBOLIC = ModelShape(L, d, a, a, h, 4 * d, V)
SMALL = ModelShape(3, 32, 4, 2, 8, 80, 101, gated=True)


class Small(torch.nn.Module):
    """A model of these sizes, its products alone."""

    def __init__(self, shape):
        super().__init__()
        self.shape, hidden = shape, shape.hidden_size
        groups = shape.num_key_value_heads * shape.head_dim
        sizes = [(hidden, hidden), (hidden, groups), (hidden, groups), (hidden, hidden)]
        sizes += [(hidden, shape.intermediate_size)] * 2 + [(shape.intermediate_size, hidden)]
        self.maps = torch.nn.ModuleList(torch.nn.Linear(*size, bias=False) for size in sizes)
        self.head = torch.nn.Linear(hidden, shape.vocab_size, bias=False)

    def forward(self, x):
        query, key, value, output, gate, up, down = self.maps
        for _ in range(self.shape.num_layers):
            heads = [
                each(x).unflatten(-1, (-1, self.shape.head_dim)).transpose(1, 2)
                for each in (query, key, value)
            ]
            mixed = torch.nn.functional.scaled_dot_product_attention(*heads, enable_gqa=True)
            x = x + output(mixed.transpose(1, 2).flatten(-2))
            x = x + down(torch.nn.functional.silu(gate(x)) * up(x))
        return self.head(x)


def test_the_products_of_a_pass_are_those_that_torch_counts():
    model, x = Small(SMALL), torch.randn(2, 7, 32)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x)
    costs = model_costs(SMALL, batch_size=2, queries=7, keys=7)
    others = {"embedding", "norms", "residual sums", "activation", "gating", "last norm", "softmax"}
    products = sum(cost.flops for name, cost in costs.items() if name not in others)
    assert counter.get_total_flops() == products


def test_the_layers_of_the_textbooks():
    """24 b t d² + 4 b t² d a layer, and 2 b t d V for the logits."""
    costs = model_costs(SYMBOLIC, batch_size=b, queries=t, keys=t)
    products = [costs[name] for name in ("query", "key", "value", "output", "up", "down")]
    products += [costs["scores"], costs["weighted sum"]]
    flops = sum(products).flops
    assert simplify(flops - L * (24 * b * t * d**2 + 4 * b * t**2 * d)) == 0
    assert simplify(costs["LM head"].flops - 2 * b * t * d * V) == 0


def test_between_the_products_of_a_layer():
    costs = between_products(SYMBOLIC, rows=t, bytes_per_element=s)
    assert simplify(costs["residual sums"].bytes - 2 * 3 * t * d * s) == 0
    assert simplify(costs["activation"].bytes - 2 * 4 * t * d * s) == 0
    norm = traffic.layer_norm(rows=t, hidden_size=d, bytes_per_element=s)
    assert costs["norms"] == 2 * norm
    assert "gating" not in costs
    assert between_products(LLAMA_3_8B, rows=5)["gating"].bytes == 3 * 5 * 14_336 * 2


def test_a_fused_pass_has_one_attention_and_the_same_products():
    sizes = {"batch_size": 1, "queries": 64, "keys": 64}
    three, one = (model_costs(EXERCISE_7B, **sizes, fused=fused) for fused in (False, True))
    assert set(three) - set(one) == {"scores", "softmax", "weighted sum"}
    assert sum(three.values()).flops == sum(one.values()).flops
    assert sum(three.values()).bytes > sum(one.values()).bytes


def test_a_step_of_decoding_reads_every_matrix_once():
    step = sum(model_costs(EXERCISE_7B, batch_size=1, queries=1, keys=1).values())
    weights = 2 * (EXERCISE_7B.num_parameters - 32_000 * 4096)
    assert weights < step.bytes < 1.01 * weights
