"""What attention costs that does not compare all with all: windows, tiles, features, low rank.

Each function gives what `lib.attention` computes, hidden scores in its blocks included, and what
one fused kernel would move: what stays inside a block is neither written nor read again. From
which length on a variant is cheaper than full attention is `crossover_length`. Sizes are positive
whole numbers or SymPy expressions, which are taken to divide; anything else raises `ValueError`.
"""

import sympy

from lib.memory.cost import Cost
from lib.memory.sizes import Number, Size, check_not_negative, check_positive, check_sizes
from lib.memory.traffic import FLOPS_PER_SCORE


def tiles_cost(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    tiles: Size,
    rows: Size,
    cols: Size,
    head_dim: Size,
    bytes_per_element: Number = 2,
    flops_per_score: Number = FLOPS_PER_SCORE,
) -> Cost:
    """Attention in `tiles` rectangles of rows x cols scores, each a kernel's block: it reads its
    queries, keys and values and writes its outputs. Block-sparse attention has one tile for each
    block that is on. A query in several tiles is counted in each.
    """
    check_sizes(batch_size=batch_size, num_attention_heads=num_attention_heads, tiles=tiles)
    check_sizes(rows=rows, cols=cols, head_dim=head_dim)
    check_positive(bytes_per_element=bytes_per_element)
    check_not_negative(flops_per_score=flops_per_score)
    flops = rows * cols * (4 * head_dim + flops_per_score)
    read, written = (rows + 2 * cols) * head_dim, rows * head_dim
    each = Cost(flops, bytes_per_element * read, bytes_per_element * written)
    return batch_size * num_attention_heads * tiles * each


def local_attention_cost(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    seq_len: Size,
    head_dim: Size,
    window: Size,
    block_size: Size,
    is_causal: bool = True,
    bytes_per_element: Number = 2,
    flops_per_score: Number = FLOPS_PER_SCORE,
) -> Cost:
    """`lib.attention.local_attention`: n / B blocks of B queries and a span of B + w - 1 keys
    (2 w - 2 more than B where the window reaches both ways).

    The last block counts as full. Neither window nor block is taken longer than the sequence.
    """
    check_sizes(seq_len=seq_len, window=window, block_size=block_size)
    if isinstance(seq_len, int):
        window, block_size = (
            min(size, seq_len) if isinstance(size, int) else size for size in (window, block_size)
        )
    reach = window - 1 if is_causal else 2 * (window - 1)
    return tiles_cost(
        batch_size=batch_size,
        num_attention_heads=num_attention_heads,
        tiles=_covering(seq_len, block_size),
        rows=block_size,
        cols=block_size + reach,
        head_dim=head_dim,
        bytes_per_element=bytes_per_element,
        flops_per_score=flops_per_score,
    )


def linear_attention_cost(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    num_features: Size,
    head_dim: Size,
    bytes_per_element: Number = 2,
) -> Cost:
    """φ(Q) (φ(K)ᵀ V) and φ(Q) Σ φ(k), for features that are there already.

    φ(K) and V are read, the two sums written and read again with φ(Q), and the output written. The
    sum Σ φ(k) and the division are not products and count nothing, as in FlopCounterMode.
    """
    check_sizes(batch_size=batch_size, num_attention_heads=num_attention_heads)
    check_sizes(queries=queries, keys=keys, num_features=num_features, head_dim=head_dim)
    check_positive(bytes_per_element=bytes_per_element)
    state = num_features * (head_dim + 1)
    flops = 2 * keys * num_features * head_dim + 2 * queries * state
    read = keys * (num_features + head_dim) + queries * num_features + state
    written = state + queries * head_dim
    each = Cost(flops, bytes_per_element * read, bytes_per_element * written)
    return batch_size * num_attention_heads * each


