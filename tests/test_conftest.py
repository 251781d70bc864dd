"""The test run's own machinery: skips fail in CI, types are checked, one thread, same examples."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parent / "conftest.py"

SKIPS = """
    import pytest

    def test_passes(): pass
    def test_skips_itself(): pytest.skip("no browser here")
    @pytest.mark.skip(reason="marked")
    def test_is_marked(): pass
    @pytest.fixture
    def sandbox(): pytest.skip("no sandbox here")
    def test_has_a_fixture_that_skips(sandbox): pass
    @pytest.mark.xfail
    def test_is_expected_to_fail(): assert False
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """A project of its own with this conftest, two skipping tests, a skipping fixture and file."""
    monkeypatch.delenv("CI", raising=False)
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(test_skips=SKIPS)
    pytester.makepyfile(test_whole_file="import pytest\npytest.importorskip('no_such_package')")
    return pytester


def test_a_skip_is_a_skip_without_ci(project):
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1, skipped=4, xfailed=1)
    assert result.ret == 0


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_every_skip_is_a_failure_under_ci(project, monkeypatch, workers):
    monkeypatch.setenv("CI", "true")
    result = project.runpytest_subprocess("--continue-on-collection-errors", *workers)
    # A skip before the test itself runs (a mark, a fixture, a whole file) counts as an error.
    result.assert_outcomes(passed=1, failed=1, errors=3, xfailed=1)
    assert result.ret == 1
    for reason in ("no browser here", "marked", "no sandbox here", "no_such_package"):
        result.stdout.fnmatch_lines([f"*counts as a failure under CI=true*{reason}*"])


def test_calls_into_lib_are_checked_against_their_annotations():
    from lib.memory import traffic

    with pytest.raises(TypeError, match="rows"):
        traffic.linear(rows="many", d_in=1, d_out=1)


def test_an_unchecked_import_is_the_library_as_readers_run_it(import_unchecked):
    checked = sys.modules.get("lib.memory")
    traffic = import_unchecked("lib.memory.traffic")
    with pytest.raises(ValueError, match="rows must be a positive whole number"):
        traffic.linear(rows="many", d_in=1, d_out=1)
    assert sys.modules.get("lib.memory") is checked
    assert import_unchecked("lib.memory.traffic") is traffic
    assert import_unchecked("lib.memory.cost").Cost is traffic.Cost


def test_torch_runs_on_one_thread():
    assert torch.get_num_threads() == 1


def test_examples_are_the_same_in_every_run_and_need_no_clock():
    assert settings().derandomize and settings().deadline is None and settings().database is None
    assert draw_twenty() == draw_twenty()
    assert len(set(draw_twenty())) > 1


def draw_twenty():
    drawn = []

    @given(st.integers())
    @settings(max_examples=20)
    def draw(number):
        drawn.append(number)

    draw()
    return drawn
