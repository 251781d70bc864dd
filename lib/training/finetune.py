"""Fine-tuning on reviews: what pre-training in small is worth, against the same model without it.

`python -m lib.training.finetune gpt2` pre-trains one of the three models on the texts of the films
to train on, then teaches it, and a copy of the same model that was not pre-trained, to tell
favourable reviews from others, and judges both by films that neither has seen: with the labels of
all reviews, and with those of a thousand. The pre-training reads the text of all in either case.
`lib.training.baselines` is what to compare with.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.data import (
    Document,
    Review,
    pad_sequences,
    read_plots,
    read_reviews,
    split_by_document,
    split_by_film,
)
from lib.masks import padding
from lib.memory.json_file import write_json
from lib.training.adam import AdamW
from lib.training.batch_stream import BatchStream
from lib.training.checkpoint import TrainingRun
from lib.training.conditions import run_conditions
from lib.training.loop import train
from lib.training.optimizer import decay_groups
from lib.training.pretrain import Pretrained, PretrainSettings, pretrain
from lib.training.progress import ProgressLine
from lib.training.schedules import warmup_linear
from lib.training.three_models import ARCHITECTURES, make_architecture

Example = tuple[list[int], bool]


@dataclass(frozen=True)
class FinetuneSettings:
    """All that decides a run. Of `labels`, each is a number of labelled reviews, and 0 all of them.

    There are `epochs` passes over them, or more, to make `least_steps` updates.
    """

    architecture: str = "gpt2"
    labels: tuple[int, ...] = (0, 1000)
    epochs: int = 2
    least_steps: int = 200
    batch_size: int = 32
    learning_rate: float = 1e-3
    longest: int = 48
    pretrain_steps: int = 600
    vocab_size: int = 1024
    hidden_size: int = 64
    num_layers: int = 2
    seeds: int = 3
    seed: int = 0

    def pretraining(self) -> PretrainSettings:
        """The pre-training that comes before, on texts of films."""
        return PretrainSettings(
            architecture=self.architecture,
            corpus="films",
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            steps=self.pretrain_steps,
            seed=self.seed,
        )


class LabelledBatch(NamedTuple):
    """Reviews as padded ids, their lengths, and whether each is favourable."""

    ids: Int[Tensor, "batch tokens"]
    lengths: Int[Tensor, " batch"]
    labels: Int[Tensor, " batch"]


class ReviewClassifier(nn.Module):
    """A model and a linear map of the mean of its hidden states: (batch, 2), rotten and fresh."""

    def __init__(self, body: nn.Module, architecture: str) -> None:
        super().__init__()
        self.body, self.architecture = body, architecture
        self.head = nn.Linear(body.config.hidden_size, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: LabelledBatch) -> Float[Tensor, "batch 2"]:
        """The logits of both classes."""
        mask = padding(batch.lengths, batch.ids.shape[1])
        hidden = ARCHITECTURES[self.architecture].features(self.body, batch.ids, mask)
        return self.head(mean_of_words(hidden, batch.lengths))


def mean_of_words(
    hidden: Float[Tensor, "batch tokens hidden"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch hidden"]:
    """The mean over the first `lengths[i]` places of each text: the padding does not count."""
    real = torch.arange(hidden.shape[1]) < lengths[:, None]
    return (hidden * real[:, :, None]).sum(1) / lengths[:, None]


def film_documents(reviews: Sequence[Review]) -> list[Document]:
    """What there is to read of the films: all reviews of one make a document, each plot another."""
    by_film = defaultdict(list)
    for review in reviews:
        by_film[review.film].append(review.text)
    return [Document(film, "\n".join(texts)) for film, texts in by_film.items()] + read_plots()


def encode_reviews(reviews: Sequence[Review], tokenizer: Any, *, longest: int) -> list[Example]:
    """The first `longest` ids of each review, and its label."""
    encoded = tokenizer.encode_batch([each.text for each in reviews], add_special_tokens=False)
    return [(each.ids[:longest], r.fresh) for each, r in zip(encoded, reviews, strict=True)]


def labelled_batch(examples: Sequence[Example]) -> LabelledBatch:
    """These examples as one padded batch."""
    ids, lengths = pad_sequences([ids for ids, _ in examples])
    return LabelledBatch(ids, lengths, torch.tensor([int(fresh) for _, fresh in examples]))


def labelled_batches(
    examples: Sequence[Example], batch_size: int, generator: torch.Generator
) -> Iterator[LabelledBatch]:
    """One pass in random order, neighbours of about the same length, so that little is padding."""
    order = torch.randperm(len(examples), generator=generator).tolist()
    chunk = 16 * batch_size
    for start in range(0, len(order), chunk):
        near = sorted(order[start : start + chunk], key=lambda index: len(examples[index][0]))
        batches = [near[first : first + batch_size] for first in range(0, len(near), batch_size)]
        for number in torch.randperm(len(batches), generator=generator).tolist():
            yield labelled_batch([examples[index] for index in batches[number]])


def drawn(count: int, labels: int, seed: int) -> list[int]:
    """Which of so many reviews have a label: the first `labels` in random order; 0 stands for all.

    The same for every model, so that with the same seed all learn from the same.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator).tolist()[: labels or None]


