"""GPU memory: what it is made of, what operations move through it, what must be kept in it.

Read in this order: `cost`, `traffic`; `devices` and the `data_sheets` behind them, `roofline`,
`hierarchy`, `tiling`, `flash`, `sub_quadratic`; `shapes`, `layer`, `ledger`, `parameters`,
`storage`, `activations`, `training_storage`, `steps`; for several devices `communication`,
`sharding`, `parallel_plan`; and for the machine at hand `contention`, `machine`, `speeds`,
`measure`, `saved`, `prediction`, `kernels`, `kernel_times`.
"""

from lib.memory.activations import activation_bytes
from lib.memory.cost import Cost
from lib.memory.devices import DEVICES, Device, MemoryLevel, device
from lib.memory.layer import attention_costs, layer_costs, linear_maps
from lib.memory.ledger import model_costs
from lib.memory.roofline import attainable_flops, compute_bound_batch, ridge_point
from lib.memory.shapes import EXERCISE_7B, LLAMA_3_8B, LLAMA_7B, ModelShape
from lib.memory.storage import (
    kv_cache_bytes,
    latent_cache_bytes,
    max_batch_size,
    paged_cache_bytes,
    quantised_cache_bytes,
    training_state_bytes,
)
from lib.memory.traffic import (
    attention,
    attention_scores,
    elementwise,
    embedding,
    fused_attention,
    layer_norm,
    linear,
    lm_head,
    softmax,
    weighted_sum,
)

__all__ = [
    "DEVICES",
    "EXERCISE_7B",
    "LLAMA_3_8B",
    "LLAMA_7B",
    "Cost",
    "Device",
    "MemoryLevel",
    "ModelShape",
    "activation_bytes",
    "attainable_flops",
    "attention",
    "attention_costs",
    "attention_scores",
    "compute_bound_batch",
    "device",
    "elementwise",
    "embedding",
    "fused_attention",
    "kv_cache_bytes",
    "latent_cache_bytes",
    "layer_costs",
    "layer_norm",
    "linear",
    "linear_maps",
    "lm_head",
    "max_batch_size",
    "model_costs",
    "paged_cache_bytes",
    "quantised_cache_bytes",
    "ridge_point",
    "softmax",
    "training_state_bytes",
    "weighted_sum",
]
