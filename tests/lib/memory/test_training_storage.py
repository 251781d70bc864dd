"""What training holds, against what it holds: parameters, gradients, states, saved tensors."""

from fractions import Fraction
from functools import partial

import pytest
import sympy
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.memory import EXERCISE_7B, ModelShape
from lib.memory.parameters import num_parameters
from lib.memory.training_storage import (
    OPTIMIZERS,
    eight_bit_state_bytes,
    kept_activations,
    lm_head_bytes,
    lora_parameters,
    model_state_bytes,
    training_bytes,
    training_fit,
)
from lib.models import Gpt2
from lib.models.configs import GptConfig
from lib.training import LAMB, SGD, Adam, Adam8bit, AdamW, Float16, add_lora, recompute_layers
from tests.lib.training.saved_tensors import storages_kept, total_bytes

MAKERS = {
    "sgd": partial(SGD, lr=0.1),
    "momentum": partial(SGD, lr=0.1, momentum=0.9),
    "adam": Adam,
    "adamw": AdamW,
    "lamb": LAMB,
}


def gpt2(num_layers=2, heads=2, head_dim=4, wide=24, vocab=11):
    torch.manual_seed(0)
    config = GptConfig(
        vocab_size=vocab,
        hidden_size=heads * head_dim,
        num_layers=num_layers,
        num_attention_heads=heads,
        intermediate_size=wide,
        max_positions=16,
        dropout=0.0,
    )
    shape = ModelShape(
        num_layers=num_layers,
        hidden_size=heads * head_dim,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_dim,
        intermediate_size=wide,
        vocab_size=vocab,
    )
    return Gpt2(config), shape


def loss(model, ids):
    return F.cross_entropy(model(ids).flatten(0, 1).float(), ids.roll(-1, 1).flatten())


def bytes_of(tensors):
    return sum(each.nbytes for each in tensors if isinstance(each, torch.Tensor))


def states_of(optimizer):
    return bytes_of(value for state in optimizer.state.values() for value in state.values())


def ids_of(batch_size, seq_len, vocab=11):
    return torch.arange(batch_size * seq_len).view(batch_size, -1) % vocab


@pytest.mark.parametrize("optimizer", MAKERS)
def test_float32_states(optimizer):
    model, _ = gpt2()
    trained = list(model.parameters())
    made = MAKERS[optimizer](trained)
    loss(model, ids_of(2, 5)).backward()
    made.step()
    parts = model_state_bytes(
        num_parameters(model.config), precision="float32", optimizer=optimizer
    )
    assert parts["weights"] == bytes_of(trained)
    assert parts["gradients"] == bytes_of(each.grad for each in trained)
    assert parts.get("optimizer states", 0) == states_of(made)
    assert "master weights" not in parts