def causal_linear_attention_cost(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    seq_len: Size,
    num_features: Size,
    head_dim: Size,
    chunk: Size,
    bytes_per_element: Number = 2,
) -> Cost:
    """`lib.attention.causal_linear_attention`: all pairs inside a chunk, a state before it.

    Longer chunks compute more pairs, shorter ones more states: the pairs cost n C (F + h), the
    states 2 n F h, C the chunk, F the features. The last chunk counts as full. Each chunk reads
    its features and values and the state before it, and writes its outputs and the state after it.
    """
    check_sizes(batch_size=batch_size, num_attention_heads=num_attention_heads)
    check_sizes(seq_len=seq_len, num_features=num_features, head_dim=head_dim, chunk=chunk)
    check_positive(bytes_per_element=bytes_per_element)
    state = num_features * (head_dim + 1)
    pairs = 2 * chunk**2 * (num_features + head_dim)
    flops = pairs + 2 * chunk * num_features * head_dim + 2 * chunk * state
    read, written = chunk * (2 * num_features + head_dim) + state, chunk * head_dim + state
    each = Cost(flops, bytes_per_element * read, bytes_per_element * written)
    return batch_size * num_attention_heads * _covering(seq_len, chunk) * each


def linformer_cost(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    rank: Size,
    head_dim: Size,
    bytes_per_element: Number = 2,
    flops_per_score: Number = FLOPS_PER_SCORE,
) -> Cost:
    """Two projections, (rank, keys) by (keys, head_dim), and attention to what they leave.

    Each head reads both matrices, which all heads share: 4 rank n h FLOPs come before the
    4 n rank h of attention, as many again.
    """
    check_sizes(batch_size=batch_size, num_attention_heads=num_attention_heads, keys=keys)
    check_sizes(rank=rank, head_dim=head_dim)
    check_positive(bytes_per_element=bytes_per_element)
    sizes = {"batch_size": batch_size, "num_attention_heads": num_attention_heads}
    read, written = 2 * keys * (rank + head_dim), 2 * rank * head_dim
    projecting = Cost(
        4 * rank * keys * head_dim, bytes_per_element * read, bytes_per_element * written
    )
    attending = tiles_cost(
        **sizes,
        tiles=1,
        rows=queries,
        cols=rank,
        head_dim=head_dim,
        bytes_per_element=bytes_per_element,
        flops_per_score=flops_per_score,
    )
    return batch_size * num_attention_heads * projecting + attending


def linear_attention_state_bytes(
    *,
    batch_size: Size,
    num_layers: Size,
    num_attention_heads: Size,
    head_dim: Size,
    num_features: Size | None = None,
    bytes_per_element: Number = 4,
) -> Number:
    """What causal linear attention keeps instead of a key-value cache: F (h + 1) numbers a head.

    Any number of tokens, the same bytes. Without `num_features` there are `head_dim` of them, as
    with elu + 1. A sum over all tokens wants float32, hence 4 bytes.
    """
    num_features = head_dim if num_features is None else num_features
    check_sizes(batch_size=batch_size, num_layers=num_layers, num_features=num_features)
    check_sizes(num_attention_heads=num_attention_heads, head_dim=head_dim)
    check_positive(bytes_per_element=bytes_per_element)
    heads = batch_size * num_layers * num_attention_heads
    return heads * num_features * (head_dim + 1) * bytes_per_element


def crossover_length(cheap: Number, full: Number, seq_len: sympy.Symbol) -> sympy.Expr:
    """The length at which two costs, FLOPs or bytes as formulas in `seq_len`, are the same.

    Raises `ValueError` where there is no such length above zero, or more than one.
    """
    # Where they meet need not be a whole number, even if lengths are.
    length = sympy.Dummy(seq_len.name, positive=True)
    difference = sympy.sympify(cheap - full).subs(seq_len, length)
    lengths = sympy.solve(difference, length)
    if len(lengths) != 1:
        raise ValueError(f"the costs meet at {lengths} and not at one length above zero")
    return sympy.factor(lengths[0])


def _covering(seq_len: Size, block: Size) -> Size:
    """How many blocks cover the sequence."""
    if isinstance(seq_len, int) and isinstance(block, int):
        return -(-seq_len // block)
    return seq_len / block
