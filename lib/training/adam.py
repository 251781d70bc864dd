"""Adam (Kingma and Ba, 2015), and AdamW (Loshchilov and Hutter, 2019), which moves one line.

    m ← β1 m + (1 - β1) g          the mean of the gradients, lately
    s ← β2 s + (1 - β2) g²         the mean of their squares
    w ← w - lr · m̂ / (√ŝ + ε)      both divided by 1 - βᵗ, as they start from zero

Two numbers for each parameter: in float32, 8 of the 16 bytes that training holds for it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lib.memory.sizes import check_not_negative
from lib.training.optimizer import UpdateRule


class Adam(UpdateRule):
    """Each parameter steps by its mean gradient, measured in its own gradients' usual size.

    Weight decay, if any, is part of the gradient, and so is divided by that size too: large
    gradients, little decay. Moments are kept in float32 for 16-bit weights.

    Raises `ValueError` for a beta outside [0, 1), and for a negative lr, eps or weight decay.
    """

    def __init__(
        self,
        parameters: ParamsT,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **options: Any,
    ) -> None:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"both betas must be at least 0 and below 1, got {betas}")
        check_not_negative(eps=eps)
        options |= {"betas": betas, "eps": eps}
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, **options)

    def update(
        self, weights: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """Decay through the gradient, then the step."""
        if group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * weights
        weights.sub_(group["lr"] * self.direction(gradient, state, group))

    def direction(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        """m̂ / (√ŝ + ε), after the moments have taken in this gradient."""
        gradient = gradient if gradient.itemsize >= 4 else gradient.float()
        beta1, beta2 = group["betas"]
        step = state["step"] = state.get("step", 0) + 1
        mean, square = self.read_moments(state, gradient)
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        size = (square / (1 - beta2**step)).sqrt_().add_(group["eps"])
        direction = torch.div(mean, size, out=size).div_(1 - beta1**step)
        self.write_moments(state, mean, square)
        return direction

    def read_moments(self, state: dict[str, Any], like: Tensor) -> tuple[Tensor, Tensor]:
        """The two moments as they are kept; zeros at first."""
        if "mean" not in state:
            return torch.zeros_like(like), torch.zeros_like(like)
        return state["mean"], state["square"]

    def write_moments(self, state: dict[str, Any], mean: Tensor, square: Tensor) -> None:
        """Keep them for the next step."""
        state["mean"], state["square"] = mean, square


class AdamW(Adam):
    """Adam whose weight decay goes around the moments: every weight shrinks at the same rate."""

    def __init__(
        self, parameters: ParamsT, lr: float = 1e-3, *, weight_decay: float = 0.01, **options: Any
    ) -> None:
        super().__init__(parameters, lr, weight_decay=weight_decay, **options)

    def update(
        self, weights: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """Decay the weights themselves, then the step."""
        weights.mul_(1 - group["lr"] * group["weight_decay"])
        weights.sub_(group["lr"] * self.direction(gradient, state, group))
