"""LoRA: nothing changes at first, only A and B learn, and merging changes nothing again."""

import pytest
import torch
from torch import nn

from lib.training import AdamW, TrainingRun, add_lora, merge_lora, train, unmerge_lora
from lib.training.lora import LoraLinear, lora_state
from tests.lib.training.toy_run import counting_loss, new_run, small_gpt2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def adapted(**options):
    model = small_gpt2(dropout=0.0, num_layers=2).double()
    options = {"rank": 2, "generator": seeded()} | options
    return model, add_lora(model, **options)


def trained():
    model, paths = adapted(alpha=8.0)
    batches = new_run().batches
    run = TrainingRun(
        model, AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02), batches
    )
    curve = train(run, counting_loss, steps=40)
    return model, paths, curve


IDS = torch.arange(8)[None]


def test_at_first_nothing_has_changed():
    model, paths = adapted()
    assert torch.equal(model(IDS), small_gpt2(dropout=0.0, num_layers=2).double()(IDS))
    assert len(paths) == 4 and paths[0] == "layers.0.self_attention.sublayer.query"


def test_it_computes_the_formula():
    linear = nn.Linear(5, 4).double()
    lora = LoraLinear(linear, 3, alpha=6.0, generator=seeded())
    with torch.no_grad():
        lora.up.normal_(generator=seeded(1))
    x = torch.randn(2, 5, dtype=torch.float64)
    expected = x @ linear.weight.T + linear.bias + 6 / 3 * x @ lora.down.T @ lora.up.T
    torch.testing.assert_close(lora(x), expected)
    assert torch.linalg.matrix_rank(lora.difference()) == 3


def test_only_a_and_b_learn():
    model, paths, curve = trained()
    assert curve[-1].loss < curve[0].loss - 0.05
    start = small_gpt2(dropout=0.0, num_layers=2).double().state_dict()
    state = model.state_dict()
    learned = lora_state(model)
    assert len(learned) == 2 * len(paths)
    for name, value in state.items():
        if name not in learned:
            assert torch.equal(value, start[name.replace(".linear.", ".")])
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(learned)
    assert all(value.abs().max() > 0 for value in learned.values())


def test_merged_it_computes_the_same_and_unmerged_again():
    model, _, _ = trained()
    with torch.no_grad():
        expected = model(IDS)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        merged = merge_lora(model)
        assert not any(isinstance(each, LoraLinear) for each in model.modules())
        assert set(model.state_dict()) == set(small_gpt2(num_layers=2).state_dict())
        torch.testing.assert_close(model(IDS), expected, rtol=1e-12, atol=1e-12)
        unmerge_lora(model, merged)
        torch.testing.assert_close(model(IDS), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=1e-12, atol=1e-14)


def test_what_is_chosen_by_name():
    model, paths = adapted(names=("up",), rank=3)
    assert paths == ["layers.0.feed_forward.sublayer.up", "layers.1.feed_forward.sublayer.up"]
    assert model.get_submodule(paths[1]).down.shape == (3, 16)
    assert model.get_submodule(paths[1]).up.shape == (32, 3)


def test_the_generator_decides_a():
    one, two, other = (adapted(generator=seeded(seed))[0] for seed in (0, 0, 1))
    find = lambda model: lora_state(model)["layers.0.self_attention.sublayer.query.down"]  # noqa: E731
    assert torch.equal(find(one), find(two)) and not torch.equal(find(one), find(other))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be a positive whole number"),
        ({"rank": 17}, "rank must be at most 16, the smaller side of this 16 x 16 matrix, got 17"),
        ({"rank": 2, "alpha": -1.0}, "alpha must be a number above zero"),
        ({"names": ("q_proj",)}, "no linear map whose name ends in q_proj"),
    ],
)
def test_what_cannot_be_adapted(options, message):
    with pytest.raises(ValueError, match=message):
        adapted(**options)
