"""Each optimizer against torch's, or for LAMB against its paper's formula in NumPy."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.training import LAMB, SGD, Adam, AdamW, decay_groups

KINDS = {
    "sgd": (SGD, torch.optim.SGD, {"lr": 0.1}),
    "sgd with decay": (SGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}),
    "momentum": (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    "adam": (Adam, torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.95)}),
    "adam with decay": (Adam, torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "adamw": (AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-6}),
    "adamw, defaults": (AdamW, torch.optim.AdamW, {}),
}
OURS = {name: partial(ours, **options) for name, (ours, _, options) in KINDS.items()}
OURS["lamb"] = partial(LAMB, lr=0.01)


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)


def descend(model, optimizer, steps, seed=1):
    """Steps on random batches; the parameters afterwards."""
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    for _ in range(steps):
        inputs = torch.randn(4, 5, generator=generator).to(dtype)
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()
    return [each.detach().clone() for each in model.parameters()]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_torchs(kind):
    ours, theirs, options = KINDS[kind]
    model, other = network(), network()
    mine = descend(model, ours(model.parameters(), **options), 25)
    its = descend(other, theirs(other.parameters(), **options), 25)
    for one, two, start in zip(mine, its, network().parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)
        assert (one - start).abs().max() > 1e-3


@given(st.floats(0, 0.99), st.floats(0, 0.999), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=20)
def test_adamw_with_any_constants(beta1, beta2, decay, seed):
    options = {"lr": 0.02, "betas": (beta1, beta2), "weight_decay": decay}
    model, other = network(), network()
    mine = descend(model, AdamW(model.parameters(), **options), 3, seed)
    its = descend(other, torch.optim.AdamW(other.parameters(), **options), 3, seed)
    torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-11)


def lamb_by_the_paper(weights, gradients, lr, beta1, beta2, eps, decay):
    """Algorithm 2 of You et al. (2020), one tensor, in NumPy."""
    x, m, v = weights.copy(), np.zeros_like(weights), np.zeros_like(weights)
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        r = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        u = r + decay * x
        x = x - lr * np.sqrt((x**2).sum()) / np.sqrt((u**2).sum()) * u
    return x


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_lamb_is_the_papers_algorithm(decay):
    generator = np.random.default_rng(0)
    weights, gradients = generator.normal(size=(4, 6)), generator.normal(size=(9, 4, 6))
    parameter = nn.Parameter(torch.from_numpy(weights.copy()))
    optimizer = LAMB([parameter], lr=0.05, betas=(0.8, 0.9), eps=1e-6, weight_decay=decay)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    expected = lamb_by_the_paper(weights, gradients, 0.05, 0.8, 0.9, 1e-6, decay)
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-12)


def test_a_step_of_lamb_is_a_fraction_of_the_norm():
    for size in (1e-3, 1e3):
        parameter = nn.Parameter(size * torch.ones(5, 5, dtype=torch.float64))
        before = parameter.detach().clone()
        parameter.grad = torch.randn(5, 5, dtype=torch.float64)
        LAMB([parameter], lr=0.02).step()
        step = (parameter - before).norm() / before.norm()
        assert step.item() == pytest.approx(0.02, rel=1e-9)


def test_lamb_moves_weights_that_are_zero_and_leaves_those_without_gradient():
    zero = nn.Parameter(torch.zeros(3))
    zero.grad = torch.ones(3)
    still = nn.Parameter(torch.ones(3))
    still.grad = torch.zeros(3)
    LAMB([zero, still], lr=0.1, weight_decay=0.0).step()
    torch.testing.assert_close(zero.detach(), torch.full((3,), -0.1))
    assert torch.equal(still.detach(), torch.ones(3))


@pytest.mark.parametrize("kind", OURS)
def test_states_survive_a_file(kind, tmp_path):
    model = network(torch.float32)
    optimizer = OURS[kind](model.parameters())
    descend(model, optimizer, 4)
    torch.save(optimizer.state_dict(), tmp_path / "states.pt")
    other = copy.deepcopy(model)
    resumed = OURS[kind](other.parameters())
    resumed.load_state_dict(torch.load(tmp_path / "states.pt", weights_only=True))
    for one, two in zip(descend(model, optimizer, 4), descend(other, resumed, 4), strict=True):
        assert torch.equal(one, two)


def test_a_loaded_state_is_a_copy():
    model = network()
    optimizer = Adam(model.parameters())
    descend(model, optimizer, 1)
    saved = copy.deepcopy(optimizer.state_dict())
    first, second = Adam(network().parameters()), Adam(network().parameters())
    first.load_state_dict(saved)
    second.load_state_dict(saved)
    first.state[first.param_groups[0]["params"][0]]["mean"].zero_()
    kept = second.state[second.param_groups[0]["params"][0]]["mean"]
    assert kept.abs().max() > 0


@pytest.mark.parametrize("kind", ["adam", "adamw", "lamb"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_moments_of_narrow_weights_are_wide(kind, dtype):
    model = network(dtype)
    optimizer = OURS[kind](model.parameters())
    descend(model, optimizer, 2)
    again = OURS[kind](model.parameters())
    again.load_state_dict(optimizer.state_dict())
    for each in (optimizer, again):
        states = list(each.state.values())
        assert len(states) == 4
        assert {state[name].dtype for state in states for name in ("mean", "square")} == {
            torch.float32
        }
    assert {each.dtype for each in model.parameters()} == {dtype}


def test_parameters_without_gradient_stay_and_cost_nothing():
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = AdamW(model.parameters(), weight_decay=0.5)
    descend(model, optimizer, 2)
    assert torch.equal(model[0].weight, before)
    assert len(optimizer.state) == 2


def test_matrices_decay_and_gains_do_not():
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    model[0].weight.requires_grad_(False)
    model.append(nn.Linear(2, 2, bias=False))
    groups = decay_groups(model, weight_decay=0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert groups[0]["params"] == [model[2].weight]
    assert [id(each) for each in groups[1]["params"]] == [
        id(each) for each in (model[0].bias, model[1].weight, model[1].bias)
    ]
    assert len(AdamW(groups).param_groups) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: SGD(p, -0.1), "lr must be a number, 0 or more, got -0.1"),
        (lambda p: SGD(p, 0.1, momentum=1.0), "momentum must be at least 0 and below 1, got 1.0"),
        (lambda p: SGD(p, 0.1, nesterov=True), "nesterov needs a momentum above 0"),
        (lambda p: Adam(p, betas=(0.9, 1.0)), r"both betas .* got \(0.9, 1.0\)"),
        (lambda p: AdamW(p, weight_decay=-1.0), "weight_decay must be a number, 0 or more"),
        (lambda p: LAMB(p, eps=-1e-8), "eps must be a number, 0 or more, got -1e-08"),
    ],
)
def test_impossible_constants(make, message):
    with pytest.raises(ValueError, match=message):
        make([nn.Parameter(torch.ones(2))])
