"""In which numbers a step computes: float32 here; what 16-bit formats need around it."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.training.accumulation import Loss


class Precision:
    """float32: nothing to be done. What another format does between backward pass and update."""

    scale: float = 1.0
    """What the loss is multiplied with, so that small gradients do not vanish."""
    may_overflow: bool = False
    """Whether a gradient that is not finite means a step left out, not the end of the run."""

    def collect_gradients(self) -> bool:
        """Bring the gradients to the optimizer, unscaled; whether all of them are finite."""
        return True

    def distribute_weights(self) -> None:
        """Bring the updated weights back to the model."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""


def autocast_loss(loss: Loss, dtype: torch.dtype = torch.bfloat16) -> Loss:
    """The same loss under autocast: products in `dtype`; weights, sums and norms in float32.

    bfloat16 has float32's range, so that it needs no loss scaling (Kalamkar et al., 2019). The
    backward pass runs outside, in the types of the forward pass.
    """

    def cast(model: nn.Module, batch: Any) -> Float[Tensor, ""]:
        device = next(model.parameters()).device.type
        with torch.autocast(device, dtype=dtype):
            return loss(model, batch).float()

    return cast
