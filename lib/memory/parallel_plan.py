"""Which division of a model among devices fits, and what it costs: every combination, compared.

With D-fold data, T-fold tensor and P-fold pipeline parallelism D · T · P devices train one model,
and ZeRO may shard the model states over the D. The bytes are those of `sharding`, `activations` and
`communication`; the times divide by printed peaks and bandwidths, which no device reaches.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

from lib.memory.activations import activation_bytes
from lib.memory.communication import (
    all_reduce_bytes,
    pipeline_bytes,
    residual_stream_bytes,
    tensor_parallel_bytes,
    vocabulary_parallel_bytes,
    zero_traffic_bytes,
)
from lib.memory.devices import Device
from lib.memory.layer import layer_costs
from lib.memory.shapes import ModelShape
from lib.memory.sharding import (
    check_schedule,
    layers_per_stage,
    micro_batches_in_flight,
    pipeline_bubble,
    stage_activation_bytes,
    stage_parameters,
    tensor_parallel_shape,
    zero_state_bytes,
)
from lib.memory.sizes import Number, check_not_negative, check_positive, check_sizes
from lib.memory.traffic import lm_head

WIDTH = 2
"""Bytes of a weight and of a gradient: mixed precision, the default of `zero_state_bytes`."""

LOGIT_BYTES = 4
"""The cross-entropy keeps its logits in float32."""


@dataclass(frozen=True)
class TrainingJob:
    """What is to be trained, on what, and how.

    `batch_size` sequences of `seq_len` tokens make a step, `micro_batch_size` of them go through a
    device at once. `checkpointing` keeps only each layer's input and runs its forward pass again;
    `fused` is as in `activation_bytes`; there is no dropout. `reserved_bytes` of each device are
    for others. A group of devices that fits into one machine uses the link between them, any other
    the network. Bandwidths are a device's, in bytes/s and one direction; the link's is the data
    sheet's unless given.

    Raises `ValueError` for sizes that are not positive, a schedule other than "gpipe" and "1f1b",
    and a dtype that the device has no peak for.
    """

    shape: ModelShape
    device: Device
    _: KW_ONLY
    batch_size: int
    seq_len: int
    micro_batch_size: int = 1
    schedule: str = "1f1b"
    checkpointing: bool = False
    fused: bool = True
    dtype: str = "bfloat16"
    reserved_bytes: Number = 0
    devices_per_machine: int = 8
    link_bandwidth: Number | None = None
    network_bandwidth: Number | None = None

    def __post_init__(self) -> None:
        sizes = ("batch_size", "seq_len", "micro_batch_size", "devices_per_machine")
        check_sizes(**{name: getattr(self, name) for name in sizes})
        check_not_negative(reserved_bytes=self.reserved_bytes)
        for name in ("link_bandwidth", "network_bandwidth"):
            if getattr(self, name) is not None:
                check_positive(**{name: getattr(self, name)})
        check_schedule(self.schedule)
        self.device.peak(self.dtype)

    @property
    def room(self) -> Number:
        """Bytes of a device that training may fill."""
        return self.device.memory_bytes - self.reserved_bytes

    def bandwidth_among(self, num_devices: int) -> Number | None:
        """Of the slowest line that a group of so many devices crosses; None if it is not known."""
        if num_devices > self.devices_per_machine:
            return self.network_bandwidth
        if self.link_bandwidth is None:
            return self.device.specs.get("link_bandwidth")
        return self.link_bandwidth


@dataclass(frozen=True, kw_only=True)
class ParallelPlan:
    """One way to divide the work, and what it means for the device that has most to bear.

    `data`, `tensor` and `pipeline` are how many parts each makes, `zero` the stage of ZeRO.
    `memory` has the bytes on the fullest device by what they are for, `traffic` the bytes that
    the busiest one sends in a step, `bubble` the part of a step in which a stage waits.
    `communication_seconds` sends them one after the other, hidden behind nothing, and is None
    where a bandwidth is not known; `computing_seconds` is a step without them, at the peak, with
    the bubble. `obstacle` says why a plan does not work, and is empty for one that does. A plan
    that cannot be carried out at all has no memory and no traffic.
    """

    data: int
    tensor: int
    pipeline: int
    zero: int
    obstacle: str
    memory: dict[str, Number] = field(default_factory=dict)
    traffic: dict[str, Number] = field(default_factory=dict)
    bubble: Number | None = None
    communication_seconds: float | None = None
    computing_seconds: float | None = None

    @property
    def fits(self) -> bool:
        """Whether it can be carried out, and the fullest device has room for its part."""
        return not self.obstacle

    @property
    def bytes_per_device(self) -> Number:
        """All bytes on the fullest device."""
        return sum(self.memory.values())


def plan_parallel(
    shape: ModelShape, device: Device, num_devices: int, **options: Any
) -> list[ParallelPlan]:
    """Every division of a training step among all `num_devices`; `options` are a `TrainingJob`'s.

    Tensor-parallel ranks stand next to one another, then data-parallel ones, then stages. ZeRO is
    planned where there is data parallelism.

    Raises `ValueError` for what a `TrainingJob` refuses, and for `num_devices` below 1.
    """
    check_sizes(num_devices=num_devices)
    job = TrainingJob(shape, device, **options)
    return [_plan(job, *division) for division in divisions(num_devices)]


def divisions(num_devices: int) -> Iterator[tuple[int, int, int, int]]:
    """(data, tensor, pipeline, zero) for every product that makes `num_devices`."""
    for pipeline in range(1, num_devices + 1):
        for tensor in range(1, num_devices // pipeline + 1):
            if num_devices % (pipeline * tensor) == 0:
                data = num_devices // (pipeline * tensor)
                for zero in range(4 if data > 1 else 1):
                    yield data, tensor, pipeline, zero


@dataclass(frozen=True)
class _Division:
    """One division of a job: what follows from it, stage by stage."""

    job: TrainingJob
    data: int
    tensor: int
    pipeline: int
    zero: int

    @cached_property
    def shape(self) -> ModelShape:
        """The model as a tensor-parallel rank has it."""
        return tensor_parallel_shape(self.job.shape, self.tensor)

    @cached_property
    def micro_batches(self) -> int:
        """How many each pipeline runs in a step."""
        rows = self.data * self.job.micro_batch_size
        if self.job.batch_size % rows:
            raise ValueError(
                f"a batch of {self.job.batch_size} sequences cannot be split into {self.data} "
                f"times micro-batches of {self.job.micro_batch_size}"
            )
        return self.job.batch_size // rows

    @cached_property
    def place(self) -> dict[str, int]:
        """The sizes of a micro-batch, as the formulas name them."""
        return {"batch_size": self.job.micro_batch_size, "seq_len": self.job.seq_len}

    def memory(self, stage: int) -> dict[str, Number]:
        """Bytes on a device of this stage."""
        parameters = stage_parameters(self.shape, stage=stage, num_stages=self.pipeline)
        states = zero_state_bytes(parameters, self.data, stage=self.zero)
        logits = LOGIT_BYTES * self.job.micro_batch_size * self.job.seq_len * self.shape.vocab_size
        return {
            **states,
            "layer in use": self._layer_in_use(),
            "activations": self._activations(stage),
            "logits": logits if stage == self.pipeline - 1 else 0,
        }

    def _layer_in_use(self) -> Number:
        """What ZeRO gathers of a layer or an embedding, and its gradient before it is reduced."""
        largest = max(self.shape.layer_parameters, self.shape.vocab_size * self.shape.hidden_size)
        return {0: 0, 1: 0, 2: WIDTH, 3: 2 * WIDTH}[self.zero] * largest

    def _activations(self, stage: int) -> Number:
        where = {"stage": stage, "num_stages": self.pipeline}
        options = {"dropout": False, "fused": self.job.fused}
        number = {"num_micro_batches": self.micro_batches}
        if not self.job.checkpointing:
            micro = {"micro_batch_size": self.job.micro_batch_size, "seq_len": self.job.seq_len}
            return stage_activation_bytes(
                self.shape, self.job.schedule, **where, **number, **micro, **options
            )
        kept = micro_batches_in_flight(self.job.schedule, **where, **number)
        inputs = kept * layers_per_stage(self.shape.num_layers, self.pipeline)
        stream = residual_stream_bytes(**self.place, hidden_size=self.shape.hidden_size)
        one_layer = activation_bytes(self.shape, **self.place, **options)
        return inputs * stream + sum(one_layer.values())

    def traffic(self, stage: int) -> dict[str, Number]:
        """Bytes that a device of this stage sends in a step."""
        parameters = stage_parameters(self.shape, stage=stage, num_stages=self.pipeline)
        return {
            "data": zero_traffic_bytes(
                parameters, self.data, stage=self.zero, num_micro_batches=self.micro_batches
            ),
            "tensor": self.micro_batches * self._tensor_traffic(stage),
            "pipeline": self.micro_batches
            * pipeline_bytes(
                stage=stage,
                num_stages=self.pipeline,
                hidden_size=self.shape.hidden_size,
                **self.place,
            ),
        }

    def _tensor_traffic(self, stage: int) -> Number:
        """Of one micro-batch. Checkpointing runs the forward pass, and its two sums, once more."""
        sizes = {**self.place, "hidden_size": self.shape.hidden_size}
        layers = layers_per_stage(self.shape.num_layers, self.pipeline)
        within = tensor_parallel_bytes(num_layers=layers, num_ranks=self.tensor, **sizes)
        within = within * 3 // 2 if self.job.checkpointing else within
        embedding = all_reduce_bytes(residual_stream_bytes(**sizes), self.tensor)
        both_ends = vocabulary_parallel_bytes(num_ranks=self.tensor, **sizes)
        first, last = stage == 0, stage == self.pipeline - 1
        return within + first * embedding + last * (both_ends - embedding)

    def seconds(self, traffic: dict[str, Number]) -> float | None:
        """What the bytes take, each kind on the slowest line that it has to cross."""
        reach = {
            "tensor": self.tensor,
            "data": self.tensor * self.data,
            "pipeline": self.tensor * self.data * self.pipeline,
        }
        total = 0.0
        for kind, num_bytes in traffic.items():
            bandwidth = self.job.bandwidth_among(reach[kind])
            if num_bytes and bandwidth is None:
                return None
            total += float(num_bytes / bandwidth) if num_bytes else 0.0
        return total

    def computing_seconds(self, bubble: Number) -> float:
        """A step's FLOPs on all devices at their peak: backward twice the forward pass."""
        job, tokens = self.job, self.job.batch_size * self.job.seq_len
        costs = layer_costs(
            job.shape, batch_size=job.batch_size, queries=job.seq_len, keys=job.seq_len
        )
        layers = job.shape.num_layers * sum(costs.values())
        sizes = {"hidden_size": job.shape.hidden_size, "vocab_size": job.shape.vocab_size}
        head = lm_head(rows=tokens, **sizes)
        flops = 3 * (layers + head).flops + (layers.flops if job.checkpointing else 0)
        devices = self.data * self.tensor * self.pipeline
        return float(flops / (devices * job.device.peak(job.dtype)) / (1 - bubble))


