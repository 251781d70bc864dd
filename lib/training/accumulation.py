"""Gradient accumulation: the gradient of a large batch from small ones, in the memory of one.

The loss is a mean over what is counted, tokens mostly. With Nᵢ of N counted tokens in part i the
mean over all is Σ Nᵢ/N · lossᵢ. The classic bug is 1/k in the place of Nᵢ/N: right only while all
parts count alike, and with padding or masked tokens they do not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from lib.memory.sizes import check_sizes

Loss = Callable[[nn.Module, Any], Float[Tensor, ""]]
"""A model and a batch to the mean of the losses of all that the batch counts."""

Count = Callable[[Any], int]
"""How many terms the loss of a batch is the mean of."""


def accumulate_gradients(
    model: nn.Module,
    parts: Sequence[Any],
    loss: Loss,
    count: Count | None = None,
    *,
    scale: float = 1.0,
) -> Float[Tensor, ""]:
    """Add the gradient of the mean loss over all parts to the model's; return that loss.

    Parts in which nothing is counted are left out. `scale` multiplies the gradient, not what is
    returned. Raises `ValueError` for several parts without a `count`, and if nothing is counted.
    """
    shares = _shares(parts, count)
    total = 0.0
    for part, share in zip(parts, shares, strict=True):
        if share > 0:
            value = loss(model, part) * share
            (value * scale).backward()
            total = total + value.detach()
    return total


def _shares(parts: Sequence[Any], count: Count | None) -> list[float]:
    if count is None:
        if len(parts) != 1:
            raise ValueError(
                f"a mean over {len(parts)} parts needs to know how much each part counts: "
                "give count, from a batch to the number of terms of its loss"
            )
        return [1.0]
    counts = [int(count(part)) for part in parts]
    if sum(counts) < 1 or min(counts) < 0:
        raise ValueError(f"the parts must count at least one term together, got {counts}")
    return [each / sum(counts) for each in counts]


def split_batch(batch: Any, num_parts: int) -> list[Any]:
    """The rows of a batch in `num_parts` parts of nearly the same size, in order.

    A batch is a tensor, or a tuple, mapping or dataclass of tensors with as many rows each; what
    is no tensor goes into every part. Copies nothing.

    Raises `ValueError` for fewer rows than parts, and for tensors of different numbers of rows.
    """
    check_sizes(num_parts=num_parts)
    rows: list[int] = []
    _map_tensors(lambda tensor: rows.append(tensor.shape[0] if tensor.ndim else 0), batch)
    if len(set(rows)) != 1:
        raise ValueError(f"all tensors of a batch must have the same number of rows, got {rows}")
    if rows[0] < num_parts:
        raise ValueError(f"a batch of {rows[0]} rows cannot be split into {num_parts} parts")
    bounds = [rows[0] * index // num_parts for index in range(num_parts + 1)]
    return [
        _map_tensors(lambda tensor, part=slice(*ends): tensor[part], batch)
        for ends in pairwise(bounds)
    ]


def _map_tensors(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """The same structure with `function` applied to every tensor in it."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {name: _map_tensors(function, part) for name, part in batch.items()}
    if isinstance(batch, tuple):
        parts = [_map_tensors(function, part) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    if is_dataclass(batch):
        parts = {each.name: getattr(batch, each.name) for each in fields(batch)}
        return type(batch)(**_map_tensors(function, parts))
    return batch
