"""Submissions graded side by side: a grader for each worker, results as they come."""

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grading.core import Cell, Grader, Problem, Result, Verdict


@dataclass(frozen=True)
class GradingTask:
    """One notebook to grade; `key` is given back with the result."""

    key: Any
    problem: Problem
    cells: Sequence[Cell]
    secret: str


def lost(problem: Problem, note: str, unsafe: bool) -> Result:
    """No verdict on any test, so no points, with the reason."""
    verdicts = tuple(Verdict(t.grade_id, 0.0, t.points, "lost", note) for t in problem.tests)
    return Result(verdicts, "none", unsafe, (note,))


def grade_here(
    tasks: Iterable[GradingTask], workers: int, unsafe: bool = False
) -> Iterator[tuple[Any, Result]]:
    """Grade tasks on this machine; yields key and result in the order in which they end.

    A worker is a thread: what it waits for runs in sandboxed processes of its own.
    """
    waiting: queue.Queue = queue.Queue(2 * workers)
    done: queue.Queue = queue.Queue()
    stop = threading.Event()
    threads = [
        threading.Thread(target=_feed, args=(tasks, waiting, done, workers, stop), daemon=True)
    ]
    arguments = (waiting, done, unsafe, stop)
    threads += [threading.Thread(target=_work, args=arguments, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    running = workers
    try:
        while running:
            key, result = done.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                running -= 1
            else:
                yield key, result
    finally:
        stop.set()


def _feed(tasks: Iterable[GradingTask], waiting: Any, done: Any, workers: int, stop: Any) -> None:
    try:
        for task in tasks:
            while not stop.is_set():
                try:
                    waiting.put(task, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if stop.is_set():
                return
    except BaseException as error:
        done.put((None, error))
    for _ in range(workers):
        waiting.put(None)


def _work(waiting: Any, done: Any, unsafe: bool, stop: Any) -> None:
    task = waiting.get()
    if task is None:
        done.put((None, None))
        return
    try:
        with Grader(unsafe=unsafe) as grader:
            while task is not None and not stop.is_set():
                done.put((task.key, graded(grader, task)))
                task = waiting.get()
        done.put((None, None))
    except BaseException as error:
        done.put((None, error))


def graded(grader: Grader, task: GradingTask) -> Result:
    """A task's result, whatever happens: an error of the grader's own is a lost result."""
    try:
        return grader.grade(task.problem, task.cells, task.secret)
    except Exception as error:
        return lost(task.problem, f"the grader failed: {type(error).__name__}", grader.unsafe)
