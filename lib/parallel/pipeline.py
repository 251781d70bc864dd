"""Pipeline parallelism: every rank has some of the layers, and hands micro-batches on.

The batch is cut into micro-batches, so that the stages work on different ones at the same time. The
gradients of all are added up before the step, which is then that of the whole batch.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.memory.communication import check_pipeline_stage
from lib.memory.sharding import layers_per_stage
from lib.models.gpt2 import Gpt2
from lib.models.layer import run_layers
from lib.parallel.data_parallel import equal_parts
from lib.parallel.group import RankGroup
from lib.parallel.ring import ring_all_reduce
from lib.parallel.schedules import PipelineTask, pipeline_schedule

MicroLoss = Callable[[Tensor, Tensor], Tensor]
"""Logits and targets of a micro-batch to the mean of its losses."""


class PipelineStage(nn.Module):
    """One stage of a GPT-2, a copy: some of its layers; the first embeds, the last scores.

    Both ends need the matrix of tokens, so both have it, and `sum_tied_gradients` keeps them equal.

    Raises `ValueError` for more stages than layers, and for stages that do not divide them.
    """

    def __init__(self, model: Gpt2, stage: int, num_stages: int) -> None:
        super().__init__()
        check_pipeline_stage(stage, num_stages)
        own = layers_per_stage(len(model.layers), num_stages)
        self.is_first, self.is_last = stage == 0, stage == num_stages - 1
        self.part = copy.deepcopy(model)
        self.part.layers = self.part.layers[stage * own : (stage + 1) * own]
        self.part.tokens = self.part.tokens if self.is_first or self.is_last else None
        self.part.positions = self.part.positions if self.is_first else None
        self.part.norm = self.part.norm if self.is_last else None

    def forward(self, x: Tensor) -> Tensor:
        """Ids or a residual stream to a residual stream or logits."""
        hidden = self.part.embed(x) if self.is_first else x
        hidden = run_layers(self.part.layers, hidden, is_causal=True)
        return self.part.logits(self.part.norm(hidden)) if self.is_last else hidden


@dataclass(frozen=True)
class PipelineRun:
    """What a step came to on one rank.

    `loss` is the batch's on the last stage and 0 on the others; `most_kept` says of how many
    micro-batches the activations were kept at once.
    """

    loss: float
    most_kept: int


def pipeline_step(
    group: RankGroup,
    stage: PipelineStage,
    ids: Int[Tensor, "batch tokens"],
    targets: Int[Tensor, "batch tokens"],
    loss: MicroLoss,
    *,
    num_micro_batches: int,
    schedule: str = "1f1b",
) -> PipelineRun:
    """The gradients of one batch in every stage, in the order of the schedule: "1f1b" or "gpipe".

    The ranks stand in the order of the stages. The first stage reads `ids`, the last `targets`.

    Raises `ValueError` for a batch that does not make `num_micro_batches` equal ones, and for
    another schedule.
    """
    tasks = pipeline_schedule(schedule, group.size, num_micro_batches)[group.index]
    parts = equal_parts(ids, num_micro_batches), equal_parts(targets, num_micro_batches)
    run = run_pipeline_tasks(group, stage, tasks, *parts, loss)
    sum_tied_gradients(group, stage)
    return run


def run_pipeline_tasks(
    group: RankGroup,
    stage: PipelineStage,
    tasks: Sequence[PipelineTask],
    ids: Sequence[Tensor],
    targets: Sequence[Tensor],
    loss: MicroLoss,
) -> PipelineRun:
    """Run this rank's tasks: take from one neighbour, compute, start to send to the other."""
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    under_way, total, most_kept = [], 0.0, 0
    for _, number, kind in tasks:
        if kind == "forward":
            before = ids[number] if stage.is_first else _receive_stream(group, stage, ids[number])
            after = stage(before)
            if stage.is_last:
                after = loss(after, targets[number]) / len(ids)
                total += after.item()
            else:
                under_way.append(group.send(after, group.index + 1))
            kept[number] = before, after
            most_kept = max(most_kept, len(kept))
        else:
            before, after = kept.pop(number)
            after.backward(None if stage.is_last else group.receive_new(after, group.index + 1))
            if not stage.is_first:
                under_way.append(group.send(before.grad, group.index - 1))
    for wait in under_way:
        wait()
    return PipelineRun(total, most_kept)


def _receive_stream(
    group: RankGroup, stage: PipelineStage, ids: Tensor
) -> Float[Tensor, "batch tokens hidden"]:
    """What the stage before hands on, as a leaf whose gradient goes back to it."""
    weight = next(stage.parameters())
    stream = torch.empty(
        *ids.shape, stage.part.config.hidden_size, dtype=weight.dtype, device=weight.device
    )
    return group.receive(stream, group.index - 1).requires_grad_()


def sum_tied_gradients(group: RankGroup, stage: PipelineStage) -> None:
    """Add up what both ends of the pipeline have of the gradient of the matrix of tokens."""
    if stage.is_first or stage.is_last:
        ends = group.subgroup(0, group.size - 1)
        ring_all_reduce(ends, stage.part.tokens.weight.grad)
