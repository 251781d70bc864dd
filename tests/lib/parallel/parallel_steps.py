"""One step of a tiny GPT-2 in every way of dividing it, against the step of one process.

Each function runs on every rank, of threads or of processes, compares this rank's part in float64
with that of the undivided model, and returns the bytes that it sent and those that the formulas
of `lib.memory` expect.
"""

import copy
from functools import cache, partial

import torch
import torch.nn.functional as F

from lib.memory import communication, sharding
from lib.models import Gpt2, Llama
from lib.models.configs import GptConfig, LlamaConfig
from lib.parallel import (
    PipelineStage,
    ZeroSharding,
    average_gradients,
    central_all_reduce,
    equal_parts,
    pipeline_step,
    ring_all_reduce,
    split_tensors,
    vocabulary_parallel_cross_entropy,
)

EACH = 8  # bytes of a float64
SIZES = {
    "vocab_size": 48,
    "hidden_size": 16,
    "num_layers": 4,
    "num_attention_heads": 8,
    "intermediate_size": 32,
    "max_positions": 16,
    "dropout": 0.0,
}
BATCH, TOKENS, MICRO_BATCHES = 8, 6, 4
STREAM = {"hidden_size": 16, "batch_size": BATCH, "seq_len": TOKENS, "bytes_per_element": EACH}
close = partial(torch.testing.assert_close, rtol=1e-11, atol=1e-13)
optimizer = partial(torch.optim.AdamW, lr=0.01)


@cache
def batch():
    ids = torch.randint(48, (BATCH, TOKENS + 1), generator=torch.Generator().manual_seed(1))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


@cache
def original(kind="gpt2"):
    """Drawn once a process: threads that draw at the same time would disturb one another."""
    config = GptConfig(**SIZES) if kind == "gpt2" else LlamaConfig(**SIZES, num_key_value_heads=4)
    model = (Gpt2 if kind == "gpt2" else Llama)(config).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.3 * noise)
    return model


def model(kind="gpt2"):
    return copy.deepcopy(original(kind))


