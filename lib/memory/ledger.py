"""A whole decoder-only model as a ledger: every operator of one forward pass, with its cost.

`layer.layer_costs` has a layer's products; here are the norms, sums and activations between them,
the embedding before the layers and the LM head after them.
"""

from lib.memory import traffic
from lib.memory.cost import Cost
from lib.memory.layer import layer_costs
from lib.memory.shapes import ModelShape
from lib.memory.sizes import Number, Size, check_sizes

ACTIVATION_FLOPS = 8
"""GELU by its tanh formula: a cube, two sums, three products, the tanh counted as one, a half."""


def between_products(
    shape: ModelShape, *, rows: Size, bytes_per_element: Number = 2
) -> dict[str, Cost]:
    """What one layer does besides its products and attention, each as a kernel of its own.

    Two norms and two residual sums of `rows` × hidden_size, and the activation of `rows` ×
    intermediate_size; with a gate, a product of two such tensors as well.
    """
    check_sizes(rows=rows)
    each = {"bytes_per_element": bytes_per_element}
    norm = traffic.layer_norm(rows=rows, hidden_size=shape.hidden_size, **each)
    residual = traffic.elementwise(elements=rows * shape.hidden_size, inputs=2, **each)
    wide = rows * shape.intermediate_size
    activation = traffic.elementwise(elements=wide, flops_per_element=ACTIVATION_FLOPS, **each)
    gated = {"gating": traffic.elementwise(elements=wide, inputs=2, **each)} if shape.gated else {}
    return {"norms": 2 * norm, "residual sums": 2 * residual, "activation": activation, **gated}


def model_costs(
    shape: ModelShape,
    *,
    batch_size: Size,
    queries: Size,
    keys: Size,
    bytes_per_element: Number = 2,
    fused: bool = False,
) -> dict[str, Cost]:
    """One forward pass of the whole model, every kind of operator once, all layers together.

    Prefill and training: `queries = keys` = the length. One step of decoding: `queries=1`,
    `keys` = the tokens so far. Every position gets its logits, as training needs them.
    """
    rows, each = batch_size * queries, {"bytes_per_element": bytes_per_element}
    sizes = {"batch_size": batch_size, "queries": queries, "keys": keys}
    layer = layer_costs(shape, **sizes, **each, fused=fused)
    layer |= between_products(shape, rows=rows, **each)
    hidden = {"rows": rows, "hidden_size": shape.hidden_size, **each}
    return {
        "embedding": traffic.embedding(**hidden),
        **{name: shape.num_layers * cost for name, cost in layer.items()},
        "last norm": traffic.layer_norm(**hidden),
        "LM head": traffic.lm_head(vocab_size=shape.vocab_size, **hidden),
    }
