"""One Transformer layer as a ledger: each operator by name, with its cost."""

from lib.memory import traffic
from lib.memory.cost import Cost
from lib.memory.shapes import ModelShape
from lib.memory.sizes import Number, Size, check_sizes


def layer_costs(
    shape: ModelShape,
    *,
    batch_size: Size,
    queries: Size,
    keys: Size,
    bytes_per_element: Number = 2,
    fused: bool = False,
) -> dict[str, Cost]:
    """The linear maps and the attention of one layer, in the order in which they run.

    Prefill and training: `queries = keys` = the length of the sequence. One step of decoding:
    `queries=1`, `keys` = the tokens so far. `fused` puts one attention kernel in the place of
    three. Norms, residual sums and activations are left out: see `traffic.layer_norm` and
    `traffic.elementwise`.
    """
    check_sizes(batch_size=batch_size, queries=queries, keys=keys)
    rows = batch_size * queries
    linear = {
        name: traffic.linear(rows=rows, d_in=d_in, d_out=d_out, bytes_per_element=bytes_per_element)
        for name, (d_in, d_out) in linear_maps(shape).items()
    }
    attention = attention_costs(
        shape,
        batch_size=batch_size,
        queries=queries,
        keys=keys,
        bytes_per_element=bytes_per_element,
        fused=fused,
    )
    before = {name: linear.pop(name) for name in ("query", "key", "value")}
    return {**before, **attention, **linear}


def linear_maps(shape: ModelShape) -> dict[str, tuple[Size, Size]]:
    """The layer's weight matrices: name to (d_in, d_out)."""
    hidden, wide = shape.hidden_size, shape.intermediate_size
    query = shape.num_attention_heads * shape.head_dim
    key_value = shape.num_key_value_heads * shape.head_dim
    gate = {"gate": (hidden, wide)} if shape.gated else {}
    return {
        "query": (hidden, query),
        "key": (hidden, key_value),
        "value": (hidden, key_value),
        "output": (query, hidden),
        **gate,
        "up": (hidden, wide),
        "down": (wide, hidden),
    }


def attention_costs(
    shape: ModelShape,
    *,
    batch_size: Size,
    queries: Size,
    keys: Size,
    bytes_per_element: Number = 2,
    fused: bool = False,
) -> dict[str, Cost]:
    """The attention of one layer: three kernels, or one when `fused`."""
    scores = {
        "batch_size": batch_size,
        "num_attention_heads": shape.num_attention_heads,
        "queries": queries,
        "keys": keys,
        "bytes_per_element": bytes_per_element,
    }
    heads = {
        **scores,
        "head_dim": shape.head_dim,
        "num_key_value_heads": shape.num_key_value_heads,
    }
    if fused:
        return {"attention": traffic.fused_attention(**heads)}
    return {
        "scores": traffic.attention_scores(**heads),
        "softmax": traffic.softmax(**scores),
        "weighted sum": traffic.weighted_sum(**heads),
    }
