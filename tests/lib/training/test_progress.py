"""The line of progress, with a clock of the test's own."""

import pytest

from lib.training import ProgressLine, StepRecord
from lib.training.progress import progress_line


def record(step, loss=2.5):
    return StepRecord(step, loss, 3e-4, 1.0)


def test_the_line():
    assert progress_line(record(30), 100, rate=12.5) == (
        "step 30/100 [######..............] loss 2.500, lr 3.0e-04, 12.5 steps/s, 0:06 left"
    )
    assert progress_line(record(1), 2000, rate=0.25).endswith("0.25 steps/s, 2:13:16 left")
    assert progress_line(record(1), 5, rate=0.0).endswith("lr 3.0e-04")
    assert "step 2,000/2,000 [####################]" in progress_line(record(2000), 2000, rate=1.0)


def test_the_time_left_is_that_of_the_steps_so_far():
    now, lines = [100.0], []
    show = ProgressLine(every_seconds=1.0, clock=lambda: now[0], write=lines.append)
    for step in range(11, 21):
        show(record(step), 20)
        now[0] += 0.4
    assert len(lines) == 4
    assert all(line.startswith("\r") and len(line.rstrip("\n")) == 101 for line in lines)
    assert [line.endswith("\n") for line in lines] == [False] * 3 + [True]
    assert "step 14/20" in lines[1] and "2.5 steps/s, 0:02 left" in lines[1]
    assert "step 20/20" in lines[-1] and "0:00 left" in lines[-1]


@pytest.mark.parametrize("now", [0.0, 5.0])
def test_a_clock_that_stands_still_gives_no_rate(now):
    lines = []
    show = ProgressLine(clock=lambda: now, write=lines.append)
    show(record(1), 2)
    show(record(2), 2)
    assert len(lines) == 2 and "steps/s" not in "".join(lines)


def test_it_is_written_to_standard_error(capsys):
    ProgressLine()(record(3), 3)
    captured = capsys.readouterr()
    assert "step 3/3" in captured.err and captured.out == ""
