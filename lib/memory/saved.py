"""What a forward pass really leaves behind for the backward pass, measured."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def saved_bytes(
    forward: Callable[[], Tensor], parameters: Iterable[Tensor] = ()
) -> tuple[int, Tensor]:
    """Bytes that autograd keeps of `forward()`, and what it returned.

    A storage that several operators need counts once; those of `parameters` do not count, as they
    would be there anyway. Raises `ValueError` if the result needs no gradient: then nothing is
    kept.
    """
    kept: dict[int, int] = {}
    held = []  # no address may be used a second time meanwhile
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = forward()
    if not result.requires_grad:
        raise ValueError("the result needs no gradient: is something under torch.no_grad()?")
    return sum(kept.values()), result
