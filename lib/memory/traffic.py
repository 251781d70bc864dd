"""What each operator of a Transformer computes and moves.

Every function returns the `Cost` of one operator run on its own, as a kernel of its own: each
operand is read from global memory once, each result written to it once. Biases are ignored, and
so are the statistics that a norm or a fused softmax keeps for its backward pass: a number or two
a row. Sizes are positive whole numbers or SymPy expressions; anything else raises `ValueError`.

The same function serves training, prefill and decoding. In training and prefill all tokens go
through at once: `rows = batch_size * seq_len`, `queries = keys = seq_len`. One step of decoding
has one new token a sequence: `rows = batch_size`, `queries = 1`, `keys` = the tokens so far.
"""

from lib.memory.cost import Cost
from lib.memory.sizes import (
    Number,
    Size,
    check_divides,
    check_not_negative,
    check_positive,
    check_sizes,
)

FLOPS_PER_SCORE = 5
"""Softmax, per element: find the maximum, subtract it, exponentiate, add up, divide.

A convention, as an exponential is many instructions. Pass `flops_per_score=0` to count matrix
products alone, as `torch.utils.flop_counter` and most textbooks do.
"""

FLOPS_PER_SCORE_BACKWARD = 4
"""Softmax's backward pass, per element: multiply dP with P, add up, subtract, multiply with P."""

INDEX_BYTES = 8
"""Token ids are 64-bit integers in PyTorch."""


def linear(*, rows: Size, d_in: Size, d_out: Size, bytes_per_element: Number = 2) -> Cost:
    """Y = X W: X is (rows, d_in), W is (d_in, d_out), Y is (rows, d_out)."""
    check_sizes(rows=rows, d_in=d_in, d_out=d_out)
    flops = 2 * rows * d_in * d_out
    return _moving(
        flops, read=rows * d_in + d_in * d_out, written=rows * d_out, each=bytes_per_element
    )


def linear_backward(*, rows: Size, d_in: Size, d_out: Size, bytes_per_element: Number = 2) -> Cost:
    """dX = dY Wᵀ and dW = Xᵀ dY: two products of the same three sizes as the forward one."""
    check_sizes(rows=rows, d_in=d_in, d_out=d_out)
    input_gradient = linear(rows=rows, d_in=d_out, d_out=d_in, bytes_per_element=bytes_per_element)
    weight_gradient = linear(rows=d_in, d_in=rows, d_out=d_out, bytes_per_element=bytes_per_element)
    return input_gradient + weight_gradient


def attention_scores(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    head_dim: Size,
    num_key_value_heads: Size | None = None,
    bytes_per_element: Number = 2,
) -> Cost:
    """S = Q Kᵀ for every head.

    Q is (batch_size, num_attention_heads, queries, head_dim), K (batch_size,
    num_key_value_heads, keys, head_dim), S (batch_size, num_attention_heads, queries, keys).
    With fewer key-value heads than attention heads (grouped-query attention, Ainslie et al.,
    2023; one of them: multi-query attention, Shazeer, 2019) each K is read once for its group.

    Raises `ValueError` when num_key_value_heads does not divide num_attention_heads.
    """
    query, key, score = _attention_elements(
        batch_size, num_attention_heads, queries, keys, head_dim, num_key_value_heads
    )
    return _moving(2 * score * head_dim, read=query + key, written=score, each=bytes_per_element)


def attention_scores_backward(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    head_dim: Size,
    num_key_value_heads: Size | None = None,
    bytes_per_element: Number = 2,
) -> Cost:
    """dQ = dS K and dK = dSᵀ Q. Shapes and errors as in `attention_scores`."""
    query, key, score = _attention_elements(
        batch_size, num_attention_heads, queries, keys, head_dim, num_key_value_heads
    )
    flops = 2 * score * head_dim
    query_gradient = _moving(flops, read=score + key, written=query, each=bytes_per_element)
    key_gradient = _moving(flops, read=score + query, written=key, each=bytes_per_element)
    return query_gradient + key_gradient


def softmax(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    bytes_per_element: Number = 2,
    flops_per_score: Number = FLOPS_PER_SCORE,
) -> Cost:
    """P = softmax(S) over the keys: every score is read once and every weight written once."""
    check_sizes(
        batch_size=batch_size, num_attention_heads=num_attention_heads, queries=queries, keys=keys
    )
    check_not_negative(flops_per_score=flops_per_score)
    score = batch_size * num_attention_heads * queries * keys
    return _moving(flops_per_score * score, read=score, written=score, each=bytes_per_element)


def softmax_backward(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    bytes_per_element: Number = 2,
    flops_per_score: Number = FLOPS_PER_SCORE_BACKWARD,
) -> Cost:
    """dS = P (dP - rowsum(dP P)): reads P and dP, writes dS."""
    check_sizes(
        batch_size=batch_size, num_attention_heads=num_attention_heads, queries=queries, keys=keys
    )
    check_not_negative(flops_per_score=flops_per_score)
    score = batch_size * num_attention_heads * queries * keys
    return _moving(flops_per_score * score, read=2 * score, written=score, each=bytes_per_element)


