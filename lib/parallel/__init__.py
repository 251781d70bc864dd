"""Training on several processes: what is split, what is sent, and that the step stays the same.

Read in this order: `group` and `ring`, on which all stands; `launch` and `threads`, which start the
ranks. How many bytes each sends and keeps is in `lib.memory.communication` and `sharding`.
"""

from lib.parallel.group import GlooGroup, RankGroup, RankLost, Traffic
from lib.parallel.launch import WorkerFailed, run_on_processes
from lib.parallel.ring import (
    central_all_reduce,
    ring_all_gather,
    ring_all_reduce,
    ring_chunks,
    ring_reduce_scatter,
)
from lib.parallel.threads import ThreadGroup, run_on_threads

__all__ = [
    "GlooGroup",
    "RankGroup",
    "RankLost",
    "ThreadGroup",
    "Traffic",
    "WorkerFailed",
    "central_all_reduce",
    "ring_all_gather",
    "ring_all_reduce",
    "ring_chunks",
    "ring_reduce_scatter",
    "run_on_processes",
    "run_on_threads",
]
