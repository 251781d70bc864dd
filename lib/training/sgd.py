"""Stochastic gradient descent, plain, with momentum, and with Nesterov's."""

from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from lib.training.optimizer import UpdateRule


class SGD(UpdateRule):
    """w ← w - lr · v, with the velocity v ← momentum · v + g (Polyak, 1964).

    Without momentum v is the gradient g and nothing is kept between steps; with it, one number a
    parameter. `nesterov` looks one step ahead: w ← w - lr · (g + momentum · v) (Sutskever et al.,
    2013). Weight decay adds weight_decay · w to the gradient.

    Raises `ValueError` for a momentum outside [0, 1), and for `nesterov` without momentum.
    """

    def __init__(
        self,
        parameters: ParamsT,
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum!r}")
        if nesterov and momentum == 0:
            raise ValueError("nesterov needs a momentum above 0, got 0")
        options = {"momentum": momentum, "nesterov": nesterov}
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, **options)

    def update(
        self, weights: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """One step against the gradient, or along the velocity."""
        momentum = group["momentum"]
        if group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * weights
        direction = gradient
        if momentum:
            if not state:
                state["velocity"] = gradient.new_zeros(gradient.shape)
            velocity = state["velocity"].mul_(momentum).add_(gradient)
            direction = gradient + momentum * velocity if group["nesterov"] else velocity
        weights.sub_(group["lr"] * direction)
