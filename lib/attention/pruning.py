"""Head pruning: most heads can be removed with little loss (Michel, Levy and Neubig, "Are sixteen
heads really better than one?", 2019).

A gate of 1 in front of a head changes nothing; a gate of 0 removes what the head contributes. How
much the loss would change if the gate moved tells which heads matter; heads that do not are cut
out of the matrices, and the layer becomes smaller.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.attention.multi_head import MultiHeadAttention


@contextmanager
def gated_heads(
    attention: MultiHeadAttention, gates: Float[Tensor, "num_attention_heads"]
) -> Iterator[None]:
    """While the block runs, each head's result is multiplied by its gate before the output map.

    Raises `ValueError` unless there is one gate a head.
    """
    if gates.shape != (attention.num_attention_heads,):
        raise ValueError(
            f"{attention.num_attention_heads} heads need as many gates, got {tuple(gates.shape)}"
        )
    side_by_side = gates.repeat_interleave(attention.head_dim)
    hook = attention.output.register_forward_pre_hook(lambda _, heads: heads[0] * side_by_side)
    try:
        yield
    finally:
        hook.remove()


def head_importance(
    attention: MultiHeadAttention, losses: Callable[[], Float[Tensor, "examples"]]
) -> Float[Tensor, "num_attention_heads"]:
    """|∂ loss / ∂ gate| of each head, at a gate of 1, averaged over the examples.

    `losses` runs the model that `attention` is part of and returns one loss an example. The
    absolute value comes before the average: a head that helps one example and harms another
    matters. To compare layers, Michel et al. divide each layer's importances by their norm.

    Raises `ValueError` if the losses are not one number an example.
    """
    gates = torch.ones_like(attention.output.weight[0, : attention.num_attention_heads])
    gates = gates.detach().requires_grad_()
    with gated_heads(attention, gates):
        each = losses()
    if each.ndim != 1 or not len(each):
        raise ValueError(f"losses must return one number an example, got shape {tuple(each.shape)}")
    slopes = [torch.autograd.grad(loss, gates, retain_graph=True)[0] for loss in each]
    return torch.stack(slopes).abs().mean(dim=0)


def prune_heads(attention: MultiHeadAttention, heads: Iterable[int]) -> MultiHeadAttention:
    """A smaller copy without these heads: the same result as with their gates at 0.

    A key-value head goes when no attention head is left that uses it. Those that stay must be
    shared by equally many, so that the copy is again grouped-query attention.

    Raises `ValueError` for a head that does not exist, if no head is left, and for groups that
    are left with different numbers of heads.
    """
    kept = _kept_heads(attention, set(heads))
    sharing = attention.num_attention_heads // attention.num_key_value_heads
    groups = Counter(head // sharing for head in kept)
    if len(set(groups.values())) > 1:
        raise ValueError(
            "each key-value head must keep equally many attention heads, or none, but they would "
            f"keep {dict(groups)}"
        )
    pruned = MultiHeadAttention(
        attention.hidden_size,
        len(kept),
        len(groups),
        head_dim=attention.head_dim,
        source_size=attention.source_size,
        bias=attention.query.bias is not None,
        scale=attention.scale,
        dropout=attention.dropout,
    ).to(attention.query.weight)
    _copy(attention, pruned, kept, list(groups))
    return pruned.train(attention.training)


def _kept_heads(attention: MultiHeadAttention, removed: set[int]) -> list[int]:
    every = range(attention.num_attention_heads)
    if not removed <= set(every):
        raise ValueError(f"the heads are 0 to {len(every) - 1}, got {sorted(removed)}")
    kept = [head for head in every if head not in removed]
    if not kept:
        raise ValueError(f"one head at least must be left, but all {len(every)} would be removed")
    return kept


@torch.no_grad()
def _copy(
    whole: MultiHeadAttention, part: MultiHeadAttention, heads: list[int], groups: list[int]
) -> None:
    """Take the heads' rows of the projections, and their columns of the output map."""
    for name, numbers in (("query", heads), ("key", groups), ("value", groups)):
        _copy_rows(whole.get_submodule(name), part.get_submodule(name), numbers, whole.head_dim)
    part.output.weight.copy_(whole.output.weight[:, _rows(heads, whole.head_dim)])
    if whole.output.bias is not None:
        part.output.bias.copy_(whole.output.bias)


def _copy_rows(whole: nn.Linear, part: nn.Linear, heads: list[int], head_dim: int) -> None:
    rows = _rows(heads, head_dim)
    part.weight.copy_(whole.weight[rows])
    if whole.bias is not None:
        part.bias.copy_(whole.bias[rows])


def _rows(heads: list[int], head_dim: int) -> Tensor:
    """The rows of these heads in a projection, where heads lie one below the other."""
    return (torch.tensor(heads)[:, None] * head_dim + torch.arange(head_dim)).flatten()
