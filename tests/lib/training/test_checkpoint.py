"""A run as a file: resumed bit for bit, written whole or not at all."""

import resource
from functools import partial

import pytest
import torch

from lib.training import (
    LAMB,
    SGD,
    Adam,
    AdamW,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
    train,
    warmup_cosine,
)
from tests.lib.training.toy_run import count_targets, counting_loss, new_run, weights

train = partial(
    train,
    loss=counting_loss,
    count=count_targets,
    schedule=partial(warmup_cosine, peak=3e-3, warmup_steps=2, total_steps=6),
)

CASES = [(SGD, 1), (partial(SGD, momentum=0.9), 1), (Adam, 1), (AdamW, 3), (LAMB, 1)]


@pytest.mark.parametrize(("make_optimizer", "accumulation"), CASES)
def test_a_resumed_run_is_the_run_that_was_not_interrupted(tmp_path, make_optimizer, accumulation):
    """With dropout, in the middle of a pass, and in the middle of the schedule."""
    whole = new_run(make_optimizer)
    train(whole, steps=6, accumulation=accumulation)

    path = tmp_path / "run.pt"
    train(new_run(make_optimizer), steps=4, accumulation=accumulation, checkpoint=path)
    torch.manual_seed(99)
    resumed = new_run(make_optimizer, seed=5)
    load_checkpoint(resumed, path)
    assert resumed.step == 4
    train(resumed, steps=6, accumulation=accumulation)

    assert resumed.curve == whole.curve
    for one, two in zip(weights(resumed), weights(whole), strict=True):
        assert torch.equal(one, two)


def test_dropout_matters_to_that_test():
    """Another state of torch's generator gives other weights."""
    one, two = new_run(), new_run()
    train(one, steps=2)
    torch.manual_seed(1)
    train(two, steps=2)
    assert not torch.equal(weights(one)[0], weights(two)[0])


def test_when_it_is_saved(tmp_path):
    path, seen = tmp_path / "run.pt", []

    def look(record, steps):
        seen.append(read_checkpoint(path)["run"]["step"] if path.exists() else 0)

    train(new_run(), steps=8, checkpoint=path, checkpoint_every=3, progress=look)
    assert seen == [0, 0, 0, 3, 3, 3, 6, 6]
    assert read_checkpoint(path)["run"]["step"] == 8
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.pt"]


@pytest.fixture
def small_disk():
    """Files of this process can grow to so many bytes and no further, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 20_000])
def test_a_full_disk_leaves_the_old_file(tmp_path, small_disk, room):
    run, path = new_run(), tmp_path / "run.pt"
    train(run, steps=2, checkpoint=path)
    before = path.read_bytes()
    assert len(before) > 20_000
    small_disk(room)
    with pytest.raises(OSError) as stopped:
        train(run, steps=4, checkpoint=path)
    assert "was not written: what it held before, it still holds" in stopped.value.__notes__[0]
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    assert run.step == 4


def test_interrupted_while_writing(tmp_path, monkeypatch):
    run, path = new_run(), tmp_path / "run.pt"
    save_checkpoint(run, path)
    before = path.read_bytes()

    def half(self, content):
        with open(self, "wb") as file:
            file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(type(path), "write_bytes", half)
    train(run, steps=1)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(run, path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "another"])
def test_what_is_no_checkpoint(tmp_path, damage):
    run, path = new_run(), tmp_path / "run.pt"
    save_checkpoint(run, path)
    whole = path.read_bytes()
    if damage == "another":
        torch.save({"weights": torch.ones(2)}, path)
    else:
        path.write_bytes(
            {"cut": whole[: len(whole) // 2], "text": b"not one", "empty": b""}[damage]
        )
    with pytest.raises(ValueError, match=r"run\.pt is not (a|the) checkpoint"):
        load_checkpoint(run, path)


def test_another_models_checkpoint_changes_nothing(tmp_path):
    path = tmp_path / "run.pt"
    train(new_run(intermediate_size=24), steps=2, checkpoint=path)
    run, before = new_run(), weights(new_run())
    place = run.place()
    with pytest.raises(ValueError, match=r"of another model: .*up\.weight|down\.weight|up\.bias"):
        load_checkpoint(run, path)
    assert all(torch.equal(a, b) for a, b in zip(weights(run), before, strict=True))
    assert run.step == 0 and torch.equal(run.place()["generator"], place["generator"])


def test_a_missing_file_is_reported_as_such(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(new_run(), tmp_path / "none.pt")
