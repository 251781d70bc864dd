"""Data parallelism: every rank has the whole model and a part of the batch.

After the backward pass the gradients are averaged. All ranks then take the same step, from the same
weights to the same weights. With equal parts and a loss that is a mean, the average of the parts'
gradients is the gradient of the whole batch.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from lib.memory.sizes import check_sizes
from lib.parallel.group import RankGroup
from lib.parallel.ring import ring_all_reduce


def equal_parts(batch: Shaped[Tensor, "rows ..."], num_parts: int) -> tuple[Tensor, ...]:
    """The rows of a batch in `num_parts` parts of the same size, in order: views.

    Raises `ValueError` if the rows cannot be divided so: the mean of the parts' means is the mean
    of the batch only for equal parts.
    """
    check_sizes(num_parts=num_parts)
    rows = len(batch)
    if not rows or rows % num_parts:
        raise ValueError(f"a batch of {rows} rows cannot be split into {num_parts} equal parts")
    return batch.split(rows // num_parts)


def average_gradients(
    group: RankGroup, parameters: Iterable[nn.Parameter], *, bucket_bytes: int | None = None
) -> None:
    """Replace the gradients by their mean over the ranks, in place.

    They are sent in buckets of at most `bucket_bytes` each (or one parameter, if that is larger),
    all in one unless given. A bucket can leave as soon as its last gradient is there, while the
    backward pass goes on; PyTorch's DistributedDataParallel does that with buckets of 25 MiB
    (Li et al., 2020). A parameter without a gradient counts as zeros.

    Raises `ValueError` for `bucket_bytes` that are not positive.
    """
    for bucket in gradient_buckets(list(parameters), bucket_bytes):
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in bucket]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        ring_all_reduce(group, flat)
        parts = (flat / group.size).split([parameter.numel() for parameter in bucket])
        for parameter, part in zip(bucket, parts, strict=True):
            parameter.grad = part.view_as(parameter)


def gradient_buckets(
    parameters: Sequence[nn.Parameter], bucket_bytes: int | None = None
) -> Iterator[list[nn.Parameter]]:
    """The parameters from the last to the first, as gradients arrive, in buckets of that size."""
    if bucket_bytes is not None:
        check_sizes(bucket_bytes=bucket_bytes)
    bucket, filled = [], 0
    for parameter in reversed(parameters):
        if bucket and bucket_bytes is not None and filled + parameter.nbytes > bucket_bytes:
            yield bucket
            bucket, filled = [], 0
        bucket.append(parameter)
        filled += parameter.nbytes
    if bucket:
        yield bucket
