"""Spelling to sound: what the fixed context costs, and where attention looks.

`python -m lib.training.pronounce` trains the same encoder and decoder three times, joined by a
fixed context, by additive and by general attention, on the same words, and compares them on
words that none of them has seen. `--task reverse` needs no dictionary: it writes random words
backwards.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lib.attention.scores import AdditiveScores, GeneralScores
from lib.attention.seq2seq import Score, Seq2Seq
from lib.data import (
    Batch,
    Vocabulary,
    copy_task,
    make_batch,
    read_pronunciations,
    reverse_task,
    split_by_word,
)
from lib.memory.json_file import write_json
from lib.training.conditions import run_conditions
from lib.training.error_rate import error_rate

RESULTS = Path(__file__).with_name("results") / "pronounce.json"
"""What the command wrote when it ran for the book."""

CONTEXTS = ("fixed", "additive", "general")

SHOWN_LENGTHS = (5, 8, 12)
"""Of each of these lengths, one held-out word's alignments are kept."""

Pair = tuple[Sequence[str], Sequence[str]]


@dataclass(frozen=True)
class Settings:
    """All that decides a run: the same settings give the same numbers on the same machine."""

    task: str = "pronounce"
    cell: str = "gru"
    hidden_size: int = 128
    steps: int = 1200
    batch_size: int = 128
    learning_rate: float = 4e-3
    test_words: int = 6000
    seed: int = 0


@dataclass(frozen=True)
class Task:
    """Pairs to train on and pairs to be judged by, and the ids of their symbols."""

    train: Sequence[Pair]
    test: Sequence[Pair]
    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary

    @property
    def longest_target(self) -> int:
        """The most symbols that any pair to train on asks for."""
        return max(len(target) for _, target in self.train)

    def batch(self, pairs: Sequence[Pair]) -> Batch:
        """These pairs as ids, padded."""
        return make_batch(pairs, self.source_vocabulary, self.target_vocabulary)

    def random_batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Batches without end, each of `size` pairs drawn from those to train on."""
        while True:
            chosen = torch.randint(len(self.train), (size,), generator=generator).tolist()
            yield self.batch([self.train[index] for index in chosen])


def make_task(settings: Settings) -> Task:
    """The words of the task, those to be judged by drawn at random from those held out.

    Raises `ValueError` for a task other than "pronounce", "copy" and "reverse", and
    `ModuleNotFoundError` if the dictionary that "pronounce" reads is not installed.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    if settings.task == "pronounce":
        train, held_out = split_by_word(read_pronunciations())
        order = torch.randperm(len(held_out), generator=generator).tolist()
        test = [held_out[index] for index in order[: settings.test_words]]
    elif settings.task in ("copy", "reverse"):
        make = copy_task if settings.task == "copy" else reverse_task
        train = make(20_000, range(3, 17), generator=generator)
        test = make(settings.test_words, range(3, 17), generator=generator)
    else:
        raise ValueError(f"task must be pronounce, copy or reverse, got {settings.task!r}")
    sources, targets = zip(*train, strict=True)
    return Task(train, test, Vocabulary.of(sources), Vocabulary.of(targets))


def make_model(context: str, task: Task, settings: Settings) -> Seq2Seq:
    """The encoder and decoder, joined by the context of this name: one of `CONTEXTS`.

    The seed of the settings decides its weights; torch's own generator is left as it was.
    """
    vocabularies = len(task.source_vocabulary), len(task.target_vocabulary)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        score = _make_score(context, settings.hidden_size)
        return Seq2Seq(*vocabularies, settings.hidden_size, cell=settings.cell, score=score)