def weighted_sum(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    head_dim: Size,
    num_key_value_heads: Size | None = None,
    bytes_per_element: Number = 2,
) -> Cost:
    """O = P V for every head: the mirror image of `attention_scores`, with the same sizes."""
    output, value, score = _attention_elements(
        batch_size, num_attention_heads, queries, keys, head_dim, num_key_value_heads
    )
    return _moving(2 * score * head_dim, read=score + value, written=output, each=bytes_per_element)


def weighted_sum_backward(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    head_dim: Size,
    num_key_value_heads: Size | None = None,
    bytes_per_element: Number = 2,
) -> Cost:
    """dP = dO Vᵀ and dV = Pᵀ dO. Shapes and errors as in `attention_scores`."""
    output, value, score = _attention_elements(
        batch_size, num_attention_heads, queries, keys, head_dim, num_key_value_heads
    )
    flops = 2 * score * head_dim
    weight_gradient = _moving(flops, read=output + value, written=score, each=bytes_per_element)
    value_gradient = _moving(flops, read=score + output, written=value, each=bytes_per_element)
    return weight_gradient + value_gradient


def attention(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    head_dim: Size,
    num_key_value_heads: Size | None = None,
    bytes_per_element: Number = 2,
    flops_per_score: Number = FLOPS_PER_SCORE,
) -> Cost:
    """QKᵀ, softmax and PV as three kernels: the scores travel to global memory and back."""
    heads = {"batch_size": batch_size, "num_attention_heads": num_attention_heads}
    sizes = {**heads, "queries": queries, "keys": keys, "bytes_per_element": bytes_per_element}
    key_value = {"head_dim": head_dim, "num_key_value_heads": num_key_value_heads}
    return (
        attention_scores(**sizes, **key_value)
        + softmax(**sizes, flops_per_score=flops_per_score)
        + weighted_sum(**sizes, **key_value)
    )


def attention_backward(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    head_dim: Size,
    num_key_value_heads: Size | None = None,
    bytes_per_element: Number = 2,
    flops_per_score: Number = FLOPS_PER_SCORE_BACKWARD,
) -> Cost:
    """The backward passes of PV, softmax and QKᵀ, each as kernels of its own."""
    heads = {"batch_size": batch_size, "num_attention_heads": num_attention_heads}
    sizes = {**heads, "queries": queries, "keys": keys, "bytes_per_element": bytes_per_element}
    key_value = {"head_dim": head_dim, "num_key_value_heads": num_key_value_heads}
    return (
        weighted_sum_backward(**sizes, **key_value)
        + softmax_backward(**sizes, flops_per_score=flops_per_score)
        + attention_scores_backward(**sizes, **key_value)
    )


def fused_attention(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    head_dim: Size,
    num_key_value_heads: Size | None = None,
    bytes_per_element: Number = 2,
    flops_per_score: Number = FLOPS_PER_SCORE,
) -> Cost:
    """The three as one kernel that keeps the scores on the chip: the least traffic possible.

    Q, K and V are read once and O is written once. A real kernel, such as FlashAttention
    (Dao et al., 2022), reads K and V again for each block of queries that fits on the chip,
    unless the L2 cache holds them: this is the bound it approaches.
    """
    query, key, score = _attention_elements(
        batch_size, num_attention_heads, queries, keys, head_dim, num_key_value_heads
    )
    check_not_negative(flops_per_score=flops_per_score)
    flops = 4 * score * head_dim + flops_per_score * score
    return _moving(flops, read=query + 2 * key, written=query, each=bytes_per_element)


def fused_attention_backward(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    head_dim: Size,
    num_key_value_heads: Size | None = None,
    bytes_per_element: Number = 2,
    flops_per_score: Number = FLOPS_PER_SCORE + FLOPS_PER_SCORE_BACKWARD,
) -> Cost:
    """The fused backward pass, which computes the scores again instead of having stored them.

    Five products (S, dV, dP, dQ, dK) where the unfused pass has four, and the softmax once more
    beside its own backward pass; reads Q, K, V, O and dO, writes dQ, dK and dV (Dao et al., 2022,
    appendix B).
    """
    query, key, score = _attention_elements(
        batch_size, num_attention_heads, queries, keys, head_dim, num_key_value_heads
    )
    check_not_negative(flops_per_score=flops_per_score)
    flops = 10 * score * head_dim + flops_per_score * score
    return _moving(flops, read=3 * query + 2 * key, written=query + 2 * key, each=bytes_per_element)


def elementwise(
    *,
    elements: Size,
    inputs: Size = 1,
    flops_per_element: Number = 1,
    bytes_per_element: Number = 2,
) -> Cost:
    """One result from `inputs` tensors of one shape: an activation has 1, a residual sum 2."""
    check_sizes(elements=elements, inputs=inputs)
    check_not_negative(flops_per_element=flops_per_element)
    return _moving(
        flops_per_element * elements,
        read=inputs * elements,
        written=elements,
        each=bytes_per_element,
    )


