"""Power laws are found where they are, and the kept run is one."""

import json
from functools import cache

import numpy as np
import pytest

from lib.training import scaling as command
from lib.training.scaling import RESULTS, PowerLaw, ScalingSettings, fit_power_law, run_scaling


def test_an_exact_law_is_found():
    law = fit_power_law([1, 10, 100, 1000], [8 * x**-0.076 for x in (1, 10, 100, 1000)])
    assert (law.a, law.alpha) == pytest.approx((8, 0.076))
    assert law.alpha_error == pytest.approx(0, abs=1e-12) and law.residual < 1e-12
    assert law(50) == pytest.approx(8 * 50**-0.076)


def test_the_error_is_that_of_least_squares():
    """NumPy's covariance of a straight line through the logarithms."""
    x = np.array([1, 3, 9, 27, 81.0])
    y = np.array([5.0, 4.1, 3.9, 3.0, 2.8])
    law = fit_power_law(x.tolist(), y.tolist())
    (slope, intercept), covariance = np.polyfit(np.log(x), np.log(y), 1, cov=True)
    assert (law.alpha, law.a) == pytest.approx((-slope, np.exp(intercept)))
    assert law.alpha_error == pytest.approx(covariance[0, 0] ** 0.5)
    off = np.log(y) - slope * np.log(x) - intercept
    assert law.residual == pytest.approx((off**2).mean() ** 0.5)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [1, 2], "three points or more, got 2 x, 2 y"),
        ([1, 2, 3], [1, 2], "three points or more, got 3 x, 2 y"),
        ([1, 2, 3], [1, 0, 2], "all numbers above zero"),
        ([2, 2, 2], [1, 3, 2], "different x"),
    ],
)
def test_what_has_no_law_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        fit_power_law(x, y)


def test_the_command_in_small_writes_what_the_book_keeps(tmp_path, capsys):
    path = tmp_path / "small.json"
    sizes = ["--hidden-sizes", "4", "8", "16", "--vocab-size", "290", "--steps", "2"]
    sizes += ["--corpus", "excerpt"]
    command.main([*sizes, "--json", str(path)])
    small = json.loads(path.read_text())
    assert small.keys() == kept().keys() and small["law"].keys() == kept()["law"].keys()
    assert [each.keys() for each in small["models"]] == [kept()["models"][0].keys()] * 3
    assert "loss = " in capsys.readouterr().out


@cache
def kept():
    return json.loads(RESULTS.read_text())


def test_the_kept_run_is_the_command_with_its_defaults():
    settings = kept()["settings"] | {"hidden_sizes": tuple(kept()["settings"]["hidden_sizes"])}
    assert ScalingSettings(**settings) == ScalingSettings()
    assert kept()["command"].startswith("python -m lib.training.scaling --json")


def test_larger_models_reach_lower_losses_along_the_kept_law():
    sizes = [each["parameters_without_embeddings"] for each in kept()["models"]]
    losses = [each["held_out_loss"] for each in kept()["models"]]
    assert len(sizes) >= 6 and sizes == sorted(sizes) and sizes[-1] > 50 * sizes[0]
    assert losses[-1] < losses[0]
    fitted, law = fit_power_law(sizes, losses), PowerLaw(**kept()["law"])
    assert fitted.alpha == pytest.approx(law.alpha, rel=1e-3)
    assert fitted.alpha_error == pytest.approx(law.alpha_error, rel=1e-3)
    assert law.alpha > 3 * law.alpha_error > 0


@pytest.mark.slow
def test_the_three_smallest_sizes_again():
    few = kept()["models"][:3]
    again = run_scaling(ScalingSettings(hidden_sizes=tuple(each["hidden_size"] for each in few)))
    for model, once in zip(again["models"], few, strict=True):
        assert model["held_out_loss"] == pytest.approx(once["held_out_loss"], abs=0.05)
