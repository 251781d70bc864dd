"""Many similar texts in little space.

The frames of one figure share most of their lines. Each different line is kept once; a frame is a
list of runs of consecutive lines. The whole is JSON, raw deflate (RFC 1951) and base64, which a
browser undoes with `atob`, `DecompressionStream("deflate-raw")` and `JSON.parse`.
"""

import base64
import json
import zlib
from collections.abc import Iterable, Sequence


def pack(frames: Sequence[str]) -> str:
    """The frames as base64 text. `unpack` gives them back unchanged."""
    numbers: dict[str, int] = {}
    runs = []
    for frame in frames:
        runs.append(_runs(numbers.setdefault(line, len(numbers)) for line in frame.split("\n")))
    text = json.dumps({"lines": list(numbers), "frames": runs}, separators=(",", ":"))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    return base64.b64encode(deflate.compress(text.encode()) + deflate.flush()).decode()


def unpack(packed: str) -> list[str]:
    """The frames that `pack` was given. Raises `ValueError` for anything else."""
    try:
        content = json.loads(
            zlib.decompress(base64.b64decode(packed, validate=True), -zlib.MAX_WBITS)
        )
        return [_text(content["lines"], runs) for runs in content["frames"]]
    except (zlib.error, ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"expected text made by pack, got {packed[:40]!r}...") from error


def _runs(numbers: Iterable[int]) -> list[int]:
    """Line numbers as start, length, start, length, ...: 5 6 7 2 becomes 5 3 2 1."""
    runs: list[int] = []
    for number in numbers:
        if runs and number == runs[-2] + runs[-1]:
            runs[-1] += 1
        else:
            runs += [number, 1]
    return runs


def _text(lines: list[str], runs: list[int]) -> str:
    starts, lengths = runs[::2], runs[1::2]
    pieces = (lines[start : start + length] for start, length in zip(starts, lengths, strict=True))
    return "\n".join(line for piece in pieces for line in piece)
