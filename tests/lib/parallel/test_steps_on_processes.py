"""The same steps on processes joined by gloo: two of them, and four."""

import os

import pytest

from lib.parallel import run_on_processes
from tests.lib.parallel import parallel_steps

STEPS = list(parallel_steps.STEPS)
# PyTorch's optimizers take longest to import, so four processes do without.
WITHOUT_OPTIMIZER = [name for name in STEPS if "ZeRO" not in name]


@pytest.mark.parametrize(("num_processes", "names"), [(2, STEPS), (4, WITHOUT_OPTIMIZER)])
def test_the_steps_and_their_bytes(num_processes, names):
    results = run_on_processes(steps_and_process, num_processes, names, timeout=600)
    assert len({process for _, process in results} - {os.getpid()}) == num_processes
    for taken, _ in results:
        assert list(taken) == names
        sent = {name: measured for name, (measured, _) in taken.items()}
        assert sent == {name: expected for name, (_, expected) in taken.items()}
        assert all(sent.values())


def steps_and_process(group, names):
    return parallel_steps.take_steps(group, names), os.getpid()
