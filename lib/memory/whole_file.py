"""Files that are there whole or not at all, whatever goes wrong while they are written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A new file beside `path` to write to; at the end it takes the place of the old one.

    If anything goes wrong (a full disk, an interrupt) the old file stays as it was, and the new
    one vanishes.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
