"""Training on several processes: what is split, what is sent, and that the step stays the same.

Read in this order: `group` and `ring`, on which all stands; `launch` and `threads`, which start the
ranks, and `measured`, a worker for them; then what can be divided: the batch in `data_parallel`,
the states in `zero`, the matrices in `conjugate`, `tensor_parallel` and `vocabulary_parallel`, the
layers in `schedules` and `pipeline`. `torchrun_example` is for those who outgrow one machine. How
many bytes each rank sends and keeps is in `lib.memory.communication`, `sharding` and
`parallel_plan`.
"""

from lib.parallel.conjugate import copy_to_ranks, sum_over_ranks
from lib.parallel.data_parallel import average_gradients, equal_parts, gradient_buckets
from lib.parallel.group import GlooGroup, RankGroup, RankLost, Sent
from lib.parallel.launch import WorkerFailed, run_on_processes
from lib.parallel.measured import MeasuredSum, measured_all_reduce
from lib.parallel.pipeline import PipelineRun, PipelineStage, pipeline_step
from lib.parallel.ring import (
    central_all_reduce,
    ring_all_gather,
    ring_all_reduce,
    ring_chunks,
    ring_reduce_scatter,
)
from lib.parallel.schedules import (
    PipelineTask,
    draw_schedule,
    gpipe_schedule,
    measured_bubble,
    most_in_flight,
    one_forward_one_backward_schedule,
    pipeline_schedule,
    time_slots,
)
from lib.parallel.tensor_parallel import split_attention, split_feed_forward, split_tensors
from lib.parallel.threads import ThreadGroup, run_on_threads
from lib.parallel.vocabulary_parallel import (
    VocabularyParallelEmbedding,
    vocabulary_parallel_cross_entropy,
)
from lib.parallel.zero import ZeroSharding

__all__ = [
    "GlooGroup",
    "MeasuredSum",
    "PipelineRun",
    "PipelineStage",
    "PipelineTask",
    "RankGroup",
    "RankLost",
    "Sent",
    "ThreadGroup",
    "VocabularyParallelEmbedding",
    "WorkerFailed",
    "ZeroSharding",
    "average_gradients",
    "central_all_reduce",
    "copy_to_ranks",
    "draw_schedule",
    "equal_parts",
    "gpipe_schedule",
    "gradient_buckets",
    "measured_all_reduce",
    "measured_bubble",
    "most_in_flight",
    "one_forward_one_backward_schedule",
    "pipeline_schedule",
    "pipeline_step",
    "ring_all_gather",
    "ring_all_reduce",
    "ring_chunks",
    "ring_reduce_scatter",
    "run_on_processes",
    "run_on_threads",
    "split_attention",
    "split_feed_forward",
    "split_tensors",
    "sum_over_ranks",
    "time_slots",
    "vocabulary_parallel_cross_entropy",
]
