"""Pipeline schedules: which stage does what, in which order, as lists that can be read and drawn.

GPipe (Huang et al., 2019) runs all forward passes, then all backward ones, and keeps the
activations of every micro-batch in between. One-forward-one-backward (Narayanan et al., 2019, 2021)
has the same bubble and keeps no more micro-batches than there are stages.
"""

from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from lib.memory.sharding import check_schedule
from lib.memory.sizes import check_sizes


class PipelineTask(NamedTuple):
    """One pass of one micro-batch through one stage; `kind` is "forward" or "backward"."""

    stage: int
    micro_batch: int
    kind: str


Schedule = list[list[PipelineTask]]
"""The tasks of each stage, in their order."""


def pipeline_schedule(name: str, num_stages: int, num_micro_batches: int) -> Schedule:
    """The schedule of that name, "gpipe" or "1f1b".

    Raises `ValueError` for another name, and for numbers that are not positive.
    """
    check_schedule(name)
    make = {"gpipe": gpipe_schedule, "1f1b": one_forward_one_backward_schedule}[name]
    return make(num_stages, num_micro_batches)


def gpipe_schedule(num_stages: int, num_micro_batches: int) -> Schedule:
    """Every micro-batch forward, then every micro-batch backward."""
    check_sizes(num_stages=num_stages, num_micro_batches=num_micro_batches)
    return [
        [
            PipelineTask(stage, micro_batch, kind)
            for kind in ("forward", "backward")
            for micro_batch in range(num_micro_batches)
        ]
        for stage in range(num_stages)
    ]


def one_forward_one_backward_schedule(num_stages: int, num_micro_batches: int) -> Schedule:
    """Enough forward passes to fill the stages behind, then backward and forward in turn."""
    check_sizes(num_stages=num_stages, num_micro_batches=num_micro_batches)
    schedule = []
    for stage in range(num_stages):
        forward, backward = (
            deque(
                PipelineTask(stage, micro_batch, kind) for micro_batch in range(num_micro_batches)
            )
            for kind in ("forward", "backward")
        )
        warm_up = min(num_stages - stage, num_micro_batches)
        tasks = [forward.popleft() for _ in range(warm_up)]
        while backward:
            tasks.append(backward.popleft())
            tasks += [forward.popleft()] if forward else []
        schedule.append(tasks)
    return schedule


def time_slots(schedule: Sequence[Sequence[PipelineTask]]) -> list[list[PipelineTask | None]]:
    """What each stage does in each slot of time, None where it waits; a task takes one slot.

    A task starts when its stage is free and what it needs was there at the end of the slot before.

    Raises `ValueError` for a schedule in which stages wait for one another for ever.
    """
    waiting = [deque(tasks) for tasks in schedule]
    rows: list[list[PipelineTask | None]] = [[] for _ in schedule]
    done: set[PipelineTask] = set()
    while any(waiting):
        start = [bool(tasks) and _needs(tasks[0], len(schedule)) <= done for tasks in waiting]
        if not any(start):
            heads = [tasks[0] for tasks in waiting if tasks]
            raise ValueError(f"each of these tasks waits for another one: {heads}")
        for row, tasks, starts in zip(rows, waiting, start, strict=True):
            row.append(tasks.popleft() if starts else None)
        done.update(row[-1] for row in rows if row[-1])
    return rows


def _needs(task: PipelineTask, num_stages: int) -> set[PipelineTask]:
    """The stage before must have gone forward; for a backward pass, the one behind backward."""
    stage, micro_batch, kind = task
    if kind == "forward":
        return {PipelineTask(stage - 1, micro_batch, kind)} if stage else set()
    behind = {PipelineTask(stage + 1, micro_batch, kind)} if stage < num_stages - 1 else set()
    return behind | {PipelineTask(stage, micro_batch, "forward")}


def measured_bubble(schedule: Sequence[Sequence[PipelineTask]]) -> Fraction:
    """The part of all slots, from the first task to the last, in which a stage waits."""
    slots = [task for row in time_slots(schedule) for task in row]
    return Fraction(slots.count(None), len(slots))


def most_in_flight(tasks: Sequence[PipelineTask]) -> int:
    """Of how many micro-batches a stage keeps activations at once: forward done, backward not."""
    now, most = 0, 0
    for task in tasks:
        now += 1 if task.kind == "forward" else -1
        most = max(most, now)
    return most


def draw_schedule(schedule: Sequence[Sequence[PipelineTask]]) -> str:
    """The slots as text, one line a stage: F0 is micro-batch 0 forward, B0 backward."""
    cells = [
        ["." if task is None else f"{task.kind[0].upper()}{task.micro_batch}" for task in row]
        for row in time_slots(schedule)
    ]
    width = max(len(cell) for row in cells for cell in row)
    return "\n".join(" ".join(cell.rjust(width) for cell in row) for row in cells)