def elementwise_backward(
    *,
    elements: Size,
    inputs: Size = 1,
    flops_per_element: Number = 1,
    bytes_per_element: Number = 2,
) -> Cost:
    """Reads the gradient and the saved inputs, writes a gradient for each input.

    That is an activation or a product. A sum passes its gradient on as it is and moves nothing.
    """
    check_sizes(elements=elements, inputs=inputs)
    check_not_negative(flops_per_element=flops_per_element)
    return _moving(
        flops_per_element * elements * inputs,
        read=(1 + inputs) * elements,
        written=inputs * elements,
        each=bytes_per_element,
    )


def layer_norm(*, rows: Size, hidden_size: Size, bytes_per_element: Number = 2) -> Cost:
    """LayerNorm of (rows, hidden_size): 7 FLOPs an element, and a gain and a bias to read.

    The seven: two sums (mean, variance), subtract, square, scale, gain, bias.
    """
    check_sizes(rows=rows, hidden_size=hidden_size)
    elements = rows * hidden_size
    return _moving(
        7 * elements, read=elements + 2 * hidden_size, written=elements, each=bytes_per_element
    )


def layer_norm_backward(*, rows: Size, hidden_size: Size, bytes_per_element: Number = 2) -> Cost:
    """Reads X, dY and the gain; writes dX and the gradients of gain and bias.

    13 FLOPs an element: 2 to normalise X again, 3 for the gradients of gain and bias, 1 for the
    gain, 3 for two means over the row, 4 for dX.
    """
    check_sizes(rows=rows, hidden_size=hidden_size)
    elements = rows * hidden_size
    return _moving(
        13 * elements,
        read=2 * elements + hidden_size,
        written=elements + 2 * hidden_size,
        each=bytes_per_element,
    )


def lm_head(
    *, rows: Size, hidden_size: Size, vocab_size: Size, bytes_per_element: Number = 2
) -> Cost:
    """The logits: a linear map from hidden_size to one score for every token of the vocabulary."""
    check_sizes(rows=rows, hidden_size=hidden_size, vocab_size=vocab_size)
    return linear(
        rows=rows, d_in=hidden_size, d_out=vocab_size, bytes_per_element=bytes_per_element
    )


def lm_head_backward(
    *, rows: Size, hidden_size: Size, vocab_size: Size, bytes_per_element: Number = 2
) -> Cost:
    """The gradients of the hidden states and of the head's matrix."""
    check_sizes(rows=rows, hidden_size=hidden_size, vocab_size=vocab_size)
    return linear_backward(
        rows=rows, d_in=hidden_size, d_out=vocab_size, bytes_per_element=bytes_per_element
    )


def embedding(*, rows: Size, hidden_size: Size, bytes_per_element: Number = 2) -> Cost:
    """Look up `rows` tokens: for each, an id and a vector are read and the vector is written.

    The size of the vocabulary does not enter: only the rows that are asked for are read.
    """
    check_sizes(rows=rows, hidden_size=hidden_size)
    vectors = _moving(
        0, read=rows * hidden_size, written=rows * hidden_size, each=bytes_per_element
    )
    return vectors + Cost(0, INDEX_BYTES * rows, 0)


def embedding_backward(
    *, rows: Size, hidden_size: Size, vocab_size: Size, bytes_per_element: Number = 2
) -> Cost:
    """Add each token's gradient to its row of a dense (vocab_size, hidden_size) gradient."""
    check_sizes(rows=rows, hidden_size=hidden_size, vocab_size=vocab_size)
    vectors = _moving(
        rows * hidden_size,
        read=rows * hidden_size,
        written=vocab_size * hidden_size,
        each=bytes_per_element,
    )
    return vectors + Cost(0, INDEX_BYTES * rows, 0)


def _attention_elements(
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    head_dim: Size,
    num_key_value_heads: Size | None,
) -> tuple[Size, Size, Size]:
    """How many elements Q (or O), K (or V) and S (or P) have, after checking the sizes."""
    if num_key_value_heads is None:
        num_key_value_heads = num_attention_heads
    check_sizes(batch_size=batch_size, num_attention_heads=num_attention_heads, queries=queries)
    check_sizes(keys=keys, head_dim=head_dim, num_key_value_heads=num_key_value_heads)
    check_divides(
        "num_key_value_heads", num_key_value_heads, "num_attention_heads", num_attention_heads
    )
    query = batch_size * num_attention_heads * queries * head_dim
    key = batch_size * num_key_value_heads * keys * head_dim
    score = batch_size * num_attention_heads * queries * keys
    return query, key, score


def _moving(flops: Number, *, read: Size, written: Size, each: Number) -> Cost:
    """A cost whose traffic is given in elements of `each` bytes."""
    check_positive(bytes_per_element=each)
    return Cost(flops, each * read, each * written)
