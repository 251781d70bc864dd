"""What one of several devices keeps, when model states, layers or matrices are divided among them.

Bytes throughout. Sizes are positive whole numbers or SymPy expressions, and parts that do not
divide raise `ValueError`.
"""

from dataclasses import replace
from typing import Any

import sympy

from lib.memory.activations import activation_bytes
from lib.memory.communication import check_pipeline_stage, check_stage_of_zero
from lib.memory.shapes import ModelShape
from lib.memory.sizes import Number, Size, check_divides, check_sizes, quotient
from lib.memory.storage import training_state_bytes

PIPELINE_SCHEDULES = ("gpipe", "1f1b")


def zero_state_bytes(
    num_parameters: Size, num_ranks: Size, *, stage: int, **precision: Any
) -> dict[str, Number]:
    """Bytes of the model states on each of `num_ranks`, by what they are for.

    Stage 1 of ZeRO shards the optimizer's states and the master weights, 2 the gradients as well,
    3 the weights too, 0 nothing (Rajbhandari et al., 2020). With the precision that
    `training_state_bytes` defaults to, a parameter takes 16, 4 + 12 / n, 2 + 14 / n and 16 / n
    bytes. `precision` has the options of that function.

    Raises `ValueError` for a stage that is not 0, 1, 2 or 3.
    """
    check_stage_of_zero(stage)
    check_sizes(num_ranks=num_ranks)
    states = training_state_bytes(num_parameters, **precision)
    whole = ("weights", "gradients")[: 3 - stage] if stage else tuple(states)
    return {
        name: size if name in whole else quotient(size, num_ranks) for name, size in states.items()
    }


def tensor_parallel_shape(shape: ModelShape, num_ranks: Size) -> ModelShape:
    """The model as one rank of Megatron's split holds it (Shoeybi et al., 2019).

    It has 1 / n of the heads, of the feed-forward width and of the vocabulary; the residual stream
    keeps its width. Every formula for a `ModelShape` holds for it: `activation_bytes` gives
    t b d (10 + 24 / n + 5 a t / (d n)) for what the full shape gives t b d (34 + 5 a t / d) for
    (Korthikanti et al., 2022).

    Raises `ValueError` if `num_ranks` does not divide one of them.
    """
    check_sizes(num_ranks=num_ranks)
    split = ("num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size")
    for name in split:
        check_divides("num_ranks", num_ranks, name, getattr(shape, name))
    return replace(shape, **{name: quotient(getattr(shape, name), num_ranks) for name in split})


def stage_parameters(shape: ModelShape, *, stage: int, num_stages: int) -> Size:
    """Parameters of one pipeline stage: its layers, and at the ends the embedding or the head.

    Raises `ValueError` if the stages do not divide the layers.
    """
    check_pipeline_stage(stage, num_stages)
    layers = layers_per_stage(shape.num_layers, num_stages) * shape.layer_parameters
    ends = (stage == 0) + (stage == num_stages - 1)
    return layers + ends * shape.vocab_size * shape.hidden_size


def layers_per_stage(num_layers: Size, num_stages: Size) -> Size:
    """num_layers / num_stages. Raises `ValueError` if that is not a whole number."""
    check_sizes(num_layers=num_layers, num_stages=num_stages)
    if type(num_layers) is int and type(num_stages) is int and num_stages > num_layers:
        raise ValueError(f"{num_layers} layers do not make {num_stages} stages of at least one")
    check_divides("num_stages", num_stages, "num_layers", num_layers)
    return quotient(num_layers, num_stages)


def pipeline_bubble(num_stages: Size, num_micro_batches: Size) -> Number:
    """The part of a step in which a stage has nothing to do: (p - 1) / (m + p - 1).

    For GPipe (Huang et al., 2019) and for one-forward-one-backward (Narayanan et al., 2021) alike.
    """
    check_sizes(num_stages=num_stages, num_micro_batches=num_micro_batches)
    return quotient(num_stages - 1, num_micro_batches + num_stages - 1)


def micro_batches_in_flight(
    schedule: str, *, stage: Size, num_stages: Size, num_micro_batches: Size
) -> Size:
    """Of how many micro-batches a stage keeps the activations at once, at the most.

    GPipe runs all forward passes first and keeps all. With one-forward-one-backward stage i begins
    its first backward pass after p - i forward ones, and frees as much as it takes from then on.

    Raises `ValueError` for a schedule other than "gpipe" and "1f1b".
    """
    check_schedule(schedule)
    check_sizes(num_stages=num_stages, num_micro_batches=num_micro_batches)
    if schedule == "gpipe":
        return num_micro_batches
    behind = num_stages - stage
    symbolic = isinstance(behind, sympy.Expr) or isinstance(num_micro_batches, sympy.Expr)
    return (sympy.Min if symbolic else min)(num_micro_batches, behind)


def check_schedule(schedule: str) -> None:
    """Raise `ValueError` unless the schedule has a name in `PIPELINE_SCHEDULES`."""
    if schedule not in PIPELINE_SCHEDULES:
        raise ValueError(f"schedule must be {' or '.join(PIPELINE_SCHEDULES)}, got {schedule!r}")


def stage_activation_bytes(
    shape: ModelShape,
    schedule: str,
    *,
    stage: int,
    num_stages: int,
    num_micro_batches: int,
    micro_batch_size: Size,
    seq_len: Size,
    **options: Any,
) -> Number:
    """Bytes that a stage keeps of its layers' forward passes, at the most.

    Those of `activation_bytes`, whose `options` these are, for each of its layers and each
    micro-batch in flight. Give it a `tensor_parallel_shape` where tensors are split as well.
    """
    check_pipeline_stage(stage, num_stages)
    one = activation_bytes(shape, batch_size=micro_batch_size, seq_len=seq_len, **options)
    kept = micro_batches_in_flight(
        schedule, stage=stage, num_stages=num_stages, num_micro_batches=num_micro_batches
    )
    return layers_per_stage(shape.num_layers, num_stages) * kept * sum(one.values())