def _plan(job: TrainingJob, data: int, tensor: int, pipeline: int, zero: int) -> ParallelPlan:
    numbers = {"data": data, "tensor": tensor, "pipeline": pipeline, "zero": zero}
    division = _Division(job, **numbers)
    try:
        # The first stage keeps most micro-batches, the last the logits; those between send most.
        stages = sorted({0, min(1, pipeline - 1), pipeline - 1})
        memory = max(map(division.memory, stages), key=_total)
        traffic = max(map(division.traffic, stages), key=_total)
        bubble = pipeline_bubble(pipeline, division.micro_batches)
    except ValueError as error:
        return ParallelPlan(**numbers, obstacle=f"impossible: {error}")
    return ParallelPlan(
        **numbers,
        obstacle=_too_much(memory, job.room),
        memory=memory,
        traffic=traffic,
        bubble=bubble,
        communication_seconds=division.seconds(traffic),
        computing_seconds=division.computing_seconds(bubble),
    )


def _total(parts: dict[str, Number]) -> Number:
    return sum(parts.values())


def _too_much(memory: dict[str, Number], room: Number) -> str:
    """What does not fit, and what takes most of it; empty if all does."""
    if _total(memory) <= room:
        return ""
    largest = max(memory, key=memory.get)
    return (
        f"needs {float(_total(memory)) / 1e9:,.1f} GB of {float(room) / 1e9:,.1f} GB, "
        f"{float(memory[largest]) / 1e9:,.1f} GB of them for {largest}"
    )
