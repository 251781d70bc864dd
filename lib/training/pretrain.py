"""Pre-training in small: BERT, GPT-2 and T5 of equal size on the same text, in minutes.

`python -m lib.training.pretrain bert --seed 0` trains one of the three on the text that comes with
the book, and says how well it does on addresses that it has not seen. `--corpus addresses` takes a
longer text.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from lib.data import (
    CORPORA,
    Document,
    consecutive_windows,
    read_corpus,
    shuffled_windows,
    split_by_document,
    token_stream,
)
from lib.data.tokenizer_training import END_OF_TEXT, train_shared_bpe
from lib.memory.json_file import write_json
from lib.training.adam import AdamW
from lib.training.batch_stream import BatchStream
from lib.training.checkpoint import TrainingRun
from lib.training.conditions import run_conditions
from lib.training.loop import train
from lib.training.loss_curve import StepRecord
from lib.training.optimizer import decay_groups
from lib.training.progress import ProgressLine
from lib.training.schedules import warmup_cosine
from lib.training.three_models import ARCHITECTURES, ModelSize, make_architecture

RESULTS = Path(__file__).with_name("results") / "pretrain"
"""The folder of what the commands wrote when they ran for the book."""

LOSS_BANDS = {"bert": (4.6, 5.0), "gpt2": (3.1, 3.4), "t5": (3.6, 3.9)}
"""Where the held-out loss of each model ends with the settings below: three seeds did."""


@dataclass(frozen=True)
class PretrainSettings:
    """All that decides a run: the same settings give the same numbers on the same machine."""

    architecture: str = "bert"
    corpus: str = "excerpt"
    vocab_size: int = 512
    hidden_size: int = 96
    num_layers: int = 2
    num_attention_heads: int = 4
    dropout: float = 0.0
    seq_len: int = 64
    batch_size: int = 16
    steps: int = 800
    learning_rate: float = 4e-3
    seed: int = 0

    def model_size(self, tokenizer: Any) -> ModelSize:
        """The size of the model for the tokens of this tokenizer."""
        return ModelSize(
            tokenizer.get_vocab_size(),
            self.hidden_size,
            self.num_layers,
            self.num_attention_heads,
            self.seq_len,
            self.dropout,
        )


@dataclass(frozen=True)
class Pretrained:
    """A pre-trained model with its tokenizer, and how its training went."""

    model: nn.Module
    tokenizer: Any
    curve: Sequence[StepRecord]
    held_out_loss: float


def pretrain(
    settings: PretrainSettings,
    documents: Sequence[Document],
    held_out: Sequence[Document],
    *,
    progress: Callable[[StepRecord, int], object] | None = None,
) -> Pretrained:
    """Train a tokenizer and a model of these settings on the documents; judge by those held out.

    Raises `ValueError` for an architecture that is none of the three.
    """
    tokenizer = train_shared_bpe((each.text for each in documents), settings.vocab_size)
    model = make_architecture(
        settings.architecture, settings.model_size(tokenizer), seed=settings.seed
    )
    end = tokenizer.token_to_id(END_OF_TEXT)
    train_stream, test_stream = (
        token_stream(side, tokenizer, end=end) for side in (documents, held_out)
    )
    run = TrainingRun(
        model,
        AdamW(decay_groups(model, weight_decay=0.01), lr=settings.learning_rate),
        question_stream(settings, tokenizer, train_stream),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)  # dropout draws from torch's own generator
        curve = train(
            run,
            ARCHITECTURES[settings.architecture].loss,
            steps=settings.steps,
            schedule=partial(
                warmup_cosine,
                peak=settings.learning_rate,
                warmup_steps=settings.steps // 10,
                total_steps=settings.steps,
            ),
            progress=progress,
        )
    return Pretrained(
        model, tokenizer, curve, held_out_loss(settings, model, tokenizer, test_stream)
    )


def question_stream(settings: PretrainSettings, tokenizer: Any, stream: Tensor) -> BatchStream:
    """Windows of the text without end, as the objective asks about them: new masks every time."""
    collate = ARCHITECTURES[settings.architecture].make_collate(tokenizer)

    def make_pass(generator: torch.Generator) -> Iterator[Any]:
        for windows in shuffled_windows(
            stream, generator, seq_len=settings.seq_len, batch_size=settings.batch_size
        ):
            yield collate(windows, generator)

    return BatchStream(make_pass, torch.Generator().manual_seed(settings.seed))


@torch.no_grad()
def held_out_loss(
    settings: PretrainSettings, model: nn.Module, tokenizer: Any, stream: Tensor
) -> float:
    """The loss on every window of the stream, the masks always drawn from the same seed."""
    architecture = ARCHITECTURES[settings.architecture]
    generator, collate = torch.Generator().manual_seed(0), architecture.make_collate(tokenizer)
    model.eval()
    windows = consecutive_windows(stream, seq_len=settings.seq_len)
    losses = [
        architecture.loss(model, collate(batch, generator)).item() * len(batch)
        for batch in windows.split(32)
    ]
    return sum(losses) / len(windows)


def run_pretraining(settings: PretrainSettings) -> dict[str, object]:
    """Pre-train on the corpus of the settings, and what there is to say about it."""
    documents, held_out = split_by_document(read_corpus(settings.corpus))
    began = time.process_time()
    trained = pretrain(settings, documents, held_out, progress=ProgressLine())
    losses = [record.loss for record in trained.curve]
    every = max(1, len(losses) // 60)
    return {
        "settings": asdict(settings),
        "parameters": sum(each.numel() for each in trained.model.parameters()),
        "cpu_seconds": round(time.process_time() - began, 1),
        "tokens": settings.steps * settings.batch_size * settings.seq_len,
        "first_loss": round(losses[0], 4),
        "final_loss": round(mean(losses[-50:]), 4),
        "held_out_loss": round(trained.held_out_loss, 4),
        "curve": [
            round(mean(losses[first : first + every]), 4) for first in range(0, len(losses), every)
        ],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: train, judge, print, and write it all to a file if asked to."""
    parser = argparse.ArgumentParser(prog="python -m lib.training.pretrain", description=__doc__)
    parser.add_argument("architecture", choices=ARCHITECTURES)
    for name, value in asdict(PretrainSettings()).items():
        if name != "architecture":
            choices = CORPORA if name == "corpus" else None
            option = f"--{name.replace('_', '-')}"
            parser.add_argument(option, type=type(value), default=value, choices=choices)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there")
    options = vars(parser.parse_args(arguments))
    path = options.pop("json")
    try:
        results = run_pretraining(PretrainSettings(**options))
    except ModuleNotFoundError as missing:
        parser.exit(1, f"{missing}\nor, with the text of the book: --corpus excerpt\n")
    print(
        f"{options['architecture']}: {results['parameters']:,} parameters, "
        f"{results['tokens']:,} tokens, {results['cpu_seconds']:.0f} s of processor time, "
        f"loss {results['final_loss']:.2f}, held out {results['held_out_loss']:.2f}"
    )
    if path:
        command = sys.argv[1:] if arguments is None else arguments
        write_json({**run_conditions("pretrain", command), **results}, path)


if __name__ == "__main__":
    main()
