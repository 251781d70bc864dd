"""What all optimizers share: one rule, applied to each parameter by itself.

They are torch optimizers: parameter groups, `state_dict` and torch's own schedulers work.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, ParamsT

from lib.memory.sizes import check_not_negative


class UpdateRule(Optimizer, ABC):
    """An optimizer is a rule for one parameter; `step` applies it to all that have a gradient.

    Raises `ValueError` for a learning rate or a weight decay below zero.
    """

    def __init__(
        self, parameters: ParamsT, *, lr: float, weight_decay: float = 0.0, **options: Any
    ) -> None:
        check_not_negative(lr=lr, weight_decay=weight_decay)
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, **options})

    @abstractmethod
    def update(
        self, weights: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """Change the weights in place. `state` is the parameter's own, and empty at first."""

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self.update(weights, weights.grad, self.state[weights], group)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """What `state_dict` gave, in the types that it had.

        torch casts every state to the type of its parameter: 8-bit states would become wide, and
        the float32 moments of 16-bit weights narrow.
        """
        super().load_state_dict(dict(state_dict))
        weights = [each for group in self.param_groups for each in group["params"]]
        for index, saved in state_dict["state"].items():
            state = self.state[weights[index]]
            for name, value in saved.items():
                if isinstance(value, Tensor):
                    state[name] = value.to(weights[index].device, copy=True)


def decay_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups: matrices, which decay, and gains and biases, which do not.

    The practice since BERT: a norm's gain pulled to zero would fight its purpose.
    """
    trained = [each for each in model.parameters() if each.requires_grad]
    return [
        {"params": [each for each in trained if each.ndim > 1], "weight_decay": weight_decay},
        {"params": [each for each in trained if each.ndim <= 1], "weight_decay": 0.0},
    ]


def optimized_parameters(optimizer: Optimizer) -> list[Tensor]:
    """All parameters of an optimizer, group after group."""
    return [each for group in optimizer.param_groups for each in group["params"]]
