"""Attention masks: which query may attend to which key.

A mask is a boolean tensor whose last two sides are queries and keys; True means *may attend*, the
convention of `torch.nn.functional.scaled_dot_product_attention`. (`torch.nn.MultiheadAttention`
means the opposite.) Masks broadcast against the scores, (batch, heads, queries, keys). `a & b`
shows what both show, `a | b` what either shows: the published patterns, at the end of this file,
are the simple ones put together. A query that may attend to nothing is allowed: its output is zero.

Where a mask takes `queries` and `keys`, the last query stands at the last key, and without `keys`
there are as many as queries. Lengths are positive whole numbers; anything else raises `ValueError`,
and so do more queries than keys, of which the first would stand before the first key.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib.memory.sizes import check_divides, check_sizes


def causal(queries: int, keys: int | None = None) -> Bool[Tensor, "queries keys"]:
    """No query sees a later key. The last query stands at the last key.

    So that decoding works: one new query against a cache of `keys` sees all of them. Aligned to
    the start, as `is_causal=True` is in PyTorch, it would see the first key alone.
    """
    return relative_positions(queries, keys) <= 0


def prefix_lm(
    queries: int, keys: int | None = None, *, prefix: int
) -> Bool[Tensor, "queries keys"]:
    """All see the first `prefix` keys; beyond them the mask is causal (Raffel et al., 2020).

    A prefix of 0 is causal, one of all keys lets everything through; others raise `ValueError`.
    """
    in_order = causal(queries, keys)
    _check_range("prefix", prefix, 0, in_order.shape[1])
    return in_order | (torch.arange(in_order.shape[1]) < prefix)


def padding(lengths: Int[Tensor, " batch"], max_len: int) -> Bool[Tensor, "batch 1 1 {max_len}"]:
    """The first `lengths[i]` keys of sequence i are words, the others padding that nobody sees.

    Raises `ValueError` for a length below 0 or above `max_len`.
    """
    check_sizes(max_len=max_len)
    for length in lengths.tolist():
        _check_range("a length", length, 0, max_len)
    return torch.arange(max_len, device=lengths.device) < lengths[:, None, None, None]


def documents(
    document_ids: Int[Tensor, "batch seq_len"],
) -> Bool[Tensor, "batch 1 seq_len seq_len"]:
    """Documents packed into one sequence do not see each other: a query sees those of its number.

    With `causal` it is the mask of packed pre-training (Krell et al., 2021).
    """
    return (document_ids[:, :, None] == document_ids[:, None, :])[:, None]


def sliding_window(
    queries: int, keys: int | None = None, *, window: int, causal: bool = True
) -> Bool[Tensor, "queries keys"]:
    """Each query sees the `window` keys up to and with its own position.

    Not causal, it sees as many after itself: 2 window - 1 in all.
    """
    return dilated(queries, keys, window=window, dilation=1, causal=causal)


def dilated(
    queries: int, keys: int | None = None, *, window: int, dilation: int, causal: bool = True
) -> Bool[Tensor, "queries keys"]:
    """A sliding window with gaps: `window` keys, each `dilation` before the next, the own one last.

    It reaches `dilation` times as far back at the same cost (Beltagy et al., 2020). Not causal, it
    sees as many after itself.
    """
    check_sizes(window=window, dilation=dilation)
    distance = -relative_positions(queries, keys)
    near = distance.abs() < window * dilation
    return near & (distance % dilation == 0) & (distance >= 0 if causal else True)


def strided(queries: int, keys: int | None = None, *, stride: int) -> Bool[Tensor, "queries keys"]:
    """Each query sees every `stride`-th key, counted from its own position, before and after it."""
    check_sizes(stride=stride)
    return relative_positions(queries, keys) % stride == 0


def fixed(
    queries: int, keys: int | None = None, *, block_size: int, summary: int = 1
) -> Bool[Tensor, "queries keys"]:
    """All queries see the same keys: the last `summary` of every block of `block_size` keys.

    Raises `ValueError` for a summary larger than the block.
    """
    check_sizes(block_size=block_size, summary=summary)
    _check_range("summary", summary, 1, block_size)
    queries, keys = _check_lengths(queries, keys)
    return (torch.arange(keys) % block_size >= block_size - summary).expand(queries, keys)


def global_tokens(
    queries: int, keys: int | None = None, *, positions: Sequence[int]
) -> Bool[Tensor, "queries keys"]:
    """The tokens at these positions see everything and are seen by all (Beltagy et al., 2020).

    Raises `ValueError` for a position that is not one of 0 to keys - 1.
    """
    queries, keys = _check_lengths(queries, keys)
    chosen = torch.zeros(keys, dtype=torch.bool)
    for position in positions:
        _check_range("a global position", position, 0, keys - 1)
        chosen[position] = True
    return chosen[keys - queries :, None] | chosen


def random_keys(
    queries: int,
    keys: int | None = None,
    *,
    count: int,
    generator: torch.Generator,
    beside: Bool[Tensor, "queries keys"] | None = None,
) -> Bool[Tensor, "queries keys"]:
    """Each query sees `count` keys drawn at random, all different, also later ones.

    Given another mask to stand `beside`, it draws among the keys which that one hides, so that
    their union shows `count` more, or all keys where fewer than that are hidden.
    """
    queries, keys = _check_lengths(queries, keys)
    _check_range("count", count, 0, keys)
    taken = torch.zeros(queries, keys, dtype=torch.bool) if beside is None else beside
    check_mask(taken, torch.Size((queries, keys)))
    lots = torch.rand(queries, keys, generator=generator).masked_fill(taken, -1)
    drawn = torch.zeros(queries, keys, dtype=torch.bool)
    return drawn.scatter(1, lots.topk(count).indices, True) & ~taken


def block_sparse(
    layout: Bool[Tensor, "*batch query_blocks key_blocks"], block_size: int
) -> Bool[Tensor, "*batch queries keys"]:
    """A mask for blocks as one for tokens: each entry becomes a square of `block_size`."""
    check_sizes(block_size=block_size)
    rows = layout.repeat_interleave(block_size, dim=-2)
    return rows.repeat_interleave(block_size, dim=-1)


def combine(*masks: Bool[Tensor, "..."]) -> Bool[Tensor, "..."]:
    """What all of the masks let through, as `a & b & ...`, once they are known to fit.

    Raises `ValueError` for none at all, for one that is not boolean, and for shapes that do not
    broadcast.
    """
    if not masks:
        raise ValueError("combine takes at least one mask, got none")
    shapes = [tuple(mask.shape) for mask in masks]
    try:
        shape = torch.broadcast_shapes(*shapes)
    except RuntimeError:
        raise ValueError(f"masks of shapes {shapes} do not broadcast to one shape") from None
    together = torch.ones(shape, dtype=torch.bool, device=masks[0].device)
    for mask in masks:
        check_mask(mask, shape)
        together = together & mask
    return together


# The published patterns.


def sparse_transformer_strided(
    queries: int, keys: int | None = None, *, stride: int
) -> Bool[Tensor, "queries keys"]:
    """The strided pattern of the Sparse Transformer (Child et al., 2019), causal.

    A query sees the last `stride` keys, and of those before them every `stride`-th. Any key can be
    reached in two steps, and with a stride of √n a query sees about 2 √n keys.
    """
    recent = sliding_window(queries, keys, window=stride)
    return recent | (strided(queries, keys, stride=stride) & causal(queries, keys))


def sparse_transformer_fixed(
    queries: int, keys: int | None = None, *, block_size: int, summary: int = 1
) -> Bool[Tensor, "queries keys"]:
    """The fixed pattern of the Sparse Transformer (Child et al., 2019), causal.

    A query sees its own block so far, and the last `summary` keys of each block before it.
    """
    summaries = fixed(queries, keys, block_size=block_size, summary=summary)
    queries, keys = summaries.shape
    own_block = _query_positions(queries, keys) // block_size == torch.arange(keys) // block_size
    return (own_block | summaries) & causal(queries, keys)


def longformer(
    queries: int,
    keys: int | None = None,
    *,
    window: int,
    dilation: int = 1,
    positions: Sequence[int] = (),
) -> Bool[Tensor, "queries keys"]:
    """Longformer (Beltagy et al., 2020): a window to both sides, and a few global tokens.

    `window` counts one side and the query itself, as in `sliding_window`: the paper's 512, which
    are 256 on each side, are a window of 257.
    """
    local = dilated(queries, keys, window=window, dilation=dilation, causal=False)
    return local | global_tokens(queries, keys, positions=positions)


def bigbird(
    seq_len: int,
    *,
    block_size: int,
    generator: torch.Generator,
    window: int = 2,
    random_blocks: int = 3,
    global_blocks: Sequence[int] | None = None,
) -> Bool[Tensor, "{seq_len} {seq_len}"]:
    """BigBird (Zaheer et al., 2020): window, global and random blocks, each of `block_size` tokens.

    A window of 2, one block to each side and the own one, 3 random blocks, and the first and the
    last as global ones are the paper's. Random blocks are drawn among those not seen already.

    Raises `ValueError` for a block size that does not divide the length.
    """
    check_sizes(seq_len=seq_len, block_size=block_size)
    check_divides("block_size", block_size, "seq_len", seq_len)
    blocks = seq_len // block_size
    ends = (0, blocks - 1) if global_blocks is None else global_blocks
    seen = longformer(blocks, window=window, positions=ends)
    more = random_keys(blocks, count=random_blocks, generator=generator, beside=seen)
    return block_sparse(seen | more, block_size)


# What can be done with a mask.


def density(mask: Bool[Tensor, "*batch queries keys"]) -> float:
    """The share of query-key pairs that the mask lets through."""
    return mask.double().mean().item()


def to_additive(
    mask: Bool[Tensor, "*batch queries keys"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*batch queries keys"]:
    """The mask as numbers to add to the scores: 0 where True, minus infinity where False.

    A fully masked row is then all minus infinity, of which a plain softmax makes NaN.
    """
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill(~mask, float("-inf"))


def check_mask(mask: Tensor, shape: torch.Size) -> None:
    """Raise `ValueError` unless `mask` is boolean and broadcasts to scores of this shape."""
    if mask.dtype != torch.bool:
        raise ValueError(
            f"a mask must be boolean (True = may attend), got {mask.dtype}: "
            "write `mask > 0`, or `mask == 0` for an additive one"
        )
    sides = zip(reversed(mask.shape), reversed(shape), strict=False)
    if mask.ndim > len(shape) or any(mine not in (1, its) for mine, its in sides):
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not fit scores of shape {tuple(shape)} "
            "(..., queries, keys)"
        )


def relative_positions(queries: int, keys: int | None = None) -> Int[Tensor, "queries keys"]:
    """How far each key stands after each query: 0 at its own position, below 0 in its past."""
    queries, keys = _check_lengths(queries, keys)
    return torch.arange(keys) - _query_positions(queries, keys)


def _query_positions(queries: int, keys: int) -> Tensor:
    """Where each query stands among the keys, as a column; the last one at the last key."""
    return torch.arange(keys - queries, keys)[:, None]


def _check_lengths(queries: int, keys: int | None) -> tuple[int, int]:
    keys = queries if keys is None else keys
    check_sizes(queries=queries, keys=keys)
    if queries > keys:
        raise ValueError(f"{queries} queries cannot stand at the end of only {keys} keys")
    return queries, keys


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
