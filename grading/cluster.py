"""Grading on several machines: the same tasks, sent to the workers of a Dask scheduler.

Every worker process keeps two parents warm, and a grader for each of its threads. A task whose
worker dies is given to another one by the scheduler; its key is its name, so that none counts
twice.
"""

import threading
from collections.abc import Iterable, Iterator
from typing import Any

from grading.core import Grader, Parents, Result
from grading.pool import GradingTask, graded, lost

AT_ONCE = 256
_mine = threading.local()
_parents = {unsafe: Parents(unsafe=unsafe) for unsafe in (False, True)}


def grade_remotely(task: GradingTask, unsafe: bool) -> Result:
    """What a worker runs: one task, with the grader of this thread."""
    if getattr(_mine, "grader", None) is None:
        _mine.grader = Grader(parents=_parents[unsafe]).__enter__()
    return graded(_mine.grader, task)


def grade_on_cluster(
    tasks: Iterable[GradingTask], address: str, unsafe: bool = False
) -> Iterator[tuple[Any, Result]]:
    """Grade tasks on the workers of the scheduler at `address`; yields key and result.

    Raises `OSError` if there is no scheduler.
    """
    from distributed import Client, as_completed

    with Client(address, timeout=10) as client:
        source, sent = iter(tasks), {}
        running = as_completed(loop=client.loop)

        def send() -> None:
            task = next(source, None)
            if task is not None:
                name = f"grade-{len(sent)}-{task.key}"
                future = client.submit(grade_remotely, task, unsafe, key=name, pure=True, retries=2)
                sent[name] = task
                running.add(future)

        for _ in range(AT_ONCE):
            send()
        for future in running:
            task = sent.pop(future.key)
            sent[future.key] = None
            error = future.exception()
            note = f"the worker failed: {type(error).__name__}"
            yield task.key, lost(task.problem, note, unsafe) if error else future.result()
            future.release()
            send()
