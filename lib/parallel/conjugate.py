"""Megatron's f and g: what is the identity in one direction is a sum over ranks in the other.

A sublayer that is split over ranks begins with f and ends with g (Shoeybi et al., 2019). f hands
the same input to every rank; the input's gradient is then the sum of what each rank has of it. g
adds up what the ranks have computed; the sum's gradient is the gradient of every summand.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from lib.parallel.group import RankGroup
from lib.parallel.ring import ring_all_reduce


def copy_to_ranks(group: RankGroup, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """f: `x` as it is. Its gradient is summed over the ranks."""
    return _CopyToRanks.apply(x, group)


def sum_over_ranks(group: RankGroup, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """g: the sum of all ranks' `x`. Its gradient passes through as it is."""
    return _SumOverRanks.apply(x, group)


class _CopyToRanks(Function):
    @staticmethod
    def forward(context: Any, x: Tensor, group: RankGroup) -> Tensor:
        context.group = group
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _summed(context.group, gradient), None


class _SumOverRanks(Function):
    @staticmethod
    def forward(context: Any, x: Tensor, group: RankGroup) -> Tensor:
        return _summed(group, x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _summed(group: RankGroup, x: Tensor) -> Tensor:
    total = x.detach().contiguous().clone()
    ring_all_reduce(group, total)
    return total
