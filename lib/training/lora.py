"""LoRA (Hu et al., 2022): a large matrix stays as it is, and learns a difference of low rank."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lib.memory.sizes import check_positive, check_sizes


class LoraLinear(nn.Module):
    """x Wᵀ + alpha / rank · (x Aᵀ) Bᵀ: W (d_out, d_in) is frozen, A and B are trained.

    A (rank, d_in) is drawn from the generator with variance 1 / d_in, B (d_out, rank) is zero: at
    first nothing has changed. rank · (d_in + d_out) numbers have gradients and optimizer states,
    in the place of d_in · d_out.

    Raises `ValueError` for a rank that is above d_in or d_out, or not a positive whole number.
    """

    def __init__(
        self, linear: nn.Linear, rank: int, *, alpha: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        check_sizes(rank=rank)
        check_positive(alpha=alpha)
        d_out, d_in = linear.weight.shape
        if rank > min(d_in, d_out):
            raise ValueError(
                f"rank must be at most {min(d_in, d_out)}, the smaller side of this "
                f"{d_out} x {d_in} matrix, got {rank}"
            )
        self.linear, self.scale = linear.requires_grad_(False), alpha / rank
        drawn = torch.randn(rank, d_in, generator=generator) * d_in**-0.5
        self.down = nn.Parameter(drawn.to(linear.weight))
        self.up = nn.Parameter(linear.weight.new_zeros(d_out, rank))

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Two narrow products beside the wide one."""
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    def difference(self) -> Float[Tensor, "d_out d_in"]:
        """What has been learned, as a matrix: alpha / rank · B A."""
        return self.scale * self.up @ self.down

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain linear map that computes the same, at no more than the old cost."""
        self.linear.weight += self.difference()
        return self.linear

    @torch.no_grad()
    def unmerge(self) -> None:
        """Take the difference out of the matrix again, up to rounding."""
        self.linear.weight -= self.difference()


def add_lora(
    model: nn.Module,
    names: Iterable[str] = ("query", "value"),
    *,
    rank: int,
    alpha: float | None = None,
    generator: torch.Generator,
) -> list[str]:
    """Freeze the model, and give each linear map of one of these last names a LoRA; their paths.

    Queries and values are the paper's choice. `alpha` is the rank unless given: scale 1. Afterwards
    only the A and B require gradients. Raises `ValueError` if no linear map has such a name.
    """
    names = tuple(names)
    chosen = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and path.rpartition(".")[2] in names
    ]
    if not chosen:
        raise ValueError(f"the model has no linear map whose name ends in {', '.join(names)}")
    model.requires_grad_(False)
    for path in chosen:
        linear = model.get_submodule(path)
        wrapped = LoraLinear(
            linear, rank, alpha=float(rank if alpha is None else alpha), generator=generator
        )
        _replace(model, path, wrapped)
    return chosen


def merge_lora(model: nn.Module) -> list[tuple[str, LoraLinear]]:
    """Put every LoRA into its matrix: the model's own shape again, all of it frozen.

    The result is what `unmerge_lora` needs.
    """
    found = [(path, each) for path, each in model.named_modules() if isinstance(each, LoraLinear)]
    for path, lora in found:
        _replace(model, path, lora.merged())
    return found


def unmerge_lora(model: nn.Module, merged: Iterable[tuple[str, LoraLinear]]) -> None:
    """Undo `merge_lora`, up to rounding: other LoRAs can take the place of these."""
    for path, lora in merged:
        lora.unmerge()
        _replace(model, path, lora)


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """The trained part of a state dict: all A and B. A few megabytes for each task."""
    paths = [path for path, each in model.named_modules() if isinstance(each, LoraLinear)]
    wanted = {f"{path}.{name}" for path in paths for name in ("down", "up")}
    return {name: value for name, value in model.state_dict().items() if name in wanted}


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
