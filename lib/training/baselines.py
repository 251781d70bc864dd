"""What a fine-tuned model has to be better than: counted words, and a large model left as it is.

`python -m lib.training.baselines` judges two linear classifiers of reviews on the films of
`lib.training.finetune`: one on TF-IDF, which knows words and not their order, one on the mean
hidden state of all-MiniLM-L6-v2, frozen: 23 million parameters that have read a billion pairs of
sentences (Reimers and Gurevych, 2019).
"""

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from math import log
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lib.data import Review, pad_sequences, read_reviews, split_by_film
from lib.data.checkpoints import load
from lib.masks import padding
from lib.memory.json_file import write_json
from lib.training.conditions import run_conditions
from lib.training.finetune import accuracy_of_seeds, drawn, mean_of_words, print_accuracies

SEEDS = (0, 1, 2)


def tf_idf(train_texts: Sequence[str], texts: Sequence[str]) -> Float[Tensor, "texts words"]:
    """How often each word stands in a text, rare words counting more, as rows of length 1; sparse.

    The words are those of at least two of `train_texts`. A word in df of n texts counts
    ln((1 + n) / (1 + df)) + 1 (Salton and Buckley, 1988; scikit-learn's smoothing).
    """
    frequency = Counter(word for text in train_texts for word in set(_words(text)))
    known = [word for word, df in frequency.items() if df > 1]
    column = {word: index for index, word in enumerate(known)}
    rarity = torch.tensor([log((1 + len(train_texts)) / (1 + frequency[w])) + 1 for w in known])
    places, counts = [], []
    for row, text in enumerate(texts):
        for word, count in Counter(_words(text)).items():
            if word in column:
                places.append((row, column[word]))
                counts.append(float(count))
    index = torch.tensor(places).T
    values = torch.tensor(counts) * rarity[index[1]]
    squares = torch.zeros(len(texts)).index_add_(0, index[0], values**2)
    values = values / squares[index[0]].sqrt()
    rows = torch.sparse_coo_tensor(index, values, (len(texts), len(known)), check_invariants=True)
    return rows.coalesce()


def _words(text: str) -> list[str]:
    return re.findall(r"\w\w+", text.lower())


def fit_logistic(
    features: Tensor, labels: Int[Tensor, " rows"], *, penalty: float = 1.0
) -> tuple[Float[Tensor, "columns 1"], Float[Tensor, " 1"]]:
    """Weights and bias of logistic regression: the least Σ loss + penalty/2 · |weights|².

    By L-BFGS (Liu and Nocedal, 1989). `features` are rows of numbers, dense or sparse.
    """
    weights = torch.zeros(features.shape[1], 1, requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = (features @ weights + bias)[:, 0]
        loss = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum")
        loss = loss + penalty / 2 * (weights**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach(), bias.detach()


@torch.no_grad()
def minilm_features(texts: Sequence[str]) -> Float[Tensor, "texts 384"]:
    """The mean hidden state of each text in all-MiniLM-L6-v2, as that model was trained to be read.

    Raises `ModuleNotFoundError`, with the command that installs it, if its package is missing.
    """
    model, tokenizer = load("all-MiniLM-L6-v2")
    encoded = [each.ids for each in tokenizer.encode_batch(list(texts))]
    features = torch.empty(len(texts), model.config.hidden_size)
    order = sorted(range(len(texts)), key=lambda index: len(encoded[index]))
    for first in range(0, len(order), 64):
        chosen = order[first : first + 64]
        ids, lengths = pad_sequences([encoded[index] for index in chosen])
        hidden = model(ids, mask=padding(lengths, ids.shape[1]))
        features[chosen] = mean_of_words(hidden, lengths)
    return features


def judge_linear(
    train_features: Tensor,
    test_features: Tensor,
    train_side: Sequence[Review],
    test_side: Sequence[Review],
    *,
    labels: int = 0,
) -> dict[str, object]:
    """The accuracy of a linear classifier: with all labels once, with `labels` for each seed."""
    wanted, truth = (
        torch.tensor([int(each.fresh) for each in side]) for side in (train_side, test_side)
    )
    values = []
    for seed in SEEDS if labels else SEEDS[:1]:
        chosen = torch.tensor(drawn(len(wanted), labels, seed))
        weights, bias = fit_logistic(train_features.index_select(0, chosen), wanted[chosen])
        guesses = (test_features @ weights + bias)[:, 0] > 0
        values.append(round((guesses == truth).float().mean().item(), 4))
    return accuracy_of_seeds(values)


def judge_baselines(
    labels: Sequence[int] = (0, 1000), frozen_labels: Sequence[int] = (1000,)
) -> dict[str, object]:
    """Both classifiers with so many labels, 0 for all; printed and returned.

    Most of the time goes to MiniLM's reading: it reads what it needs of the reviews and no more.
    """
    began = time.process_time()
    train_side, test_side = split_by_film(read_reviews())
    texts = [[each.text for each in side] for side in (train_side, test_side)]
    words = [tf_idf(texts[0], side) for side in texts]
    accuracy: dict[str, dict[str, object]] = {"tf-idf": {}, "frozen MiniLM": {}}
    for count in labels:
        judged = judge_linear(*words, train_side, test_side, labels=count)
        accuracy["tf-idf"][str(count or len(train_side))] = judged
    needed = sorted(
        {row for n in frozen_labels for seed in SEEDS for row in drawn(len(train_side), n, seed)}
    )
    vectors = torch.zeros(len(train_side), 384)
    vectors[needed] = minilm_features([texts[0][row] for row in needed])
    frozen = vectors, minilm_features(texts[1])
    for count in frozen_labels:
        judged = judge_linear(*frozen, train_side, test_side, labels=count)
        accuracy["frozen MiniLM"][str(count or len(train_side))] = judged
    return {
        "test_reviews": len(test_side),
        "cpu_seconds": round(time.process_time() - began, 1),
        "accuracy": accuracy,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: judge, print, and write it all to a file if asked to."""
    parser = argparse.ArgumentParser(prog="python -m lib.training.baselines", description=__doc__)
    parser.add_argument("--labels", type=int, nargs="+", default=(0, 1000))
    parser.add_argument("--frozen-labels", type=int, nargs="+", default=(1000,))
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there")
    options = parser.parse_args(arguments)
    try:
        results = judge_baselines(options.labels, options.frozen_labels)
    except ModuleNotFoundError as missing:
        parser.exit(1, f"{missing}\n")
    print_accuracies(results["accuracy"])
    if options.json:
        command = sys.argv[1:] if arguments is None else arguments
        write_json({**run_conditions("baselines", command), **results}, options.json)


if __name__ == "__main__":
    main()
