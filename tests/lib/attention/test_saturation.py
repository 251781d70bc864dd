import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.attention.saturation import saturation, softmax_jacobian
from tests.lib.attention.head_cases import Draw, batches, lengths, seeds


@given(seeds, batches, lengths)
def test_the_jacobian_is_the_one_autograd_finds(seed, batch, keys):
    scores = Draw(seed).numbers(batch, keys) * 3
    jacobian = softmax_jacobian(scores.softmax(dim=-1))
    for row, mine in zip(scores, jacobian, strict=True):
        oracle = torch.autograd.functional.jacobian(lambda s: s.softmax(dim=-1), row)
        torch.testing.assert_close(mine, oracle)
    torch.testing.assert_close(jacobian.sum(dim=-1), torch.zeros(batch, keys).double())


def test_a_saturated_softmax_has_no_gradient():
    assert (softmax_jacobian(torch.tensor([0.0, 1.0, 0.0])) == 0).all()


@settings(max_examples=20)
@given(st.sampled_from([4, 16, 64, 256]), seeds)
def test_the_score_variance_is_head_dim_times_the_scale_squared(head_dim, seed):
    for scale in (1.0, head_dim**-0.5):
        found = saturation(head_dim, keys=20, scale=scale, generator=Draw(seed).generator)
        assert found.score_variance == pytest.approx(head_dim * scale**2, rel=0.15)


def test_unscaled_scores_saturate_as_heads_grow_and_scaled_ones_do_not():
    def look(head_dim, scale):
        return saturation(head_dim, keys=32, scale=scale, generator=Draw().generator)

    plain = [look(head_dim, 1.0) for head_dim in (4, 64, 1024)]
    scaled = [look(head_dim, head_dim**-0.5) for head_dim in (4, 64, 1024)]
    assert plain[0].largest_weight < plain[1].largest_weight < plain[2].largest_weight
    assert plain[0].gradient > plain[1].gradient > plain[2].gradient
    assert plain[2].gradient < scaled[2].gradient / 5
    for one in scaled[1:]:
        assert one.gradient == pytest.approx(scaled[0].gradient, rel=0.05)


def test_a_scale_near_0_gives_uniform_weights():
    found = saturation(8, keys=5, scale=1e-6, generator=Draw().generator)
    assert found.largest_weight == pytest.approx(1 / 5, rel=1e-4)
    assert found.gradient == pytest.approx(1 - 1 / 5, rel=1e-4)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"head_dim": 0}, "head_dim must be a positive whole number.*got 0"),
        ({"keys": 1.5}, "keys must be a positive whole number.*got 1.5"),
        ({"queries": -1}, "queries must be a positive whole number.*got -1"),
        ({"scale": 0}, "scale must be a number above zero, got 0"),
    ],
)
def test_sizes_that_are_none(import_unchecked, given_, message):
    module = import_unchecked("lib.attention.saturation")
    sizes = {"head_dim": 4, "keys": 4, "scale": 1.0, "generator": torch.Generator(), **given_}
    with pytest.raises(ValueError, match=message):
        module.saturation(**sizes)
