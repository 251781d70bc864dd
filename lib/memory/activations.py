"""What one Transformer layer keeps of its forward pass, for the backward pass to read.

The layer is pre-norm: LayerNorm, attention, dropout, residual sum; LayerNorm, feed-forward block,
dropout, residual sum. A tensor that two operators need is counted once. Bytes throughout; sizes
are positive whole numbers or SymPy expressions, anything else raises `ValueError`.
"""

from lib.memory.shapes import ModelShape
from lib.memory.sizes import Number, Size, check_positive, check_sizes


def activation_bytes(
    shape: ModelShape,
    *,
    batch_size: Size,
    seq_len: Size,
    bytes_per_element: Number = 2,
    statistic_bytes: Number = 4,
    dropout: bool = True,
    fused: bool = False,
) -> dict[str, Number]:
    """Bytes that one layer keeps, tensor by tensor; their `sum(kept.values())` is the total.

    With 2 bytes an element, dropout, as many key-value heads as attention heads and a plain
    feed-forward block of width 4 d, the total is 34 b t d + 5 a b t² (Korthikanti et al., 2022)
    and the norms' statistics, which the paper leaves out: two numbers a token and norm, kept in
    float32 (`statistic_bytes=4`) for 16-bit tensors too.
    """
    check_sizes(batch_size=batch_size, seq_len=seq_len)
    check_positive(bytes_per_element=bytes_per_element, statistic_bytes=statistic_bytes)
    tokens = batch_size * seq_len
    attention = attention_activations(
        shape,
        batch_size=batch_size,
        seq_len=seq_len,
        bytes_per_element=bytes_per_element,
        statistic_bytes=statistic_bytes,
        dropout=dropout,
        fused=fused,
    )
    feed_forward = feed_forward_activations(
        shape, tokens=tokens, bytes_per_element=bytes_per_element, dropout=dropout
    )
    norm = {
        "input": bytes_per_element * tokens * shape.hidden_size,
        "statistics": 2 * statistic_bytes * tokens,
    }
    return {
        **{f"attention norm: {name}": size for name, size in norm.items()},
        **{f"attention: {name}": size for name, size in attention.items()},
        **{f"feed-forward norm: {name}": size for name, size in norm.items()},
        **{f"feed-forward: {name}": size for name, size in feed_forward.items()},
    }


def attention_activations(
    shape: ModelShape,
    *,
    batch_size: Size,
    seq_len: Size,
    bytes_per_element: Number = 2,
    statistic_bytes: Number = 4,
    dropout: bool = True,
    fused: bool = False,
) -> dict[str, Number]:
    """Bytes that the attention block keeps, without its norm.

    Unfused attention keeps the weights, and with dropout a mask of one byte an element and the
    dropped weights too: three tensors of seq_len squared. A fused kernel keeps one statistic a
    row instead and computes the weights again in the backward pass (Dao et al., 2022); it draws
    its dropout again as well, from the seed.
    """
    tokens = batch_size * seq_len
    rows = tokens * shape.num_attention_heads
    weights = rows * seq_len
    queries = rows * shape.head_dim
    keys = tokens * shape.num_key_value_heads * shape.head_dim
    kept = {
        "input": bytes_per_element * tokens * shape.hidden_size,
        "queries": bytes_per_element * queries,
        "keys": bytes_per_element * keys,
        "values": bytes_per_element * keys,
        "heads' output": bytes_per_element * queries,
    }
    if fused:
        kept["row statistics"] = statistic_bytes * rows
    else:
        kept["weights"] = bytes_per_element * weights
    if dropout and not fused:
        kept["mask of the weights"] = weights
        kept["dropped weights"] = bytes_per_element * weights
    if dropout:
        kept["mask of the output"] = tokens * shape.hidden_size
    return kept


def feed_forward_activations(
    shape: ModelShape, *, tokens: Size, bytes_per_element: Number = 2, dropout: bool = True
) -> dict[str, Number]:
    """Bytes that the feed-forward block keeps, without its norm.

    A plain block keeps its activation's input and output; a gated one also keeps what the gate
    is multiplied with, and the product.
    """
    wide = bytes_per_element * tokens * shape.intermediate_size
    kept = {
        "input": bytes_per_element * tokens * shape.hidden_size,
        "activation's input": wide,
        "activation's output": wide,
    }
    if shape.gated:
        kept["up-projection"] = wide
        kept["gated product"] = wide
    if dropout:
        kept["mask of the output"] = tokens * shape.hidden_size
    return kept
