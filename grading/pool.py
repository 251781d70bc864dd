"""Submissions graded side by side: a grader for each worker, on parents that all share."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grading.core import Cell, Grader, Parents, Problem, Result, Verdict
from grading.sandbox import Limits

STOP_SECONDS = 0.2


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
    tasks: Iterable[GradingTask],
    workers: int,
    unsafe: bool = False,
    limits: Limits | None = None,
) -> Iterator[tuple[Any, Result]]:
    """Grade tasks on this machine; yields key and result in the order in which they end.

    A worker is a thread: what it waits for runs in sandboxed processes, branched off parents that
    all workers share. They begin at once, before the first result is asked for.
    """
    results = _results(tasks, workers, Parents(limits, unsafe))
    next(results)
    return results


def _results(tasks: Iterable[GradingTask], workers: int, parents: Parents) -> Iterator[Any]:
    waiting: queue.Queue = queue.Queue(2 * workers)
    done: queue.Queue = queue.Queue(4 * workers)
    stop = threading.Event()
    arguments = (waiting, done, parents, stop)
    many = [threading.Thread(target=_work, args=arguments, daemon=True) for _ in range(workers)]
    arguments = (tasks, waiting, done, parents, many, stop)
    manager = threading.Thread(target=_manage, args=arguments, daemon=True)
    try:
        manager.start()
        yield None
        running = workers
        while running:
            key, result = done.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                running -= 1
            else:
                yield key, result
        manager.join()
    finally:
        stop.set()


def _manage(
    tasks: Iterable[GradingTask],
    waiting: Any,
    done: Any,
    parents: Parents,
    workers: list[threading.Thread],
    stop: Any,
) -> None:
    """Start the workers, hand them the tasks, and end what they share when they have ended."""
    for worker in workers:
        worker.start()
    try:
        for task in tasks:
            _put(waiting, task, stop)
            if stop.is_set():
                break
    except BaseException as error:
        _put(done, (None, error), stop)
    for _ in workers:
        _put(waiting, None, stop)
    for worker in workers:
        worker.join()
    parents.close()


def _work(waiting: Any, done: Any, parents: Parents, stop: Any) -> None:
    try:
        task = _get(waiting, stop)
        if task is not None:
            with Grader(parents=parents) as grader:
                while task is not None:
                    _put(done, (task.key, graded(grader, task)), stop)
                    task = _get(waiting, stop)
        _put(done, (None, None), stop)
    except BaseException as error:
        _put(done, (None, error), stop)


def _put(line: queue.Queue, item: Any, stop: threading.Event) -> None:
    """Queue an item as soon as there is room, unless the run is stopped."""
    while not stop.is_set():
        with contextlib.suppress(queue.Full):
            line.put(item, timeout=STOP_SECONDS)
            return


def _get(line: queue.Queue, stop: threading.Event) -> Any:
    """The next item; None once the run is stopped."""
    while not stop.is_set():
        with contextlib.suppress(queue.Empty):
            return line.get(timeout=STOP_SECONDS)
    return None


def graded(grader: Grader, task: GradingTask) -> Result:
    """A task's result, whatever happens: an error of the grader's own is a lost result."""
    try:
        return grader.grade(task.problem, task.cells, task.secret)
    except Exception as error:
        return lost(task.problem, f"the grader failed: {type(error).__name__}", grader.unsafe)
