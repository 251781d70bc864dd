import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.attention.pruning import gated_heads, head_importance, prune_heads
from tests.lib.attention.head_cases import Draw, batches, lengths, seeds


@settings(max_examples=40)
@given(seeds, batches, lengths, st.sets(st.integers(0, 4), max_size=4), st.booleans())
def test_a_pruned_layer_is_the_layer_with_those_gates_at_0(seed, batch, length, heads, biased):
    draw = Draw(seed)
    attention = draw.attention(10, (5, 5), head_dim=3, source_size=7, bias=biased, scale=0.4)
    hidden, source = draw.numbers(batch, length, 10), draw.numbers(batch, 6, 7)
    mask = draw.mask(batch, 1, length, 6)
    pruned = prune_heads(attention, heads)
    gates = torch.ones(5).double()
    gates[sorted(heads)] = 0
    with gated_heads(attention, gates):
        expected = attention(hidden, source, mask=mask)
    torch.testing.assert_close(pruned(hidden, source, mask=mask), expected)
    assert pruned.num_attention_heads == pruned.num_key_value_heads == 5 - len(heads)
    share = (5 - len(heads)) / 5
    assert pruned.query.weight.numel() == attention.query.weight.numel() * share
    assert pruned.output.weight.numel() == attention.output.weight.numel() * share


@pytest.mark.parametrize(
    ("removed", "left"), [({0, 1}, (4, 2)), ({0, 1, 4, 5}, (2, 1)), ({0, 3, 5}, (3, 3))]
)
def test_grouped_heads_are_pruned_by_whole_groups_or_evenly(removed, left):
    draw = Draw()
    attention, hidden = draw.attention(12, (6, 3), head_dim=4), draw.numbers(2, 5, 12)
    pruned = prune_heads(attention, removed)
    assert (pruned.num_attention_heads, pruned.num_key_value_heads) == left
    gates = torch.tensor([head not in removed for head in range(6)]).double()
    with gated_heads(attention, gates):
        expected = attention(hidden, is_causal=True)
    torch.testing.assert_close(pruned(hidden, is_causal=True), expected)


def test_the_copy_shares_nothing_and_keeps_mode_and_dtype():
    attention = Draw().attention(12, (4, 2), dropout=0.1).eval().to(torch.bfloat16)
    pruned = prune_heads(attention, [])
    assert not pruned.training and pruned.dropout == 0.1
    for mine, theirs in zip(pruned.parameters(), attention.parameters(), strict=True):
        assert torch.equal(mine, theirs) and mine.data_ptr() != theirs.data_ptr()
        assert mine.dtype == torch.bfloat16 and mine.requires_grad


def test_gates_of_1_change_nothing_and_are_gone_after_the_block():
    draw = Draw()
    attention, hidden = draw.attention(12, (4, 2)), draw.numbers(2, 5, 12)
    expected = attention(hidden)
    with gated_heads(attention, torch.ones(4).double()):
        torch.testing.assert_close(attention(hidden), expected)
    with pytest.raises(RuntimeError, match="on purpose"), gated_heads(attention, torch.zeros(4)):
        raise RuntimeError("on purpose")
    assert torch.equal(attention(hidden), expected)


def test_importance_is_the_slope_of_each_loss_by_finite_differences():
    draw = Draw()
    attention, hidden, step = draw.attention(12, (4, 2)), draw.numbers(3, 5, 12), 1e-5

    def losses():
        return attention(hidden, is_causal=True).pow(3).mean(dim=(1, 2))

    slopes = torch.empty(4, 3).double()
    for head in range(4):
        sides = []
        for sign in (1, -1):
            gates = torch.ones(4).double()
            gates[head] += sign * step
            with gated_heads(attention, gates):
                sides.append(losses().detach())
        slopes[head] = (sides[0] - sides[1]) / (2 * step)
    importance = head_importance(attention, losses)
    torch.testing.assert_close(importance, slopes.abs().mean(dim=1), rtol=1e-6, atol=1e-9)
    assert not torch.allclose(importance, slopes.mean(dim=1).abs())  # signs differ between examples
    assert all(parameter.grad is None for parameter in attention.parameters())


def test_a_head_that_the_output_ignores_is_the_least_important_and_goes_without_loss():
    draw = Draw()
    attention, hidden = draw.attention(12, (4, 4)), draw.numbers(3, 5, 12)
    with torch.no_grad():
        attention.output.weight[:, 6:9] = 0
    importance = head_importance(attention, lambda: attention(hidden).square().mean(dim=(1, 2)))
    assert importance[2] == 0 and (importance > 0).sum() == 3
    pruned = prune_heads(attention, [importance.argmin().item()])
    torch.testing.assert_close(pruned(hidden), attention(hidden))


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([4], r"the heads are 0 to 3, got \[4\]"),
        ([-1], r"the heads are 0 to 3, got \[-1\]"),
        (range(4), "one head at least must be left, but all 4"),
        ([0], r"equally many attention heads, or none.*\{0: 1, 1: 2\}"),
    ],
)
def test_heads_that_cannot_go(import_unchecked, heads, message):
    pruning = import_unchecked("lib.attention.pruning")
    attention = import_unchecked("lib.attention.multi_head").MultiHeadAttention(12, 4, 2)
    with pytest.raises(ValueError, match=message):
        pruning.prune_heads(attention, heads)


def test_gates_and_losses_that_do_not_fit(import_unchecked):
    pruning = import_unchecked("lib.attention.pruning")
    attention = import_unchecked("lib.attention.multi_head").MultiHeadAttention(12, 4)
    with (
        pytest.raises(ValueError, match=r"4 heads need as many gates, got \(3,\)"),
        pruning.gated_heads(attention, torch.ones(3)),
    ):
        attention(torch.ones(1, 2, 12))
    with pytest.raises(ValueError, match=r"one number an example, got shape \(\)"):
        pruning.head_importance(attention, lambda: attention(torch.ones(1, 2, 12)).sum())
