"""Recomputed segments: the same gradients, fewer bytes."""

import pytest
import torch
import torch.nn.functional as F

from lib.models import T5, Bert, Llama
from lib.models.configs import BertConfig, LlamaConfig, T5Config
from lib.training import autocast_loss, keep_activations, recompute_layers, train
from tests.lib.training.saved_tensors import storages_kept, total_bytes
from tests.lib.training.toy_run import counting_loss, new_run, small_gpt2, weights

SIZES = {"vocab_size": 16, "hidden_size": 12, "num_layers": 3, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 20}


def bert():
    return Bert(BertConfig(**SIZES, max_positions=8))


def llama():
    return Llama(LlamaConfig(**SIZES, num_key_value_heads=1, dropout=0.1))


def t5():
    return T5(T5Config(**SIZES, head_dim=6, num_buckets=8))


def gpt2():
    return small_gpt2(num_layers=5)


STACKS = {
    "bert": (bert, lambda model: [model.layers]),
    "gpt2": (gpt2, lambda model: [model.layers]),
    "llama": (llama, lambda model: [model.layers]),
    "t5": (t5, lambda model: [model.encoder.layers, model.decoder.layers]),
}


def output(model, ids):
    return model(ids, ids.flip(1)) if isinstance(model, T5) else model(ids)


def gradients(model, dtype=None):
    """Of a random function of the output, with dropout, after the same seed."""
    model.zero_grad()
    torch.manual_seed(1)
    ids = torch.randint(16, (3, 8))
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        out = output(model, ids)
    random_after = torch.rand(())
    (out.float() * torch.randn(out.shape)).sum().backward()
    return out, random_after, [each.grad for each in model.parameters()]


@pytest.mark.parametrize("every", [1, 2, 9])
@pytest.mark.parametrize("name", STACKS)
def test_the_same_gradients(name, every):
    """With dropout, T5's shared bias, cross-attention and rotated queries."""
    torch.manual_seed(0)
    make, stacks = STACKS[name]
    model = make().train()
    before = set(model.state_dict())
    expected, after, expected_gradients = gradients(model)
    for layers in stacks(model):
        recompute_layers(layers, every=every)
    out, random_after, found = gradients(model)
    assert torch.equal(out, expected) and random_after == after
    torch.testing.assert_close(found, expected_gradients, rtol=1e-5, atol=1e-6)
    assert set(model.state_dict()) == before
    for layers in stacks(model):
        keep_activations(layers)
    assert all(
        torch.equal(a, b) for a, b in zip(gradients(model)[2], expected_gradients, strict=True)
    )


def test_the_second_run_is_in_the_first_ones_type():
    torch.manual_seed(0)
    model = gpt2()
    _, _, expected = gradients(model, torch.bfloat16)
    recompute_layers(model.layers, every=2)
    _, _, found = gradients(model, torch.bfloat16)
    _, _, wide = gradients(model)
    rounding, mistake = ((a[2] - b[2]).norm() for a, b in ((found, expected), (wide, expected)))
    assert rounding < mistake / 10


def test_random_numbers_drawn_after_the_backward_pass_are_the_same_too():
    plain, recomputed = new_run(num_layers=3), new_run(num_layers=3)
    torch.manual_seed(0)
    train(plain, counting_loss, steps=2)
    recompute_layers(recomputed.model.layers, every=2)
    torch.manual_seed(0)
    train(recomputed, counting_loss, steps=2)
    torch.testing.assert_close(weights(recomputed), weights(plain), rtol=1e-4, atol=1e-5)


def test_frozen_layers_pass_gradients_on():
    model = gpt2().eval()
    model.layers[1:].requires_grad_(False)
    expected = gradients(model)[2]
    recompute_layers(model.layers, every=2)
    found = gradients(model)[2]
    assert [each is None for each in found] == [each is None for each in expected]
    for one, two in zip(found, expected, strict=True):
        if one is not None:
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_changing_ones_mind():
    """The second call counts, not both."""
    model = gpt2().eval()
    ids = torch.randint(16, (2, 8))
    kept = {}
    for every in (None, 1, 5, 1):
        if every:
            recompute_layers(model.layers, every=every)
        with storages_kept(model) as storages:
            F.cross_entropy(model(ids).mT, ids)
        kept.setdefault(every, []).append(total_bytes(storages))
    assert kept[1][0] == kept[1][1] > kept[5][0]
    assert kept[None][0] > 2 * kept[1][0]


def test_segments_of_nothing():
    with pytest.raises(ValueError, match="every must be a positive whole number"):
        recompute_layers(gpt2().layers, every=0)


def test_bfloat16_trains_and_keeps_float32_weights():
    run = new_run()
    curve = train(run, autocast_loss(counting_loss), steps=30, schedule=lambda step: 1e-2)
    assert {each.dtype for each in run.model.parameters()} == {torch.float32}
    exact = new_run()
    expected = train(exact, counting_loss, steps=1, schedule=lambda step: 1e-2)
    assert curve[0].loss == pytest.approx(expected[0].loss, rel=1e-2)
    assert curve[0].gradient_norm != expected[0].gradient_norm
    assert curve[-1].loss < 0.7 * curve[0].loss
