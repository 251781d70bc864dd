"""Whether two stored outputs show a reader the same thing.

Equal bytes do. Other bytes may: another processor rounds a coordinate's last digit differently,
another zlib packs the same frames differently. So pictures that differ are opened and compared.
"""

import base64
import binascii
import io
import json
import re
import zlib
from urllib.parse import unquote

import numpy as np
from PIL import Image

PACKED = re.compile(r'data:image/svg\+xml,%3Csvg[^"<>]*|[A-Za-z0-9+/]{200,}={0,2}')
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
SVG_ID = re.compile(r"\b[a-z]?[0-9a-f]{10}\b")
COLOUR_LEVELS = 8
PIXELS = 0.02


def same_output(mime: str, old: object, new: object) -> bool:
    """Equal data, or pictures within 8 of 256 colour levels, or drawings within 0.02 pixels."""
    if old == new:
        return True
    if not (isinstance(old, str) and isinstance(new, str)):
        return False
    if mime in ("image/png", "image/jpeg"):
        return _same_pixels(base64.b64decode(old), base64.b64decode(new))
    if mime == "image/svg+xml":
        return _same_drawing(old, new)
    return mime == "text/html" and _same_page(old, new)


def _same_page(old: str, new: str) -> bool:
    """The text must be equal; what is packed into it (frames, pictures) must look equal."""
    packed, others = PACKED.findall(old), PACKED.findall(new)
    if PACKED.sub("", old) != PACKED.sub("", new) or len(packed) != len(others):
        return False
    return all(map(_same_packed, packed, others))


def _same_packed(old: str, new: str) -> bool:
    if old == new:
        return True
    try:
        drawings, others = _drawings(old), _drawings(new)
    except (binascii.Error, zlib.error, ValueError, KeyError, TypeError):
        return False
    return len(drawings) == len(others) and all(map(_same_drawing, drawings, others))


def _drawings(packed: str) -> list[str]:
    """The SVG in a data URI, or the frames that lib.show.packing put together."""
    if packed.startswith("data:"):
        return [unquote(packed)]
    content = json.loads(zlib.decompress(base64.b64decode(packed), -zlib.MAX_WBITS))
    lines = content["lines"]
    return [
        "\n".join(
            line
            for start, length in zip(runs[::2], runs[1::2], strict=True)
            for line in lines[start : start + length]
        )
        for runs in content["frames"]
    ]


def _same_drawing(old: str, new: str) -> bool:
    """The same SVG but for the last digits of numbers and the ids that are made from them."""
    old, new = _count_ids(old), _count_ids(new)
    if NUMBER.sub("", old) != NUMBER.sub("", new):
        return False
    numbers = (np.array(NUMBER.findall(text), dtype=float) for text in (old, new))
    return bool(np.allclose(*numbers, rtol=0, atol=PIXELS))


def _count_ids(svg: str) -> str:
    names: dict[str, str] = {}
    return SVG_ID.sub(lambda found: names.setdefault(found[0], f"id{len(names)}"), svg)


def _same_pixels(old: bytes, new: bytes) -> bool:
    one, other = (np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")) for data in (old, new))
    if one.shape != other.shape:
        return False
    return bool(np.abs(one.astype(int) - other.astype(int)).max() <= COLOUR_LEVELS)
