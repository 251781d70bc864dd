"""Moments in 8 bits: how far they are off, how much they weigh, and that Adam stays Adam."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.training import Adam8bit, AdamW, dequantise_blocks, quantise_blocks
from lib.training.eight_bit import dynamic_code


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("signed", [True, False])
def test_the_code(signed):
    code = dynamic_code(signed=signed)
    assert len(code) == 256 == len(code.unique()) and torch.equal(code, code.sort().values)
    assert code.max() == 1 and 0 in code
    positive = code[(code > 0) & (code < 1)]
    decades = [
        int(((positive > 10.0 ** (i - 7)) & (positive < 10.0 ** (i - 6))).sum()) for i in range(7)
    ]
    assert decades == [2**i if signed else 2 ** (i + 1) for i in range(7)]
    if signed:
        assert set((-positive).tolist()) == set(code[code < 0].tolist())
    else:
        assert code.min() == 0


def spread(shape, seed, signed):
    """Numbers of very different sizes, some of them zero."""
    generator = seeded(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x *= 10 ** (6 * torch.rand(shape, generator=generator, dtype=torch.float64) - 6)
    x[torch.rand(shape, generator=generator) < 0.1] = 0
    return (x if signed else x.abs()).float()


@given(st.integers(1, 700), st.sampled_from([1, 64, 256]), st.booleans(), st.integers(0, 99))
@settings(max_examples=60)
def test_each_number_becomes_the_nearest_of_its_block(size, block_size, signed, seed):
    """Against a search through all 256 values, one number at a time."""
    x = spread((size,), seed, signed)
    places, largest = quantise_blocks(x, signed=signed, block_size=block_size)
    assert places.dtype == torch.uint8 and len(largest) == -(-size // block_size)
    back = dequantise_blocks(places, largest, signed=signed, block_size=block_size)
    code = dynamic_code(signed=signed)
    for start, top in zip(range(0, size, block_size), largest, strict=True):
        block, found = x[start : start + block_size], back[start : start + block_size]
        assert top == block.abs().max()
        best = (block[:, None] - top * code).abs().min(dim=1).values
        error = (block - found).abs()
        assert (error <= best + 1e-6 * top * (1 + (not signed))).all()
        # Half a cell of the highest decade, 0.9 / 64 wide with a sign and 0.9 / 128 without.
        assert (error <= top * 0.9 / (128 if signed else 256) * 1.0001).all()


@given(st.integers(0, 999))
@settings(max_examples=20)
def test_relative_errors_grow_by_the_decade(seed):
    """Half a cell over the smallest number of decade i: 0.45 / 2^i over 0.1."""
    x = spread((512,), seed, signed=True)
    x[0] = 1.0
    back = dequantise_blocks(*quantise_blocks(x, signed=True), signed=True)
    for i in range(1, 7):
        within = (x.abs() > 10.0 ** (i - 7)) & (x.abs() <= 10.0 ** (i - 6))
        error = (x - back).abs()[within] / x.abs()[within]
        assert (error <= 4.5 / 2**i * 1.001).all()


def test_squares_above_zero_stay_above_zero_and_zero_stays_zero():
    x = torch.tensor([1.0, 1e-12, 0.0, 1e-30])
    back = dequantise_blocks(*quantise_blocks(x, signed=False), signed=False)
    assert back[1] > 0 and back[3] > 0 and back[2] == 0
    nothing = torch.zeros(3, 4)
    assert torch.equal(
        dequantise_blocks(*quantise_blocks(nothing, signed=True), signed=True), nothing
    )


def test_an_outlier_spoils_its_own_block_alone():
    x = torch.full((512,), 0.01)
    x[0] = 1e6
    places, largest = quantise_blocks(x, signed=True, block_size=256)
    back = dequantise_blocks(places, largest, signed=True, block_size=256)
    assert (back[1:256] == 0).all() and torch.equal(back[256:], x[256:])


def regression(optimizer_class, steps=150, **options):
    """The loss of a small network after training, and its optimizer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 8))
    inputs = torch.randn(256, 16, generator=seeded(1))
    targets = torch.sin(inputs @ torch.randn(16, 8, generator=seeded(2)))
    optimizer = optimizer_class(model.parameters(), lr=3e-3, **options)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, optimizer, model


def test_it_converges_as_adam_does():
    wide, _, _ = regression(AdamW)
    narrow, optimizer, _ = regression(Adam8bit, smallest=1)
    assert wide[-1] < 0.5 * wide[0]
    assert narrow[-1] == pytest.approx(wide[-1], rel=0.15) and narrow[-1] != wide[-1]
    assert any("mean places" in state for state in optimizer.state.values())


@pytest.mark.parametrize("smallest", [1, 600, 10_000])
def test_bytes(smallest):
    _, optimizer, model = regression(Adam8bit, steps=2, smallest=smallest, block_size=256)
    held = sum(
        value.nbytes
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )
    sizes = [each.numel() for each in model.parameters()]
    expected = sum(
        2 * (size + 4 * -(-size // 256)) if size >= smallest else 8 * size for size in sizes
    )
    assert held == expected


def test_small_parameters_are_adamws():
    wide, _, _ = regression(AdamW, steps=5)
    exact, _, _ = regression(Adam8bit, steps=5, smallest=10_000)
    assert exact == wide


def test_states_survive_saving():
    _, optimizer, model = regression(Adam8bit, steps=3, smallest=1)
    again = Adam8bit(model.parameters(), smallest=1)
    again.load_state_dict(optimizer.state_dict())
    for weight in model.parameters():
        for name, value in optimizer.state[weight].items():
            if isinstance(value, torch.Tensor):
                assert again.state[weight][name].dtype == value.dtype
                assert torch.equal(again.state[weight][name], value)


def test_blocks_of_nothing():
    with pytest.raises(ValueError, match="block_size must be a positive"):
        quantise_blocks(torch.ones(3), signed=True, block_size=0)
    with pytest.raises(ValueError, match="smallest must be a positive"):
        Adam8bit([nn.Parameter(torch.ones(2))], smallest=0)
