"""Loss scaling (Micikevicius et al., 2018): float16 gradients, multiplied out of the dust.

float16 ends at 2^-24 below and at 65,504 above, and most gradients are small. A factor on the loss
is a factor on every gradient: as large as it can be without an overflow.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lib.memory.sizes import check_positive, check_sizes
from lib.training.precision import Precision


@dataclass
class StaticLossScale:
    """One factor for the whole run. Steps that overflow are left out."""

    scale: float = 2.0**10

    def __post_init__(self) -> None:
        check_positive(scale=self.scale)

    def update(self, *, finite: bool) -> None:
        """Nothing changes."""


@dataclass
class DynamicLossScale:
    """Down by `backoff` at every overflow, up by `growth` after `interval` steps without one.

    The schedule of torch's GradScaler, and its constants. Raises `ValueError` for a factor or
    an interval that is not above zero, and for ones that would go the wrong way.
    """

    scale: float = 2.0**16
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = 2000
    good_steps: int = 0

    def __post_init__(self) -> None:
        check_positive(scale=self.scale, growth=self.growth, backoff=self.backoff)
        check_sizes(interval=self.interval)
        if self.growth <= 1 or self.backoff >= 1:
            raise ValueError(
                f"growth must be above 1 and backoff below, got {self.growth} and {self.backoff}"
            )

    def update(self, *, finite: bool) -> None:
        """Take note of a step: whether all of its gradients were finite."""
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.scale *= self.backoff
        elif self.good_steps == self.interval:
            self.good_steps = 0
            if self.scale * self.growth <= torch.finfo(torch.float32).max:
                self.scale *= self.growth


class Float16(Precision):
    """Weights and gradients in float16, master copies of the weights in float32.

    Makes the model's parameters float16; give `masters` to the optimizer. An update smaller than
    half a unit in the last place of a float16 weight would be lost in it: the masters gather it.
    Gradients are cast to float32 first and divided by the scale then, or those that the scale has
    saved would vanish after all.
    """

    may_overflow = True

    def __init__(
        self, model: nn.Module, loss_scale: StaticLossScale | DynamicLossScale | None = None
    ) -> None:
        self.loss_scale = DynamicLossScale() if loss_scale is None else loss_scale
        self.weights = [each for each in model.parameters() if each.requires_grad]
        self.masters = [nn.Parameter(each.detach().float()) for each in self.weights]
        model.half()

    @property
    def scale(self) -> float:
        """What the loss is multiplied with in the next step."""
        return self.loss_scale.scale

    def collect_gradients(self) -> bool:
        """Cast, then unscale, into the masters; the model's own gradients are given up."""
        for weights, master in zip(self.weights, self.masters, strict=True):
            gradient, weights.grad = weights.grad, None
            master.grad = None if gradient is None else gradient.float().div_(self.scale)
        finite = all_finite(each.grad for each in self.masters if each.grad is not None)
        self.loss_scale.update(finite=finite)
        return finite

    @torch.no_grad()
    def distribute_weights(self) -> None:
        """Round the masters into the model."""
        for weights, master in zip(self.weights, self.masters, strict=True):
            weights.copy_(master)

    def state_dict(self) -> dict[str, Any]:
        """The masters and where the scale stands."""
        masters = [each.detach() for each in self.masters]
        return {"masters": masters, "loss scale": asdict(self.loss_scale)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for master, saved in zip(self.masters, state["masters"], strict=True):
            master.copy_(saved)
        self.loss_scale = type(self.loss_scale)(**state["loss scale"])


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no number in any of the tensors is infinite or not a number."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
