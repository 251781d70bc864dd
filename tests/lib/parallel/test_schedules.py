"""Pipeline schedules: complete, in a possible order, and with the bubble of the formula."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.memory.sharding import PIPELINE_SCHEDULES, micro_batches_in_flight, pipeline_bubble
from lib.parallel import (
    PipelineTask,
    draw_schedule,
    gpipe_schedule,
    measured_bubble,
    most_in_flight,
    one_forward_one_backward_schedule,
    pipeline_schedule,
    time_slots,
)

names = st.sampled_from(PIPELINE_SCHEDULES)
sizes = st.integers(1, 9)


@given(names, sizes, sizes)
def test_every_task_is_there_once_and_the_bubble_is_the_formula_s(name, stages, micro_batches):
    schedule = pipeline_schedule(name, stages, micro_batches)
    for stage, tasks in enumerate(schedule):
        assert sorted(tasks) == sorted(
            PipelineTask(stage, number, kind)
            for number in range(micro_batches)
            for kind in ("forward", "backward")
        )
        assert most_in_flight(tasks) == micro_batches_in_flight(
            name, stage=stage, num_stages=stages, num_micro_batches=micro_batches
        )
    assert measured_bubble(schedule) == pipeline_bubble(stages, micro_batches)
    assert {len(row) for row in time_slots(schedule)} == {2 * (micro_batches + stages - 1)}


@given(names, sizes, sizes)
def test_nothing_runs_before_what_it_needs(name, stages, micro_batches):
    rows = time_slots(pipeline_schedule(name, stages, micro_batches))
    when = {task: slot for row in rows for slot, task in enumerate(row) if task}
    for (stage, number, kind), slot in when.items():
        if kind == "forward" and stage:
            assert when[PipelineTask(stage - 1, number, kind)] < slot
        if kind == "backward":
            assert when[PipelineTask(stage, number, "forward")] < slot
        if kind == "backward" and stage < stages - 1:
            assert when[PipelineTask(stage + 1, number, kind)] < slot


def test_the_picture_of_both_papers():
    assert draw_schedule(gpipe_schedule(2, 3)).splitlines() == [
        "F0 F1 F2  .  . B0 B1 B2",
        " . F0 F1 F2 B0 B1 B2  .",
    ]
    assert draw_schedule(one_forward_one_backward_schedule(2, 3)).splitlines() == [
        "F0 F1  . B0 F2 B1  . B2",
        " . F0 B0 F1 B1 F2 B2  .",
    ]


def test_four_stages_and_sixteen_micro_batches_by_hand():
    """3 of 19 slots, not the 4 / 16 that a quotient of the two would give."""
    assert measured_bubble(gpipe_schedule(4, 16)) == Fraction(3, 19)


def test_a_schedule_in_which_all_wait():
    forward, backward = PipelineTask(0, 0, "forward"), PipelineTask(0, 0, "backward")
    with pytest.raises(ValueError, match=r"waits for another one.*backward"):
        time_slots([[backward, forward]])
