"""A run so small that a test can train it: a GPT-2 that learns to count, dropout included."""

import torch
import torch.nn.functional as F

from lib.models import Gpt2
from lib.models.configs import GptConfig
from lib.training import AdamW, BatchStream, TrainingRun

VOCAB, LENGTH, BATCH = 16, 8, 8


def make_pass(generator):
    """Three batches of rows that count up from a random number, with random numbers masked."""
    for _ in range(3):
        start = torch.randint(VOCAB, (BATCH, 1), generator=generator)
        ids = (start + torch.arange(LENGTH + 1)) % VOCAB
        targets = ids[:, 1:].masked_fill(torch.rand(BATCH, LENGTH, generator=generator) < 0.3, -100)
        yield {"ids": ids[:, :-1], "targets": targets}


def counting_loss(model, batch):
    return F.cross_entropy(model(batch["ids"]).mT, batch["targets"])


def count_targets(batch):
    return int((batch["targets"] != -100).sum())


def small_gpt2(dropout=0.1, **sizes):
    torch.manual_seed(0)
    sizes = {"num_layers": 1, "hidden_size": 16, "intermediate_size": 32} | sizes
    return Gpt2(
        GptConfig(
            vocab_size=VOCAB,
            num_attention_heads=2,
            max_positions=LENGTH,
            dropout=dropout,
            **sizes,
        )
    )


def new_run(make_optimizer=AdamW, seed=0, **options):
    """Model, optimizer and batches; torch's own generator seeded."""
    model = small_gpt2(**options)
    batches = BatchStream(make_pass, torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    return TrainingRun(model, make_optimizer(model.parameters(), lr=3e-3), batches)


def weights(run):
    return [each.detach().clone() for each in run.model.parameters()]
