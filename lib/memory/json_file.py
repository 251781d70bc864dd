"""Results kept in files, as JSON: all of a file or none of it."""

import json
from collections.abc import Mapping
from pathlib import Path

from lib.memory.whole_file import whole_file


def write_json(content: Mapping[str, object], path: Path) -> None:
    """Write the whole file or, if anything goes wrong, leave the old one as it was."""
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
