"""What is trained on and what is held out, decided by names: the same split everywhere."""

import zlib
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def split_by_name(
    items: Iterable[Item], name: Callable[[Item], str], *, held_out: float = 0.1
) -> tuple[list[Item], list[Item]]:
    """The items to train on and those held out, about this share of the names.

    The checksum of an item's name decides. So it stays on its side whatever else the list holds,
    in whatever order, on every machine, and items of one name are never split. A name is whatever
    must not be known from training: a word, the film of a review, a document.

    Raises `ValueError` unless `held_out` lies between 0 and 1.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is a share between 0 and 1, got {held_out!r}")
    sides: tuple[list[Item], list[Item]] = ([], [])
    for item in items:
        sides[zlib.crc32(name(item).encode()) < held_out * 2**32].append(item)
    return sides
