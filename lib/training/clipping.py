"""Clipping by the global norm (Pascanu et al., 2013): all gradients shrink by one factor."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from lib.memory.sizes import check_positive


def global_norm(tensors: Iterable[Tensor]) -> Float[Tensor, ""]:
    """The Euclidean norm of all numbers in all tensors; 0 for none."""
    norms = [torch.linalg.vector_norm(tensor) for tensor in tensors]
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())


def clip_by_global_norm(parameters: Iterable[Tensor], max_norm: float | None) -> Float[Tensor, ""]:
    """Shrink the gradients, in place, until their common norm is at most `max_norm`.

    The direction stays. Returns the norm before; with `max_norm=None` nothing else happens.
    Raises `ValueError` for a maximum that is not above zero.
    """
    gradients = [each.grad for each in parameters if each.grad is not None]
    norm = global_norm(gradients)
    if max_norm is not None:
        check_positive(max_norm=max_norm)
        # Always multiplied, by 1 if need be: asking a GPU for the norm would wait for it.
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)
    return norm
