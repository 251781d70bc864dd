"""PyTorch's own data parallelism on the models of this book, for those who outgrow one machine.

    torchrun --standalone --nproc-per-node 2 -m lib.parallel.torchrun_example

starts two processes on this machine. They train a small GPT-2 with DistributedDataParallel, which
is `average_gradients` that starts while the backward pass still runs (Li et al., 2020), and with
`fully_shard`, which is stage 3 of ZeRO (Zhao et al., 2023); then each compares its weights with
those that one process comes to by itself. On several machines, run on each of them

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m ...

With GPUs they talk by NCCL, without by gloo. `fully_shard` needs PyTorch 2.6.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from lib.models import Gpt2
from lib.models.configs import GptConfig
from lib.parallel.data_parallel import equal_parts

SMALL = GptConfig(
    vocab_size=256,
    hidden_size=64,
    num_layers=2,
    num_attention_heads=4,
    intermediate_size=256,
    max_positions=64,
    dropout=0.0,
)
"""Small enough for two processes on a laptop; without dropout, of which each would draw its own."""


def replicate(model: Gpt2) -> nn.Module:
    """Every rank has the whole model; gradients are averaged while the backward pass runs."""
    return DistributedDataParallel(model)


def shard(model: Gpt2) -> nn.Module:
    """Every rank has a part of each layer; layers are gathered when they run."""
    from torch.distributed.fsdp import fully_shard

    for layer in model.layers:
        fully_shard(layer)
    return fully_shard(model)


WAYS: dict[str, Callable[[Gpt2], nn.Module]] = {"DDP": replicate, "FSDP": shard}


def example_model(device: torch.device) -> Gpt2:
    """The same weights on every rank, in float64, so that results can be compared."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Gpt2(SMALL).double().to(device)


def example_batch(rows: int, device: torch.device) -> Int[Tensor, "rows tokens"]:
    """Random tokens, the same on every rank."""
    ids = torch.randint(SMALL.vocab_size, (rows, 33), generator=torch.Generator().manual_seed(1))
    return ids.to(device)


def train_example(
    model: nn.Module, ids: Int[Tensor, "rows tokens"], steps: int
) -> Float[Tensor, " steps"]:
    """Some steps of AdamW on the same tokens; the loss of each, on these rows."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        logits = model(ids[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses)


def largest_difference(model: nn.Module, reference: nn.Module) -> float:
    """Of any weight from the same one of the reference. Sharded weights are gathered for it."""
    pairs = zip(model.parameters(), reference.parameters(), strict=True)
    return max((_whole(ours) - theirs).abs().max().item() for ours, theirs in pairs)


def _whole(parameter: nn.Parameter) -> Tensor:
    gather = getattr(parameter, "full_tensor", None)
    return (parameter if gather is None else gather()).detach()


def compare_ways(rows: int, steps: int, say: Callable[[str], None]) -> None:
    """Train in one process and in both ways on all of them, and say how far they are apart.

    Raises `ValueError` for rows that the ranks do not divide.
    """
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    ids = example_batch(rows, device)
    own = equal_parts(ids, dist.get_world_size())[dist.get_rank()]
    alone = example_model(device)
    say(f"one process: loss {_arrow(train_example(alone, ids, steps))}")
    for name, spread in WAYS.items():
        model = spread(example_model(device))
        losses = train_example(model, own, steps)
        dist.all_reduce(losses)
        difference = largest_difference(model, alone)
        say(
            f"{name} on {dist.get_world_size()}: loss {_arrow(losses / dist.get_world_size())}, "
            f"largest difference of a weight {difference:.1e}"
        )


def _arrow(losses: Tensor) -> str:
    return f"{losses[0].item():.6f} -> {losses[-1].item():.6f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """What `torchrun` starts in every process; rank 0 speaks for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8, help="sequences of the whole batch")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args(arguments)
    if "LOCAL_RANK" not in os.environ:
        parser.error("start me with torchrun --standalone --nproc-per-node 2 -m " + __spec__.name)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        speaks = dist.get_rank() == 0
        compare_ways(options.rows, options.steps, partial(print, flush=True) if speaks else str)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
