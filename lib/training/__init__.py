"""Training: what makes the models learn, and the runs whose results the book keeps.

Read in this order: `optimizer`, `sgd`, `adam`, `lamb`; `schedules`, `clipping`, `accumulation`;
`batch_stream`, `checkpoint`, `loop`.
"""

from lib.training.accumulation import accumulate_gradients, split_batch
from lib.training.adam import Adam, AdamW
from lib.training.batch_stream import BatchStream
from lib.training.checkpoint import TrainingRun, load_checkpoint, read_checkpoint, save_checkpoint
from lib.training.clipping import clip_by_global_norm, global_norm
from lib.training.lamb import LAMB
from lib.training.loop import NonFiniteLoss, take_step, train
from lib.training.loss_curve import StepRecord, smoothed_losses
from lib.training.optimizer import decay_groups
from lib.training.precision import autocast_loss
from lib.training.progress import ProgressLine
from lib.training.schedules import (
    warmup_constant,
    warmup_cosine,
    warmup_inverse_sqrt,
    warmup_linear,
)
from lib.training.sgd import SGD

__all__ = [
    "LAMB",
    "SGD",
    "Adam",
    "AdamW",
    "BatchStream",
    "NonFiniteLoss",
    "ProgressLine",
    "StepRecord",
    "TrainingRun",
    "accumulate_gradients",
    "autocast_loss",
    "clip_by_global_norm",
    "decay_groups",
    "global_norm",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
    "smoothed_losses",
    "split_batch",
    "take_step",
    "train",
    "warmup_constant",
    "warmup_cosine",
    "warmup_inverse_sqrt",
    "warmup_linear",
]