def loss(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@cache
def whole_gradients(kind="gpt2"):
    """The gradients of the step of one process, by name; and its loss."""
    whole, (ids, targets) = model(kind), batch()
    value = loss(whole(ids), targets)
    value.backward()
    return {name: p.grad for name, p in whole.named_parameters()}, value.item()


@cache
def weights_after(steps, accumulated):
    """The weights of one process after steps of AdamW."""
    whole, (ids, targets) = model(), batch()
    adam = optimizer(whole.parameters())
    for _ in range(steps):
        for _ in range(accumulated):
            (loss(whole(ids), targets) / accumulated).backward()
        adam.step()
        adam.zero_grad()
    return {name: p.detach() for name, p in whole.named_parameters()}


def prepare():
    """Compute what all ranks compare with, before threads ask for it all at once."""
    whole_gradients("gpt2"), whole_gradients("llama"), weights_after(2, 2)


def num_parameters():
    return sum(p.numel() for p in original().parameters())


def all_reduce(group):
    """A ring and a sum in the middle, of a tensor that the ranks divide."""
    mine = torch.arange(24.0, dtype=torch.float64) + group.index
    expected = group.size * torch.arange(24.0) + sum(range(group.size))
    ring, centre = mine.clone(), mine.clone()
    ring_all_reduce(group, ring)
    sent = group.sent.bytes
    central_all_reduce(group, centre)
    close(ring, expected.double())
    close(centre, expected.double())
    own = group.size - 1 if group.index == 0 else 1
    centrally = communication.central_all_reduce_bytes(24 * EACH, group.size)
    assert centrally == (group.size - 1) * 24 * EACH
    assert group.sent.bytes - sent == own * 24 * EACH
    return sent, communication.all_reduce_bytes(24 * EACH, group.size)


def data_parallel(group, bucket_bytes):
    own, parts = model(), [equal_parts(part, group.size)[group.index] for part in batch()]
    loss(own(parts[0]), parts[1]).backward()
    average_gradients(group, own.parameters(), bucket_bytes=bucket_bytes)
    for name, parameter in own.named_parameters():
        close(parameter.grad, whole_gradients()[0][name])
    return group.sent.bytes, communication.zero_traffic_bytes(
        num_parameters(), group.size, stage=0, gradient_bytes=EACH
    )


def tensor_parallel(group, kind):
    own, (ids, targets) = split_tensors(group, model(kind)), batch()
    gradients, expected = whole_gradients(kind)
    value = vocabulary_parallel_cross_entropy(group, own(ids), targets)
    value.backward()
    assert abs(value.item() - expected) < 1e-12
    sent = group.sent.bytes
    # The same cuts through a model whose weights are the gradients.
    whole = model(kind)
    whole.load_state_dict(gradients)
    for mine, part in zip(own.parameters(), split_tensors(group, whole).parameters(), strict=True):
        close(mine.grad, part.detach())
    sizes = {**STREAM, "num_ranks": group.size}
    layers = communication.tensor_parallel_bytes(num_layers=4, **sizes)
    ends = communication.vocabulary_parallel_bytes(**sizes, statistic_bytes=EACH)
    return sent, layers + ends


def pipeline(group, schedule):
    stage = PipelineStage(model(), group.index, group.size)
    run = pipeline_step(
        group, stage, *batch(), loss, num_micro_batches=MICRO_BATCHES, schedule=schedule
    )
    gradients, expected = whole_gradients()
    own_layers = 4 // group.size
    for name, parameter in stage.part.named_parameters():
        kind, number, *rest = name.split(".")
        if kind == "layers":
            number = str(int(number) + group.index * own_layers)
        close(parameter.grad, gradients[".".join([kind, number, *rest])])
    assert abs(run.loss - (expected if stage.is_last else 0)) < 1e-12
    place = {"stage": group.index, "num_stages": group.size}
    assert run.most_kept == sharding.micro_batches_in_flight(
        schedule, **place, num_micro_batches=MICRO_BATCHES
    )
    embedding = 48 * 16 * EACH
    tied = communication.all_reduce_bytes(embedding, 2) if stage.is_first or stage.is_last else 0
    return group.sent.bytes, tied + communication.pipeline_bytes(**place, **STREAM)


def zero(group, stage, accumulated):
    """Two steps of AdamW, each of so many passes over the batch."""
    own, parts = model(), [equal_parts(part, group.size)[group.index] for part in batch()]
    sharded = ZeroSharding(group, own, list(own.layers), stage=stage, make_optimizer=optimizer)
    for _ in range(2):
        for _ in range(accumulated):
            (loss(own(parts[0]), parts[1]) / accumulated).backward()
        held = sharded.bytes_held()
        sharded.step()
    sent, weights = group.sent.bytes, sharded.whole_weights()
    for name, expected in weights_after(2, accumulated).items():
        torch.testing.assert_close(weights[name], expected, rtol=1e-9, atol=1e-12)
    precision = {"weight_bytes": EACH, "gradient_bytes": EACH}
    assert held == sharding.zero_state_bytes(
        num_parameters(), group.size, stage=stage, **precision, state_bytes=EACH,
        master_weights=False,
    )  # fmt: skip
    return sent, 2 * communication.zero_traffic_bytes(
        num_parameters(), group.size, stage=stage, **precision, num_micro_batches=accumulated
    )


STEPS = {
    "all-reduce": all_reduce,
    "data": partial(data_parallel, bucket_bytes=None),
    "data in buckets": partial(data_parallel, bucket_bytes=2_000),
    "tensor": partial(tensor_parallel, kind="gpt2"),
    "tensor with grouped queries": partial(tensor_parallel, kind="llama"),
    "pipeline, gpipe": partial(pipeline, schedule="gpipe"),
    "pipeline, 1f1b": partial(pipeline, schedule="1f1b"),
    "ZeRO-1": partial(zero, stage=1, accumulated=1),
    "ZeRO-2": partial(zero, stage=2, accumulated=1),
    "ZeRO-3": partial(zero, stage=3, accumulated=1),
    "ZeRO-1, accumulated": partial(zero, stage=1, accumulated=2),
    "ZeRO-2, accumulated": partial(zero, stage=2, accumulated=2),
    "ZeRO-3, accumulated": partial(zero, stage=3, accumulated=2),
}


def take_steps(group, names):
    """Steps, one after the other, with what each sent: name to (measured, expected)."""
    sent = {}
    for name in names:
        group.sent.bytes = 0
        sent[name] = STEPS[name](group)
    return sent
