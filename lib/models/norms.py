"""Normalisation: each in PyTorch's fused form, and beside it as its definition reads.

LayerNorm and RMSNorm look at one token at a time, so that neither the batch nor the length of a
sequence matters. BatchNorm, which looks at one feature across all tokens, is here for contrast.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class LayerNorm(nn.Module):
    """Each token's features, shifted to mean 0 and scaled to variance 1 (Ba et al., 2016).

    A gain and a bias per feature follow. (..., hidden_size) to (..., hidden_size).
    """

    def __init__(self, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(hidden_size)), _zeros(hidden_size)
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """The fused kernel: one pass over memory in each direction."""
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def by_definition(self, x: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """(x - mean) / √(variance + eps) · weight + bias, the variance over all features."""
        mean = x.mean(dim=-1, keepdim=True)
        variance = (x - mean).square().mean(dim=-1, keepdim=True)
        return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


class RMSNorm(nn.Module):
    """Each token's features, divided by their root mean square (Zhang and Sennrich, 2019).

    LayerNorm without the mean and without the bias. T5 and LLaMA use it.
    """

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """The fused kernel."""
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)

    def by_definition(self, x: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """x / √(mean of squares + eps) · weight."""
        mean_square = x.square().mean(dim=-1, keepdim=True)
        return x / (mean_square + self.eps).sqrt() * self.weight


class BatchNorm(nn.Module):
    """Each feature, normalised over every token of the batch (Ioffe and Szegedy, 2015).

    What one sequence becomes then depends on the others beside it, and a batch of one, or padding,
    changes it. Evaluation uses running averages instead. Transformers use it nowhere.
    """

    def __init__(self, hidden_size: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(hidden_size)), _zeros(hidden_size)
        self.register_buffer("running_mean", torch.zeros(hidden_size))
        self.register_buffer("running_variance", torch.ones(hidden_size))
        self.eps, self.momentum = eps, momentum

    def forward(self, x: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """Normalise by the batch's own mean and variance in training, by the averages after it."""
        mean, variance = self.running_mean, self.running_variance
        if self.training:
            mean, variance = self._update(x.flatten(end_dim=-2))
        return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias

    def _update(self, tokens: Float[Tensor, "tokens hidden"]) -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(tokens, dim=0, correction=0)
        unbiased = variance.detach() * len(tokens) / max(len(tokens) - 1, 1)
        self.running_mean.lerp_(mean.detach(), self.momentum)
        self.running_variance.lerp_(unbiased, self.momentum)
        return mean, variance


def _zeros(size: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(size))
