"""The activation functions of feed-forward networks, as their formulas read.

`ACTIVATIONS` names PyTorch's fused form of each; the functions here say what it computes.
"""

from collections.abc import Callable
from functools import partial
from math import pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Activation = Callable[[Tensor], Tensor]


def relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """max(x, 0): the original Transformer and T5 v1.0."""
    return x.clamp(min=0)


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x Φ(x), Φ the normal distribution function (Hendrycks and Gimpel, 2016): BERT."""
    return x * (1 + torch.erf(x / sqrt(2))) / 2


def gelu_tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same paper's approximation of `gelu` by a tanh: GPT-2, and T5 v1.1 with its gate.

    The two differ by less than 5e-4, which is enough to spoil a comparison of models.
    """
    return x * (1 + torch.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x σ(x), also called swish (Ramachandran et al., 2017): LLaMA, with a gate."""
    return x * torch.sigmoid(x)


ACTIVATIONS: dict[str, Activation] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
}
"""Name to fused form. `torch.tanh` and others can be added by whoever needs them."""


def activation(name: str) -> Activation:
    """The activation of this name. Raises `ValueError`, listing the names, for another."""
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation {name!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
