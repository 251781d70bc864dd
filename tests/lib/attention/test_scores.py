import numpy as np
import pytest
import torch
from hypothesis import given
from torch.nn import functional as F

from lib.attention.scores import (
    AdditiveScores,
    GeneralScores,
    dot_scores,
    dot_scores_loop,
    scaled_dot_scores,
)
from tests.lib.attention.head_cases import Draw, batches, lengths, seeds


@given(seeds, lengths, lengths)
def test_the_loops_are_the_matmuls(seed, queries, keys):
    draw = Draw(seed)
    q, k, long_k = draw.numbers(queries, 3), draw.numbers(keys, 3), draw.numbers(keys, 5)
    torch.testing.assert_close(dot_scores_loop(q, k), dot_scores(q, k))
    general = draw.randomised(GeneralScores(3, 5))
    torch.testing.assert_close(general.loop(q, long_k), general(q, long_k))
    additive = draw.randomised(AdditiveScores(3, 5, 4))
    torch.testing.assert_close(additive.loop(q, long_k), additive(q, long_k))


@given(seeds, batches, lengths, lengths)
def test_scores_are_those_of_other_code(seed, batch, queries, keys):
    """torch's bilinear form for the general score, numpy by the paper's letters for the other."""
    draw = Draw(seed)
    q, k = draw.numbers(batch, 2, queries, 3), draw.numbers(batch, 2, keys, 5)
    general = draw.randomised(GeneralScores(3, 5))
    pairs = torch.broadcast_tensors(q[..., :, None, :1], k[..., None, :, :1])[0].shape[:-1]
    all_q, all_k = q[..., :, None, :].expand(*pairs, 3), k[..., None, :, :].expand(*pairs, 5)
    oracle = F.bilinear(all_q.contiguous(), all_k.contiguous(), general.W.weight[None]).squeeze(-1)
    torch.testing.assert_close(general(q, k), oracle)

    additive = draw.randomised(AdditiveScores(3, 5, 4))
    W, U, v = (map_.weight.detach().numpy() for map_ in (additive.W_q, additive.W_k, additive.v))
    s, h = q.numpy(), k.numpy()
    oracle = np.empty(pairs)
    for *place, i, j in np.ndindex(*pairs):
        oracle[*place, i, j] = v[0] @ np.tanh(W @ s[*place, i] + U @ h[*place, j])
    np.testing.assert_allclose(additive(q, k).detach().numpy(), oracle)


def test_general_with_the_identity_is_dot_and_scaled_dot_is_dot_by_a_number():
    draw = Draw()
    q, k = draw.numbers(2, 3, 9), draw.numbers(2, 4, 9)
    general = GeneralScores(9, 9).double()
    with torch.no_grad():
        general.W.weight.copy_(torch.eye(9))
    torch.testing.assert_close(general(q, k), dot_scores(q, k))
    torch.testing.assert_close(scaled_dot_scores(q, k), dot_scores(q, k) / 3)
    torch.testing.assert_close(scaled_dot_scores(q, k, scale=1.0), dot_scores(q, k))


def test_every_parameter_of_the_learned_scores_learns():
    draw = Draw()
    for module in (AdditiveScores(3, 5, 4).double(), GeneralScores(3, 5).double()):
        module(draw.numbers(2, 6, 3), draw.numbers(2, 7, 5)).square().sum().backward()
        assert all(parameter.grad.any() for parameter in module.parameters())
    assert {name for name, _ in AdditiveScores(3, 5, 4).named_parameters()} == {
        "W_q.weight",
        "W_k.weight",
        "v.weight",
    }


@pytest.mark.parametrize("name", ["query_size", "key_size", "attention_size"])
@pytest.mark.parametrize("size", [0, -1, 2.5, "3"])
def test_sizes_that_are_none(import_unchecked, name, size):
    scores = import_unchecked("lib.attention.scores")
    sizes = {"query_size": 3, "key_size": 3, "attention_size": 3, name: size}
    with pytest.raises(ValueError, match=f"{name} must be a positive whole number.*{size}"):
        scores.AdditiveScores(**sizes)
    if sizes.pop("attention_size") == 3:
        with pytest.raises(ValueError, match=f"{name} must be a positive whole number.*{size}"):
            scores.GeneralScores(**sizes)