def test_mixed_states_are_16_bytes_a_parameter():
    """At the end of the backward pass. In the update the activations have gone, and float32
    gradients stand beside the masters."""
    model, _ = gpt2()
    precision = Float16(model)
    optimizer = AdamW(precision.masters)
    trained = list(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        loss(model, ids_of(2, 5)).backward()
        held = {
            "weights": bytes_of(trained),
            "gradients": bytes_of(each.grad for each in trained),
            "master weights": bytes_of(precision.masters),
            "optimizer states": states_of(optimizer),
        }
        assert all(master.grad is None for master in precision.masters)
        assert precision.collect_gradients() and all(each.grad is None for each in trained)
        optimizer.step()
    count = num_parameters(model.config)
    assert held == model_state_bytes(count) and sum(held.values()) == 16 * count


def test_eight_bit_states():
    model, _ = gpt2(wide=600, heads=3, head_dim=3)
    optimizer = Adam8bit(model.parameters())
    loss(model, ids_of(1, 4)).backward()
    optimizer.step()
    sizes = [each.numel() for each in model.parameters()]
    assert states_of(optimizer) == sum(map(eight_bit_state_bytes, sizes))
    assert any(size >= 4096 and size % 2048 for size in sizes) and min(sizes) < 4096
    numel = 2048 * 7
    average = model_state_bytes(numel, optimizer="adam8bit")["optimizer states"]
    assert average == eight_bit_state_bytes(numel) == 2 * (numel + 28)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("names", [("query", "value"), ("query", "key", "value", "output", "up")])
def test_lora(rank, names):
    model, shape = gpt2()
    frozen = bytes_of(model.parameters())
    add_lora(model, names, rank=rank, generator=torch.Generator().manual_seed(0))
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = AdamW(trained)
    loss(model, ids_of(2, 5)).backward()
    optimizer.step()
    assert lora_parameters(shape, rank=rank, names=names) == sum(p.numel() for p in trained)
    parts = training_bytes(
        shape,
        batch_size=2,
        seq_len=5,
        precision="float32",
        num_parameters=num_parameters(model.config),
        lora_rank=rank,
        lora_names=names,
    )
    assert parts["frozen weights"] == frozen
    assert parts["gradients"] == bytes_of(each.grad for each in model.parameters())
    assert parts["optimizer states"] == states_of(optimizer)


small = st.integers(1, 3)


@given(small, small, st.integers(1, 4), st.integers(1, 6), st.integers(1, 30), st.integers(2, 40))
@settings(max_examples=12)
def test_what_the_forward_pass_keeps(layers, batch_size, heads, seq_len, wide, vocab):
    """The formula, and what it leaves out: ids, twice, positions, and how many were counted."""
    model, shape = gpt2(layers, heads, 2, wide, vocab)
    ids = ids_of(batch_size, seq_len, vocab)
    with storages_kept(model) as kept:
        loss(model, ids)
    sizes = {"batch_size": batch_size, "seq_len": seq_len, "bytes_per_element": 4}
    head = lm_head_bytes(shape, **sizes)
    expected = sum(kept_activations(shape, **sizes).values())
    expected += head["final norm and head"] + head["log-probabilities"]
    assert total_bytes(kept) == expected + 2 * ids.nbytes + 8 * seq_len + 4


@pytest.mark.parametrize("every", [1, 2, 3, 4, 5, 9])
def test_recomputed_segments(every):
    """After the forward pass each segment's input; then one segment at a time, the last one first.

    Five layers in segments of two leave a last one of one layer: the largest comes later.
    """
    model, shape = gpt2(num_layers=5)
    recompute_layers(model.layers, every=every)
    hidden = torch.randn(2, 7, shape.hidden_size, requires_grad=True)
    sizes = {"batch_size": 2, "seq_len": 7, "bytes_per_element": 4}
    plain = kept_activations(shape, **sizes)["activations"]
    parts = kept_activations(shape, **sizes, recompute_every=every)
    with storages_kept(model) as kept:
        for layer in model.layers:
            hidden = layer(hidden, is_causal=True)
        assert total_bytes(kept) == parts["segments' inputs"]
        inputs = set(kept)
        hidden.sum().backward()
        recomputed = total_bytes(kept) - parts["segments' inputs"]
    assert recomputed == plain - parts["segments' inputs"]
    if every >= 5 or 5 % every == 0:
        segments = len(inputs)
        assert recomputed == segments * parts["one segment's activations"]


def test_a_whole_segment_is_the_most_there_is():
    _, shape = gpt2(num_layers=4)
    sizes = {"batch_size": 3, "seq_len": 6, "bytes_per_element": 4}
    plain = kept_activations(shape, **sizes)["activations"]
    needed = [sum(kept_activations(shape, **sizes, recompute_every=k).values()) for k in (1, 2, 4)]
    assert needed[2] == plain and min(needed) < plain / 1.5


def test_accumulation_and_recomputation_change_activations_alone():
    sizes = {"batch_size": 32, "seq_len": 2048}
    whole = training_bytes(EXERCISE_7B, **sizes)
    split = training_bytes(EXERCISE_7B, **sizes, accumulation=8)
    for name in whole:
        grows = name in ("activations", "final norm and head", "log-probabilities")
        grows |= name == "gradient of the logits"
        assert split[name] == (whole[name] // 8 if grows else whole[name])
    again = training_bytes(EXERCISE_7B, **sizes, recompute_every=1)
    assert again["segments' inputs"] == 2 * 32 * 32 * 2048 * 4096
    assert again["weights"] == whole["weights"]


def test_the_papers_numbers():
    """16 bytes a parameter; 34 b t d + 5 a b t² a layer and the norms' statistics beside it."""
    parts = training_bytes(EXERCISE_7B, batch_size=1, seq_len=4096, dropout=True, fused=False)
    states = ("weights", "gradients", "master weights", "optimizer states")
    assert sum(parts[name] for name in states) == 16 * EXERCISE_7B.num_parameters
    t, d, a = 4096, 4096, 32
    assert parts["activations"] == 32 * (34 * t * d + 5 * a * t**2 + 16 * t)


def test_with_symbols_it_is_a_formula():
    names = "num_layers hidden_size num_attention_heads head_dim intermediate_size vocab_size"
    L, d, a, h, f, V, b, t, k, m, r = symbols = sympy.symbols(
        "L d a h f V b t k m r", positive=True, integer=True
    )
    sizes = dict(zip(names.split(), (L, d, a, h, f, V), strict=True))
    shape = ModelShape(**sizes, num_key_value_heads=a)
    options = {"batch_size": b, "seq_len": t, "accumulation": m}
    formula = training_bytes(shape, **options, recompute_every=k, lora_rank=r)
    numbers = dict(zip(symbols, (5, 12, 3, 4, 48, 50, 8, 10, 2, 4, 2), strict=True))
    known = ModelShape(**{n: numbers[s] for n, s in sizes.items()}, num_key_value_heads=3)
    expected = training_bytes(
        known, batch_size=8, seq_len=10, accumulation=4, recompute_every=2, lora_rank=2
    )
    assert {name: size.subs(numbers) for name, size in formula.items()} == expected
    states = model_state_bytes(d, optimizer="adam8bit")
    assert sum(states.values()) == d * (10 + Fraction(8, 2048))


def test_why_it_fits_or_does_not():
    memory = 80 * 10**9
    parts = training_bytes(EXERCISE_7B, batch_size=8, seq_len=4096)
    full = training_fit(parts, memory)
    assert not full.fits and full.largest == "activations"
    assert full.needed == sum(parts.values())
    assert str(full).startswith("does not fit, ") and str(full).endswith("for activations")
    small_batch = training_fit(training_bytes(EXERCISE_7B, batch_size=1, seq_len=128), memory)
    assert small_batch.largest == "optimizer states" and not small_batch.fits
    lora = training_bytes(EXERCISE_7B, batch_size=1, seq_len=2048, recompute_every=4, lora_rank=8)
    fitting = training_fit(lora, memory)
    assert fitting.fits and fitting.largest == "frozen weights"
    assert str(fitting).startswith("fits, ")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model_state_bytes(5, precision="int3"), "float32, mixed, got 'int3'"),
        (lambda: model_state_bytes(5, optimizer="sofia"), "sgd, momentum, .* got 'sofia'"),
        (
            lambda: training_bytes(EXERCISE_7B, batch_size=6, seq_len=2, accumulation=4),
            "accumulation must divide batch_size",
        ),
        (
            lambda: training_bytes(EXERCISE_7B, batch_size=1, seq_len=2, recompute_every=0),
            "recompute_every must be a positive whole number",
        ),
        (
            lambda: lora_parameters(EXERCISE_7B, rank=4, names=("gate",)),
            r"names must be some of query, .* got \('gate',\)",
        ),
        (lambda: lora_parameters(EXERCISE_7B, rank=0), "rank must be a positive whole number"),
        (lambda: eight_bit_state_bytes(0), "numel must be a positive whole number"),
        (lambda: training_fit({"weights": 3}, 0), "memory_bytes must be a number above zero"),
        (lambda: training_fit({"weights": sympy.Symbol("n")}, 9), r"symbols in \['weights'\]"),
        (lambda: training_fit({}, 9), "at least one"),
    ],
)
def test_what_has_no_answer(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_optimizer_has_its_states():
    assert set(OPTIMIZERS) == {*MAKERS, "adam8bit"}