def train_steps(
    model: Seq2Seq, batches: Iterator[Batch], *, steps: int, learning_rate: float
) -> list[float]:
    """Teacher forcing with Adam, its rate falling to zero in a straight line; every step's loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    losses = []
    for _ in range(steps):
        loss = batch_loss(model, next(batches))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def batch_loss(model: Seq2Seq, batch: Batch) -> Float[Tensor, ""]:
    """The cross-entropy per symbol to be written, the end included and the padding not."""
    logits, _ = model(batch.source, batch.source_lengths, batch.inputs)
    return F.cross_entropy(logits.mT, batch.targets, ignore_index=Vocabulary.pad)


def write_all(
    model: Seq2Seq, task: Task, pairs: Sequence[Pair], *, batch_size: int = 500
) -> tuple[list[list[str]], list[Float[Tensor, "steps source"]]]:
    """What the model writes for the source of each pair, and where it looked at every step.

    An alignment has a row for each symbol written and, if it came, one for the end.
    """
    outputs, alignments = [], []
    for first in range(0, len(pairs), batch_size):
        batch = task.batch(pairs[first : first + batch_size])
        tokens, weights = model.greedy_decode(
            batch.source,
            batch.source_lengths,
            start=Vocabulary.start,
            end=Vocabulary.end,
            max_steps=task.longest_target + 1,
        )
        for ids, looked, length in zip(tokens, weights, batch.source_lengths, strict=True):
            steps = int((ids != Vocabulary.end).sum()) + 1
            outputs.append(task.target_vocabulary.decode(ids.tolist()))
            alignments.append(looked[:steps, :length])
    return outputs, alignments


def count_errors(written: Iterable[Sequence[str]], pairs: Sequence[Pair]) -> dict[str, object]:
    """How many pairs there were, edits per symbol, and the share of pairs without an error."""
    both = [
        (tuple(output), tuple(wanted)) for output, (_, wanted) in zip(written, pairs, strict=True)
    ]
    return {
        "words": len(both),
        "error_rate": round(error_rate(both), 4),
        "accuracy": round(sum(output == wanted for output, wanted in both) / len(both), 4),
    }


def errors_by_length(
    written: Iterable[Sequence[str]], pairs: Sequence[Pair]
) -> list[dict[str, object]]:
    """The same for each length of the source, shortest first."""
    groups = defaultdict(list)
    for output, pair in zip(written, pairs, strict=True):
        groups[len(pair[0])].append((output, pair))
    return [
        {"length": length, **count_errors(*zip(*groups[length], strict=True))}
        for length in sorted(groups)
    ]


def run(settings: Settings) -> dict[str, object]:
    """Train and judge one model for each context, on the same batches, and print each result."""
    task, models = make_task(settings), {}
    for context in CONTEXTS:
        model = make_model(context, task, settings)
        draws = torch.Generator().manual_seed(settings.seed)
        batches = task.random_batches(settings.batch_size, draws)
        began = time.process_time()
        losses = train_steps(
            model, batches, steps=settings.steps, learning_rate=settings.learning_rate
        )
        models[context] = result = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "training_cpu_seconds": round(time.process_time() - began, 1),
            "final_loss": round(mean(losses[-50:]), 4),
            **judge_model(model, task),
        }
        print(
            f"{context:9} {result['parameters']:8,} parameters, "
            f"{result['training_cpu_seconds']:4.0f} s of a core, "
            f"error rate {result['error_rate']:.1%}, {result['accuracy']:.1%} of words right",
            flush=True,
        )
    sizes = {"train_words": len(task.train), "test_words": len(task.test)}
    return {"settings": asdict(settings), **sizes, "models": models}


def judge_model(model: Seq2Seq, task: Task) -> dict[str, object]:
    """How the model does on the held-out pairs, and where it looks in a few of them."""
    outputs, alignments = write_all(model, task, task.test)
    shown = _first_of_lengths(task.test, SHOWN_LENGTHS)
    return {
        **count_errors(outputs, task.test),
        "by_length": errors_by_length(outputs, task.test),
        "alignments": [
            {
                "source": "".join(task.test[index][0]),
                "target": list(task.test[index][1]),
                "written": outputs[index],
                "weights": [[round(w, 3) for w in row] for row in alignments[index].tolist()],
            }
            for index in shown
        ],
    }


def _make_score(context: str, size: int) -> Score | None:
    if context == "fixed":
        return None
    if context == "additive":
        return AdditiveScores(size, size, size)
    if context == "general":
        return GeneralScores(size, size)
    raise ValueError(f"context must be one of {', '.join(CONTEXTS)}, got {context!r}")


def _first_of_lengths(pairs: Sequence[Pair], lengths: Iterable[int]) -> list[int]:
    """Where the first pair with a source of each of these lengths stands, if there is one."""
    sources = [len(source) for source, _ in pairs]
    return [sources.index(length) for length in lengths if length in sources]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: train, judge, print, and write it all to a file if asked to."""
    parser = argparse.ArgumentParser(prog="python -m lib.training.pronounce", description=__doc__)
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there")
    options = vars(parser.parse_args(arguments))
    path = options.pop("json")
    try:
        results = run(Settings(**options))
    except ModuleNotFoundError as missing:
        parser.exit(1, f"{missing}\nor, without a dictionary: --task reverse\n")
    if path:
        command = sys.argv[1:] if arguments is None else arguments
        write_json({**run_conditions("pronounce", command), **results}, path)


if __name__ == "__main__":
    main()
