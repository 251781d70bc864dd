"""Sums over ranks, written out with send and receive: every rank ends up with every rank's sum.

The ring (Patarasuk and Yuan, 2009) cuts the tensor into one chunk a rank. Each rank sends to the
next one only. In the first half, reduce-scatter, the chunks travel round the ring and are added up
on their way, until each rank holds one finished chunk; in the second, all-gather, the finished
chunks travel round once more. A rank sends 2 (n - 1) / n of the tensor, hardly more for a thousand
ranks than for two.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

from lib.parallel.group import RankGroup


def central_all_reduce(group: RankGroup, tensor: Shaped[Tensor, "..."]) -> None:
    """Sum `tensor` over the ranks, in place, in the obvious way: rank 0 does it for all.

    Everybody sends to rank 0, which sends n - 1 copies of the sum back: its line is the bottleneck.
    """
    if group.index == 0:
        for source in range(1, group.size):
            tensor += group.receive_new(tensor, source)
        for wait in [group.send(tensor, to) for to in range(1, group.size)]:
            wait()
    else:
        group.send(tensor, 0)()
        group.receive(tensor, 0)


def ring_all_reduce(
    group: RankGroup,
    tensor: Shaped[Tensor, "..."],
    combine: Callable[[Tensor, Tensor], Tensor] = torch.add,
) -> None:
    """Sum `tensor` over the ranks, in place; or combine it otherwise, by `torch.maximum` say.

    Raises `ValueError` for a tensor that does not lie in one piece of memory.
    """
    chunks = ring_chunks(group, tensor)
    ring_reduce_scatter(group, chunks, combine)
    ring_all_gather(group, chunks)


def ring_reduce_scatter(
    group: RankGroup,
    chunks: Sequence[Shaped[Tensor, "_"]],
    combine: Callable[[Tensor, Tensor], Tensor] = torch.add,
) -> None:
    """Make chunk i of rank i the sum of all ranks' chunks i. The other chunks hold partial sums."""
    for step in range(1, group.size):
        outgoing = chunks[(group.index - step) % group.size]
        incoming = chunks[(group.index - step - 1) % group.size]
        incoming.copy_(combine(incoming, _pass_on(group, outgoing, torch.empty_like(incoming))))


def ring_all_gather(group: RankGroup, chunks: Sequence[Shaped[Tensor, "_"]]) -> None:
    """Give every rank all chunks, where rank i has only chunk i so far."""
    for step in range(1, group.size):
        outgoing = chunks[(group.index - step + 1) % group.size]
        incoming = chunks[(group.index - step) % group.size]
        _pass_on(group, outgoing, incoming)


def ring_chunks(group: RankGroup, tensor: Shaped[Tensor, "..."]) -> tuple[Tensor, ...]:
    """A tensor as one flat chunk a rank: views, the first ones longer by one where it is uneven.

    Raises `ValueError` for a tensor that does not lie in one piece of memory.
    """
    if not tensor.is_contiguous():
        raise ValueError(
            f"the ring sends pieces of one block of memory, got a tensor of shape "
            f"{tuple(tensor.shape)} with strides {tensor.stride()}: call .contiguous() first"
        )
    return tensor.detach().view(-1).tensor_split(group.size)


def _pass_on(group: RankGroup, outgoing: Tensor, incoming: Tensor) -> Tensor:
    """Send to the next rank of the ring while receiving from the one before."""
    wait = group.send(outgoing, (group.index + 1) % group.size)
    group.receive(incoming, (group.index - 1) % group.size)
    wait()
    return incoming
