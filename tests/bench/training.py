"""`python -m tests.bench.training [bert] [gpt2] [t5]`: a step of training against Hugging Face's.

Loss, backward pass, optimizer. Models of the same size with the same dropout, each with the
optimizer that it comes with: AdamW of `lib.training` here, torch's there. A time is one thread's
processor time; a ratio is the median of those of rounds in which the rivals take turns. bfloat16
takes part only where the processor multiplies in it faster than in float32.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
import torch.nn.functional as F
import transformers
from torch import nn

from lib.memory.machine import processor_name
from lib.models import T5, Bert, Gpt2
from lib.models.configs import BertConfig, GptConfig, T5Config
from lib.models.heads import MaskedTokenHead
from lib.training import AdamW, autocast_loss

VOCAB, WIDTH, LAYERS, HEADS, WIDE = 8192, 384, 6, 6, 1536
BATCH, LENGTH, SHORT = 8, 128, 32
ROUNDS = 5

SIZES = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_layers": LAYERS}
SIZES |= {"num_attention_heads": HEADS, "intermediate_size": WIDE}
THEIR_SIZES = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": LAYERS}
THEIR_SIZES |= {"num_attention_heads": HEADS, "intermediate_size": WIDE}

Step = Callable[[], object]


class MaskedBert(nn.Module):
    """BERT that is asked for the masked places alone."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.bert = Bert(BertConfig(**SIZES, max_positions=LENGTH, dropout=dropout))
        self.head = MaskedTokenHead(self.bert)

    def loss(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        asked = labels != -100
        logits = self.head(self.bert(ids)[asked], self.bert.tokens)
        return F.cross_entropy(logits, labels[asked])


def masked_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of which 15 % are asked for."""
    ids = torch.randint(5, VOCAB, (BATCH, LENGTH))
    return ids, ids.masked_fill(torch.rand(BATCH, LENGTH) > 0.15, -100)


def step_of(model: nn.Module, loss: Callable[[], torch.Tensor], optimizer: type) -> Step:
    made = optimizer(model.train().parameters(), lr=1e-4)

    def step() -> None:
        made.zero_grad()
        loss().backward()
        made.step()

    return step


def ours(model: nn.Module, loss: Callable[..., torch.Tensor], batch: object, **types) -> Step:
    whole = autocast_loss(loss, **types) if types else loss
    return step_of(model, lambda: whole(model, batch), AdamW)


def theirs(model: nn.Module, **batch: torch.Tensor) -> Step:
    return step_of(model, lambda: model(**batch).loss, torch.optim.AdamW)


def bert() -> dict[str, Step]:
    ids, labels = masked_batch()
    config = transformers.BertConfig(**THEIR_SIZES, max_position_embeddings=LENGTH)
    them = transformers.BertForMaskedLM(config)
    asked = lambda model, batch: model.loss(*batch)  # noqa: E731
    batch = (ids, labels)
    return {
        "theirs": theirs(them, input_ids=ids, labels=labels),
        "ours": ours(MaskedBert(0.1), asked, batch),
        "no dropout": ours(MaskedBert(0.0), asked, batch),
        "bfloat16": ours(MaskedBert(0.1), asked, batch, dtype=torch.bfloat16),
    }


def gpt2() -> dict[str, Step]:
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    config = transformers.GPT2Config(
        vocab_size=VOCAB,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_positions=LENGTH,
        bos_token_id=None,
        eos_token_id=None,
    )
    them = transformers.GPT2LMHeadModel(config)
    model = Gpt2(GptConfig(**SIZES, max_positions=LENGTH))

    # As many tokens as theirs reads, though the last one has nothing to predict.
    targets = F.pad(ids[:, 1:], (0, 1), value=-100).flatten()

    def loss(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(ids).flatten(0, 1), targets)

    return {
        "theirs": theirs(them, input_ids=ids, labels=ids),
        "ours": ours(model, loss, ids),
        "bfloat16": ours(model, loss, ids, dtype=torch.bfloat16),
    }


def t5() -> dict[str, Step]:
    ids, target = torch.randint(1, VOCAB, (BATCH, LENGTH)), torch.randint(1, VOCAB, (BATCH, SHORT))
    config = transformers.T5Config(
        vocab_size=VOCAB,
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=WIDE,
        num_layers=LAYERS,
        num_heads=HEADS,
        decoder_start_token_id=0,
    )
    them = transformers.T5ForConditionalGeneration(config)
    model = T5(T5Config(**SIZES, head_dim=WIDTH // HEADS))

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        ids, target = batch
        read = F.pad(target[:, :-1], (1, 0))
        return F.cross_entropy(model(ids, read).flatten(0, 1), target.flatten())

    return {
        "theirs": theirs(them, input_ids=ids, labels=target),
        "ours": ours(model, loss, (ids, target)),
        "bfloat16": ours(model, loss, (ids, target), dtype=torch.bfloat16),
    }


def take_turns(rivals: Mapping[str, Step]) -> dict[str, list[float]]:
    """Processor seconds of each step in each round, after one that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for counted in [False] + [True] * ROUNDS:
        for name, step in rivals.items():
            before = time.process_time()
            step()
            if counted:
                taken[name].append(time.process_time() - before)
    return taken


def show(title: str, rivals: Mapping[str, Step]) -> None:
    print(title)
    taken = take_turns(rivals)
    for name, seconds in taken.items():
        ratio = median(a / b for a, b in zip(taken["theirs"], seconds, strict=True))
        print(f"  {name:12}{median(seconds) * 1e3:10.0f} ms {ratio:8.2f} x as fast", flush=True)
    print()


def bfloat16_speed() -> float:
    """How many times as fast as float32 the processor multiplies matrices of bfloat16."""
    wide = torch.randn(256, 256)
    narrow = wide.bfloat16()
    products = {
        "float32": lambda: [wide @ wide for _ in range(4)],
        "bfloat16": lambda: [narrow @ narrow for _ in range(4)],
    }
    taken = take_turns(products)
    return median(taken["float32"]) / median(taken["bfloat16"])


MODELS = {
    "bert": ("BERT, masked tokens", bert),
    "gpt2": ("GPT-2", gpt2),
    "t5": (f"T5, {SHORT} tokens to write", t5),
}


def main(names: Sequence[str] = ()) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    speed = bfloat16_speed()
    print(f"A step of training on one thread of {processor_name()}: {LAYERS} layers of {WIDTH},")
    print(f"{VOCAB:,} tokens, a batch of {BATCH} x {LENGTH}, dropout 0.1 unless said")
    print(f"Products in bfloat16 are {speed:.2f} x as fast as in float32 here\n", flush=True)
    for name in names or MODELS:
        title, make = MODELS[name]
        rivals = make()
        if speed < 1:
            del rivals["bfloat16"]
        show(title, rivals)
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main(sys.argv[1:])
