"""Results kept in files, as JSON: all of a file or none of it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path


def write_json(content: Mapping[str, object], path: Path) -> None:
    """Write the whole file or, if anything goes wrong, leave the old one as it was."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
