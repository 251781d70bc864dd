"""Weights in 8 bits: a quarter of the bytes to read, and so nearly four times the decoding speed.

Each row of a matrix becomes whole numbers from -127 to 127 and one scale (Dettmers et al., 2022,
scale the rows and the columns). Activations stay as they are: the products are computed in
floating point, from weights that are a quarter of their size only on the way from memory.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lib.kv_cache.quantised import dequantise_int8, quantise_int8
from lib.models.embeddings import TokenEmbedding


class Int8Linear(nn.Module):
    """A linear map whose weight is kept as 8-bit numbers and a scale for each output."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        numbers, scales = quantise_int8(linear.weight.detach())
        self.register_buffer("numbers", numbers)
        self.register_buffer("scales", scales)
        self.bias = linear.bias

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """x Wᵀ + bias."""
        product = int8_linear(x, self.numbers, self.scales)
        return product if self.bias is None else product + self.bias


class Int8Embedding(nn.Module):
    """A token embedding, also tied to the head, kept as 8-bit numbers and a scale a token."""

    def __init__(self, tokens: TokenEmbedding) -> None:
        super().__init__()
        numbers, scales = quantise_int8(tokens.weight.detach())
        self.register_buffer("numbers", numbers)
        self.register_buffer("scales", scales)

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch hidden"]:
        """The row of each id."""
        return dequantise_int8(self.numbers[ids], self.scales[ids], self.scales.dtype)

    def logits(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocab"]:
        """The score of every token at every place."""
        return int8_linear(hidden, self.numbers, self.scales)


def quantise_weights(model: nn.Module) -> nn.Module:
    """Replace all linear maps and token embeddings of `model` in place, and return it.

    What is left of its weights are norms, biases and positions. For decoding, not for training.
    """
    for name, child in model.named_children():
        if isinstance(child, nn.Linear):
            setattr(model, name, Int8Linear(child))
        elif isinstance(child, TokenEmbedding):
            setattr(model, name, Int8Embedding(child))
        else:
            quantise_weights(child)
    return model


def int8_linear(
    x: Float[Tensor, "*batch d_in"], numbers: Tensor, scales: Float[Tensor, "d_out 1"]
) -> Float[Tensor, "*batch d_out"]:
    """x Wᵀ for W = numbers · scales, by a kernel that never writes W down where there is one."""
    if x.device.type != "cpu" or x.dtype != scales.dtype or x.dtype == torch.float64:
        return functional.linear(x, dequantise_int8(numbers, scales, x.dtype))
    rows = x.reshape(-1, x.shape[-1])
    product = torch.ops.aten._weight_int8pack_mm(rows, numbers, scales[:, 0])
    return product.reshape(*x.shape[:-1], -1)
