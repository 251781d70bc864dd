"""The dictionary read line by line, and words that stay on their side of the split."""

from hashlib import sha256

import pytest

from lib.data.pronunciations import Pronunciation, read_pronunciations, split_by_word

LINES = """\
'cause K AH0 Z
a.m. EY2 EH1 M
aalborg AO1 L B AO0 R G # place, danish
aalborg(2) AA1 L B AO0 R G

read R EH1 D
read(2) R IY1 D
"""


@pytest.fixture(scope="module")
def entries():
    return read_pronunciations()


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.dict"
    path.write_text(LINES, encoding="utf-8")
    return path


def test_words_of_letters_and_their_first_pronunciations(small):
    assert read_pronunciations(small) == [
        Pronunciation("aalborg", ("AO", "L", "B", "AO", "R", "G")),
        Pronunciation("read", ("R", "EH", "D")),
    ]


def test_stress_is_kept_when_asked_for(small):
    assert read_pronunciations(small, stress=True)[1].phonemes == ("R", "EH1", "D")


def test_a_word_without_a_sound_is_refused(small):
    small.write_text("cat K AE1 T\ndog # D AO1 G\n")
    with pytest.raises(ValueError, match=r"small\.dict, line 2: a word and its phonemes"):
        read_pronunciations(small)


def test_the_whole_dictionary(entries):
    """39 phonemes (Weide, 1998), every word once, in order."""
    words = [word for word, _ in entries]
    assert len(words) == len(set(words)) > 115_000
    assert set("".join(words)) == set("abcdefghijklmnopqrstuvwxyz")
    assert len({phoneme for _, phonemes in entries for phoneme in phonemes}) == 39
    known = dict(entries)
    assert known["attention"] == ("AH", "T", "EH", "N", "SH", "AH", "N")
    assert known["memory"] == ("M", "EH", "M", "ER", "IY")


def test_the_split_holds_out_its_share_and_loses_nothing(entries):
    train, held_out = split_by_word(entries, held_out=0.1)
    assert sorted(train + held_out) == sorted(entries)
    assert not {word for word, _ in train} & {word for word, _ in held_out}
    assert len(held_out) / len(entries) == pytest.approx(0.1, abs=0.005)


def test_a_word_stays_on_its_side(entries):
    """Whatever else is there and in whatever order."""
    held_out = {word for word, _ in split_by_word(entries)[1]}
    some = sorted(entries[::7], key=lambda entry: sha256(entry.word.encode()).digest())
    assert {word for word, _ in split_by_word(some)[1]} == held_out & {word for word, _ in some}
    more = {word for word, _ in split_by_word(entries, held_out=0.2)[1]}
    assert held_out < more


def test_the_split_is_the_same_on_every_machine():
    """By checksum: of these, only that of "cache" lies in the lower half."""
    entries = [Pronunciation(word, ("M",)) for word in ("memory", "byte", "cache", "word")]
    train, held_out = split_by_word(entries, held_out=0.5)
    assert [word for word, _ in train] == ["memory", "byte", "word"]
    assert [word for word, _ in held_out] == ["cache"]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 10.0])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="a share between 0 and 1, got"):
        split_by_word([], held_out=share)
