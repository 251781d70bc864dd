"""Fonts with only the characters that the book shows."""

import logging
from io import BytesIO
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

# It reports each table of each font, and so it would fill the log of a build.
logging.getLogger("fontTools").setLevel(logging.WARNING)


def cut_font(path: Path, characters: set[str]) -> bytes:
    """The font at `path` as WOFF, holding only `characters`; whole if it has none of them."""
    options = subset.Options(hinting=False, layout_features=[], drop_tables=["FFTM"])
    font = TTFont(path, recalcTimestamp=False)
    if not characters & set(map(chr, font.getBestCmap() or [])):
        return path.read_bytes()
    cutter = subset.Subsetter(options)
    cutter.populate(text="".join(sorted(characters)))
    cutter.subset(font)
    font.flavor = "woff"
    buffer = BytesIO()
    font.save(buffer)
    return buffer.getvalue()
