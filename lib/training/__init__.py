"""Training: what makes the models learn, and the runs whose results the book keeps.

Read in this order: `optimizer`, `sgd`, `adam`, `lamb`; `schedules`, `clipping`, `accumulation`;
`batch_stream`, `checkpoint`, `loop`. Then what saves memory: `recompute`, `precision`,
`loss_scaling`, `eight_bit`, `lora`. The runs are commands: `pretrain`, `finetune`, `baselines`,
`scaling`; what they wrote for the book lies in `results`.
"""

from lib.training.accumulation import accumulate_gradients, split_batch
from lib.training.adam import Adam, AdamW
from lib.training.batch_stream import BatchStream
from lib.training.checkpoint import TrainingRun, load_checkpoint, read_checkpoint, save_checkpoint
from lib.training.clipping import clip_by_global_norm, global_norm
from lib.training.eight_bit import Adam8bit, dequantise_blocks, quantise_blocks
from lib.training.lamb import LAMB
from lib.training.loop import NonFiniteLoss, take_step, train
from lib.training.lora import add_lora, merge_lora, unmerge_lora
from lib.training.loss_curve import StepRecord, smoothed_losses
from lib.training.loss_scaling import DynamicLossScale, Float16, StaticLossScale
from lib.training.optimizer import decay_groups
from lib.training.precision import autocast_loss
from lib.training.progress import ProgressLine
from lib.training.recompute import keep_activations, recompute_layers
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
    "Adam8bit",
    "AdamW",
    "BatchStream",
    "DynamicLossScale",
    "Float16",
    "NonFiniteLoss",
    "ProgressLine",
    "StaticLossScale",
    "StepRecord",
    "TrainingRun",
    "accumulate_gradients",
    "add_lora",
    "autocast_loss",
    "clip_by_global_norm",
    "decay_groups",
    "dequantise_blocks",
    "global_norm",
    "keep_activations",
    "load_checkpoint",
    "merge_lora",
    "quantise_blocks",
    "read_checkpoint",
    "recompute_layers",
    "save_checkpoint",
    "smoothed_losses",
    "split_batch",
    "take_step",
    "train",
    "unmerge_lora",
    "warmup_constant",
    "warmup_cosine",
    "warmup_inverse_sqrt",
    "warmup_linear",
]
