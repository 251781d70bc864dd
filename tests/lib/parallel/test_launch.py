"""Processes that raise, die, wait for ever or lose the one that started them: all of them end."""

import multiprocessing
import os
import signal
import time

import psutil
import pytest
import torch

from lib.parallel import WorkerFailed, run_on_processes

FOR_EVER = 10_000.0


def begin(group, folder):
    """Note the process, and see that the other one is there as well."""
    (folder / str(os.getpid())).touch()
    under_way = group.send(torch.zeros(3), 1 - group.index)
    wait_for_the_other(group)
    under_way()


def wait_for_the_other(group):
    group.receive(torch.zeros(3), 1 - group.index)


def raise_in_one(group, folder):
    begin(group, folder)
    if group.index == 1:
        raise LookupError("there is no such book")
    wait_for_the_other(group)


def die_in_one(group, folder):
    begin(group, folder)
    if group.index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    wait_for_the_other(group)


def never_send(group, folder):
    begin(group, folder)
    wait_for_the_other(group)


def sleep(group, folder):
    begin(group, folder)
    time.sleep(FOR_EVER)


def processes_of(folder):
    return [int(path.name) for path in folder.iterdir()]


@pytest.mark.parametrize(
    ("worker", "reason", "timeout"),
    [
        (raise_in_one, "rank 1 of 2 raised LookupError: there is no such book", FOR_EVER),
        (die_in_one, "^rank 1 of 2 was killed by SIGKILL$", FOR_EVER),
        (never_send, "rank [01] of 2 raised RankLost: another rank does not answer", 3.0),
    ],
)
def test_all_end_and_the_reason_is_told(worker, reason, timeout, tmp_path):
    with pytest.raises(WorkerFailed, match=reason):
        run_on_processes(worker, 2, tmp_path, timeout=timeout)
    assert len(processes_of(tmp_path)) == 2
    assert not any(map(psutil.pid_exists, processes_of(tmp_path)))


def test_nobody_outlives_the_process_that_started_them(tmp_path):
    starter = multiprocessing.get_context("fork").Process(
        target=run_on_processes, args=(sleep, 2, tmp_path)
    )
    starter.start()
    while len(processes_of(tmp_path)) < 2:
        assert starter.is_alive()
        time.sleep(0.05)
    starter.kill()
    starter.join()
    for process in processes_of(tmp_path):
        while psutil.pid_exists(process) and psutil.Process(process).status() != "zombie":
            time.sleep(0.05)
