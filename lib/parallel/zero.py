"""ZeRO: data parallelism in which no rank keeps what another one has (Rajbhandari et al., 2020).

Adam's states, gradients and weights are the same on all ranks of plain data parallelism. Each rank
can keep a part of them, a shard, and ask the others for the rest when it is needed. Stage 1 shards
the optimizer's states, stage 2 the gradients too, stage 3 the weights too. PyTorch's
FullyShardedDataParallel is stage 3.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lib.memory.communication import check_stage_of_zero
from lib.parallel.group import RankGroup
from lib.parallel.ring import ring_all_gather, ring_chunks, ring_reduce_scatter


class ShardedUnit:
    """The parameters of a module in one flat tensor, and the shard of it that this rank keeps.

    The module's parameters become views of the flat tensor. `gather` and `release` fill and free
    its memory; the views, and those that autograd keeps for the backward pass, stay valid.
    """

    def __init__(self, group: RankGroup, parameters: Iterable[nn.Parameter], stage: int) -> None:
        self.group, self.stage, self.parameters = group, stage, list(parameters)
        self.flat = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        sizes = [p.numel() for p in self.parameters]
        for parameter, part in zip(self.parameters, self.flat.split(sizes), strict=True):
            parameter.data = part.view_as(parameter)
        self.chunks = ring_chunks(group, self.flat)
        own = self.chunks[group.index]
        self.shard = nn.Parameter(own.clone() if stage == 3 else own)
        self.arrived, self.full_bytes = 0, self.flat.nbytes
        if stage >= 2:
            for parameter in self.parameters:
                parameter.register_post_accumulate_grad_hook(self._arrive)
        if stage == 3:
            self.release()

    def gather(self) -> None:
        """The whole weights, from all ranks."""
        self.flat.untyped_storage().resize_(self.full_bytes)
        self.chunks[self.group.index].copy_(self.shard.detach())
        ring_all_gather(self.group, self.chunks)

    def release(self) -> None:
        """Free the whole weights; this rank's shard has a place of its own."""
        self.flat.untyped_storage().resize_(0)

    def share_update(self) -> None:
        """Stages 1 and 2: give the others the shard that this rank has updated, in place."""
        ring_all_gather(self.group, self.chunks)

    def reduce_gradient(self) -> None:
        """Add the mean of all ranks' gradients, of this shard only; free the whole gradient."""
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        chunks = ring_chunks(self.group, torch.cat([each.reshape(-1) for each in gradients]))
        ring_reduce_scatter(self.group, chunks)
        own = chunks[self.group.index] / self.group.size
        self.shard.grad = own if self.shard.grad is None else self.shard.grad + own
        for parameter in self.parameters:
            parameter.grad = None
        self.arrived = 0

    def _arrive(self, parameter: nn.Parameter) -> None:
        """The gradient of one parameter is complete. With the last one, the unit is done."""
        self.arrived += 1
        if self.arrived == len(self.parameters):
            self.reduce_gradient()
            if self.stage == 3:
                self.release()


class ZeroSharding:
    """A model whose states are sharded over the ranks, and the step that it takes.

    `units` are the modules whose weights are gathered and whose gradients are reduced together,
    layers mostly; what else the model has is one unit more. `make_optimizer` gets the shards, and
    must treat every number by itself, as SGD and Adam do. Use the model as ever:
    `loss(model, own_part).backward()` on each rank, any number of times, then `step()`.

    Raises `ValueError` for a stage that is not 1, 2 or 3.
    """

    def __init__(
        self,
        group: RankGroup,
        model: nn.Module,
        units: Sequence[nn.Module],
        *,
        stage: int,
        make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    ) -> None:
        check_stage_of_zero(stage)
        if stage == 0:
            raise ValueError("stage 0 shards nothing: use average_gradients")
        self.model, self.stage = model, stage
        in_units = {parameter for unit in units for parameter in unit.parameters()}
        rest = [parameter for parameter in model.parameters() if parameter not in in_units]
        owners = {unit: ShardedUnit(group, unit.parameters(), stage) for unit in units}
        if rest:
            owners[model] = ShardedUnit(group, rest, stage)
        self.units = list(owners.values())
        if stage == 3:
            for module, unit in owners.items():
                gather_around(module, unit)
        self.optimizer = make_optimizer([unit.shard for unit in self.units])

    def step(self) -> None:
        """Update each rank's shards, and in stages 1 and 2 everybody's weights with them."""
        for unit in self.units:
            if self.stage == 1 or unit.arrived:
                unit.reduce_gradient()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.stage < 3:
            for unit in self.units:
                unit.share_update()

    def whole_weights(self) -> dict[str, Tensor]:
        """The model's parameters by name, copied, all of them whole. All ranks must call it."""
        for unit in self.units if self.stage == 3 else ():
            unit.gather()
        weights = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        for unit in self.units if self.stage == 3 else ():
            unit.release()
        return weights

    def bytes_held(self) -> dict[str, int]:
        """Bytes on this rank now, under the names of `lib.memory.sharding.zero_state_bytes`."""
        shards = [unit.shard for unit in self.units]
        whole = sum(unit.flat.untyped_storage().nbytes() for unit in self.units)
        gradients = [p.grad for p in (*self.model.parameters(), *shards) if p.grad is not None]
        states = [self.optimizer.state[shard] for shard in shards if shard in self.optimizer.state]
        return {
            "weights": whole + (sum(s.nbytes for s in shards) if self.stage == 3 else 0),
            "gradients": sum(gradient.nbytes for gradient in gradients),
            "optimizer states": sum(_state_bytes(state) for state in states),
        }


def gather_around(module: nn.Module, unit: ShardedUnit) -> None:
    """Stage 3: gather a unit's weights before its module runs in either direction, then free them.

    The backward pass begins with the gradient of what the module returned, one tensor. It frees
    the weights itself, once all gradients of the unit are there.
    """

    def after_forward(_: nn.Module, __: tuple, output: Tensor) -> None:
        unit.release()
        if output.requires_grad:
            output.register_hook(lambda _: unit.gather())

    module.register_forward_pre_hook(lambda *_: unit.gather())
    module.register_forward_hook(after_forward)


def _state_bytes(state: dict[str, Any]) -> int:
    """What the optimizer keeps for each number; its count of steps is not for each."""
    return sum(x.nbytes for x in state.values() if isinstance(x, Tensor) and x.ndim)
