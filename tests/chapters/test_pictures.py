"""Rounding and compression do not make another picture; anything one can see does."""

import base64
import io
import json
import zlib
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from lib.show.packing import pack
from tools.pictures import same_output


def png(pixels: np.ndarray, level: int = 6) -> str:
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG", compress_level=level)
    return base64.b64encode(file.getvalue()).decode()


def page(frames: list[str], text: str = "8 bytes are read.", level: int = 9) -> str:
    """HTML like that of `explore`, its frames deflated at another level if asked."""
    packed = base64.b64decode(pack(frames))
    deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = deflate.compress(zlib.decompress(packed, -zlib.MAX_WBITS)) + deflate.flush()
    first = f'<img alt="A bar" src="data:image/svg+xml,{quote(frames[0])}">'
    return f"{first}<p>{text}</p><script>{base64.b64encode(data).decode()}</script>"


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(20, 200, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def frames() -> list[str]:
    points = np.random.default_rng(0).uniform(100, 300, (2, 200, 2)).round(2)
    paths = [" ".join(f"L {x} {y}" for x, y in frame) for frame in points]
    return [f'<svg><path id="m1a2b3c4d5e" d="M 0 0 {path}"/></svg>' for path in paths]


def test_equal_output_is_the_same():
    assert same_output("text/plain", "6 bytes", "6 bytes")
    assert not same_output("text/plain", "6 bytes", "7 bytes")
    assert not same_output("text/plain", "6 bytes", None)
    assert same_output("application/json", {"a": [1]}, {"a": [1]})
    assert not same_output("application/json", {"a": [1]}, {"a": [2]})


def test_png_compression_and_rounding_are_allowed(pixels):
    assert png(pixels, 1) != png(pixels, 9)
    assert same_output("image/png", png(pixels, 1), png(pixels, 9))
    assert same_output("image/png", png(pixels), png(pixels + np.uint8(2)))


def test_another_pixel_or_size_is_another_picture(pixels):
    changed = pixels.copy()
    changed[3, 4] += 40
    assert not same_output("image/png", png(pixels), png(changed))
    assert not same_output("image/png", png(pixels), png(pixels[1:]))


def test_frames_packed_otherwise_or_rounded_are_the_same(frames):
    first = frames[0].split("L ")[1].split()[0]
    rounded = frames[0].replace(first, f"{float(first) + 0.01:.2f}", 1).replace("1a2b", "ffff")
    nudged = [rounded, frames[1]]
    assert page(frames, level=1) != page(frames)
    assert same_output("text/html", page(frames, level=1), page(frames))
    assert same_output("text/html", page(frames), page(nudged))


def test_a_moved_point_a_lost_frame_or_another_word_is_another_figure(frames):
    first = frames[1].split("L ")[1].split()[0]
    moved = [frames[0], frames[1].replace(first, f"{float(first) + 0.5:.2f}", 1)]
    assert not same_output("text/html", page(frames), page(moved))
    assert not same_output("text/html", page(frames), page(frames[:1]))
    assert not same_output("text/html", page(frames), page(frames, "9 bytes are read."))
    assert not same_output("text/html", page(frames), page(frames) + "A" * 300)
    broken = page(frames).replace("<script>", "<script>AAAA")
    assert not same_output("text/html", page(frames), broken)


def test_a_drawing_by_itself():
    svg = '<svg aria-label="x"><path d="M 1.00 2.00"/></svg>'
    assert same_output("image/svg+xml", svg, svg.replace("1.00", "1.01"))
    assert not same_output("image/svg+xml", svg, svg.replace("1.00", "1.10"))
    assert not same_output("image/svg+xml", svg, svg.replace("M", "L"))


def test_packed_json_that_is_no_frames():
    def packed(content):
        data = zlib.compress(json.dumps(content).encode() * 1, 0)[2:-4]
        return f"<p>{base64.b64encode(data).decode()}</p>"

    one, other = packed({"a": list(range(200))}), packed({"a": list(range(1, 201))})
    assert len(one) > 200 and not same_output("text/html", one, other)
