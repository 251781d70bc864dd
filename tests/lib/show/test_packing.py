import base64
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.show.packing import pack, unpack

LINES = st.sampled_from(["", "a", "<g>", "</g>", "é × µ", '"quoted"', "\\n"])
FRAMES = st.lists(st.lists(LINES, min_size=1).map("\n".join), min_size=1, max_size=8)


@given(FRAMES)
def test_every_frame_comes_back(frames):
    assert unpack(pack(frames)) == frames


@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_any_text_comes_back(frames):
    assert unpack(pack(frames)) == frames


def test_the_same_frames_pack_to_the_same_bytes():
    frames = ["a\nb\nc", "a\nc\nb"]
    assert pack(frames) == pack(list(frames))


def test_it_is_what_a_browser_can_undo():
    text = zlib.decompress(base64.b64decode(pack(["a\nb\nc", "b\nc\na"])), wbits=-15)
    assert json.loads(text) == {"lines": ["a", "b", "c"], "frames": [[0, 3], [1, 2, 0, 1]]}


def test_frames_that_share_lines_take_little_more_than_one():
    lines = [f'<path d="M {i * 7919 % 1000} {i * 104729 % 1000}"/>' for i in range(500)]
    frames = ["\n".join([*lines, str(number)]) for number in range(64)]
    assert len(pack(frames)) < 1.2 * len(pack(frames[:1]))


@pytest.mark.parametrize("wrong", ["", "not base64!", "YWJj", base64.b64encode(b"x" * 9).decode()])
def test_anything_else_is_refused(wrong):
    with pytest.raises(ValueError, match="expected text made by pack"):
        unpack(wrong)
