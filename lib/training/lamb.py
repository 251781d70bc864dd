"""LAMB (You et al., 2020): Adam whose step is measured by the layer, for very large batches."""

from typing import Any

from torch import Tensor

from lib.training.adam import AdamW


class LAMB(AdamW):
    """w ← w - lr · ‖w‖ / ‖u‖ · u, with u = m̂ / (√ŝ + ε) + weight_decay · w for each parameter.

    A step of rate lr changes every matrix by the same fraction lr of its norm, so that no layer
    runs away at the large rates that large batches need: BERT in 76 minutes with 32,868 sequences
    a batch. Where w or u is zero the ratio counts as 1. The norm of w stands for the paper's
    φ(‖w‖), whose bounds it leaves open.
    """

    def update(
        self, weights: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """One step of the layer's own length."""
        update = self.direction(gradient, state, group).add_(weights, alpha=group["weight_decay"])
        weights.sub_(group["lr"] * trust_ratio(weights, update) * update)


def trust_ratio(weights: Tensor, update: Tensor) -> Tensor:
    """‖weights‖ / ‖update‖, and 1 where either is zero; a tensor without axes."""
    ratio = weights.norm() / update.norm()
    return ratio.where(ratio.isfinite() & (ratio > 0), 1.0)
