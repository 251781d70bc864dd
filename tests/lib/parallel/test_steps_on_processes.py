"""The same steps on processes joined by gloo: two of them, and four."""

import os

import pytest

from lib.parallel import run_on_processes
from tests.lib.parallel import parallel_steps


@pytest.mark.parametrize("num_processes", [2, 4])
def test_every_step_and_its_bytes(num_processes):
    results = run_on_processes(steps_and_process, num_processes)
    assert len({process for _, process in results} - {os.getpid()}) == num_processes
    for sent, _ in results:
        assert list(sent) == list(parallel_steps.STEPS)
        assert {name: bytes_ for name, (bytes_, _) in sent.items()} == {
            name: expected for name, (_, expected) in sent.items()
        }


def steps_and_process(group):
    return parallel_steps.all_steps(group), os.getpid()