def finetune(
    body: nn.Module,
    examples: Sequence[Example],
    settings: FinetuneSettings,
    *,
    seed: int,
) -> ReviewClassifier:
    """A classifier on top of this model, both trained on the examples in the order of the seed."""
    model = ReviewClassifier(body, settings.architecture)
    per_epoch = -(-len(examples) // settings.batch_size)
    steps = max(settings.epochs * per_epoch, settings.least_steps)
    run = TrainingRun(
        model,
        AdamW(decay_groups(model, weight_decay=0.01), lr=settings.learning_rate),
        BatchStream(
            partial(labelled_batches, examples, settings.batch_size),
            torch.Generator().manual_seed(seed),
        ),
    )
    schedule = partial(
        warmup_linear,
        peak=settings.learning_rate,
        warmup_steps=steps // 10,
        total_steps=steps,
    )
    train(run, _label_loss, steps=steps, schedule=schedule)
    return model


@torch.no_grad()
def share_right(model: nn.Module, examples: Sequence[Example]) -> float:
    """The share of the examples that the classifier gets right."""
    model.eval()
    right = 0
    for first in range(0, len(examples), 64):
        batch = labelled_batch(examples[first : first + 64])
        right += int((model(batch).argmax(-1) == batch.labels).sum())
    return right / len(examples)


def compare(settings: FinetuneSettings) -> dict[str, object]:
    """Pre-train once; fine-tune with and without, for each number of labels and each seed.

    Prints each accuracy as it comes.
    """
    train_side, test_side = split_by_film(read_reviews())
    trained = pretrain(settings.pretraining(), *_texts(train_side), progress=ProgressLine())
    began = time.process_time()
    examples, tests = (
        encode_reviews(side, trained.tokenizer, longest=settings.longest)
        for side in (train_side, test_side)
    )
    accuracy: dict[str, dict[str, object]] = {"pre-trained": {}, "from scratch": {}}
    for labels in settings.labels:
        values = [
            _compare_once(settings, trained, examples, tests, labels=labels, seed=seed)
            for seed in range(settings.seed, settings.seed + settings.seeds)
        ]
        for kind, by_labels in accuracy.items():
            by_labels[str(labels or len(examples))] = accuracy_of_seeds([v[kind] for v in values])
    return {
        "settings": asdict(settings),
        "parameters": sum(each.numel() for each in trained.model.parameters()),
        "test_reviews": len(tests),
        "majority": round(_majority(tests), 4),
        "pretraining_loss": round(mean(record.loss for record in trained.curve[-50:]), 4),
        "pretraining_held_out_loss": round(trained.held_out_loss, 4),
        "finetuning_cpu_seconds": round(time.process_time() - began, 1),
        "accuracy": accuracy,
    }


def accuracy_of_seeds(values: Sequence[float]) -> dict[str, object]:
    """The accuracy with each seed, their mean, and their standard deviation (0 for one seed)."""
    spread = stdev(values) if len(values) > 1 else 0.0
    return {"seeds": list(values), "mean": round(mean(values), 4), "deviation": round(spread, 4)}


def print_accuracies(accuracy: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """A line for each kind of classifier and number of labels: the mean and the deviation."""
    for kind, by_labels in accuracy.items():
        for labels, each in by_labels.items():
            print(f"{kind:13} {labels:>6} labels: {each['mean']:.1%} ± {each['deviation']:.1%}")


def _texts(train_side: Sequence[Review]) -> tuple[list[Document], list[Document]]:
    """Texts to pre-train on, and the plots of the held-out films, by the same checksums."""
    _, held_out_plots = split_by_document(read_plots())
    unseen = {plot.name for plot in held_out_plots}
    documents = film_documents(train_side)
    return [each for each in documents if each.name not in unseen], held_out_plots


def _compare_once(
    settings: FinetuneSettings,
    trained: Pretrained,
    examples: Sequence[Example],
    tests: Sequence[Example],
    *,
    labels: int,
    seed: int,
) -> dict[str, float]:
    """The accuracy of both kinds, with labels drawn by this seed."""
    chosen = [examples[index] for index in drawn(len(examples), labels, seed)]
    size = settings.pretraining().model_size(trained.tokenizer)
    bodies = {
        "pre-trained": deepcopy(trained.model),
        "from scratch": make_architecture(settings.architecture, size, seed=seed),
    }
    accuracy = {
        kind: round(share_right(finetune(body, chosen, settings, seed=seed), tests), 4)
        for kind, body in bodies.items()
    }
    shown = ", ".join(f"{kind} {share:.1%}" for kind, share in accuracy.items())
    print(f"{len(chosen)} labels, seed {seed}: {shown}", flush=True)
    return accuracy


def _label_loss(model: nn.Module, batch: LabelledBatch) -> Float[Tensor, ""]:
    return F.cross_entropy(model(batch), batch.labels)


def _majority(examples: Sequence[Example]) -> float:
    fresh = mean(label for _, label in examples)
    return max(fresh, 1 - fresh)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: compare, print, and write it all to a file if asked to."""
    parser = argparse.ArgumentParser(prog="python -m lib.training.finetune", description=__doc__)
    parser.add_argument("architecture", choices=ARCHITECTURES)
    for name, value in asdict(FinetuneSettings()).items():
        option = f"--{name.replace('_', '-')}"
        if name == "labels":
            parser.add_argument(option, type=int, nargs="+", default=value)
        elif name != "architecture":
            parser.add_argument(option, type=type(value), default=value)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there")
    options = vars(parser.parse_args(arguments))
    path, options["labels"] = options.pop("json"), tuple(options["labels"])
    try:
        results = compare(FinetuneSettings(**options))
    except ModuleNotFoundError as missing:
        parser.exit(1, f"{missing}\n")
    print_accuracies(results["accuracy"])
    if path:
        command = sys.argv[1:] if arguments is None else arguments
        write_json({**run_conditions("finetune", command), **results}, path)


if __name__ == "__main__":
    main()
