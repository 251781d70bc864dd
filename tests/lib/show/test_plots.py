"""The drawn plots say the numbers they were given, legibly."""

import math
import re
from dataclasses import replace

import pytest
from matplotlib.patches import Rectangle

from lib.memory import DEVICES, EXERCISE_7B, layer_costs
from lib.show import draw_ladder, draw_roofline, draw_stacked_bars, draw_tiles
from lib.show.bars import PART_COLORS
from lib.show.image import as_svg
from lib.show.style import COMPUTE, MEMORY, PALETTE, PIXELS_PER_INCH
from tests.lib.show.stand_ins import (
    LARGE,
    LEVELS,
    SMALL,
    Cost,
    drawn_texts,
    outside,
    overlaps,
    words,
)

COSTS = {
    "map": Cost(1e12, 1e9),
    "map again": Cost(1e12, 1e9),
    "softmax": Cost(2e9, 1e9),
    "lookup": Cost(0, 1e6),
    "huge": Cost(1e18, 1e9),
}
SMALLEST_ON_A_PHONE = 9
PHONE = 358 / 720


def layer(batch, queries, keys):
    return layer_costs(EXERCISE_7B, batch_size=batch, queries=queries, keys=keys)


def dtype_of(device):
    return "bfloat16" if "bfloat16" in device.peak_flops else "float16"


BARS = {
    "inference": {"weights": 14e9, "KV cache": 34e9},
    "training": {"weights": 14e9, "gradients": 14e9, "other": 56e9},
}
FIGURES = {
    "roofline": lambda: draw_roofline(LARGE, "bfloat16", COSTS, others=[SMALL]),
    "prefill": lambda: draw_roofline(LARGE, "bfloat16", layer(8, 512, 512)),
    "ladder": lambda: draw_ladder(LARGE, 64 * 2**20),
    "ladder of few bytes": lambda: draw_ladder(LARGE, 64),
    "bars": lambda: draw_stacked_bars(BARS, unit="B", limits={"80 GB": 80e9}),
    "tiles": lambda: draw_tiles(
        rows=1024, inner=1024, cols=1024, tile=128, step=100, traffic=1e8, note="a note"
    ),
    "flat tiles": lambda: draw_tiles(rows=1, inner=4096, cols=4096, tile=64, traffic=1e8),
}


@pytest.fixture(params=FIGURES)
def figure(request):
    return FIGURES[request.param]()


def test_every_letter_is_legible_on_a_phone(figure):
    for text, _ in drawn_texts(figure):
        pixels = text.get_fontsize() / 72 * PIXELS_PER_INCH * PHONE
        assert pixels >= SMALLEST_ON_A_PHONE - 0.05, text.get_text()


def test_texts_lie_in_the_figure_and_apart(figure):
    assert outside(figure) == []
    assert overlaps(figure) == []


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_each_time(name):
    assert as_svg(FIGURES[name]()) == as_svg(FIGURES[name]())


@pytest.mark.parametrize("name", list(DEVICES))
@pytest.mark.parametrize("batch", [1, 300])
def test_real_operators_on_real_devices_stay_apart(name, batch):
    device = DEVICES[name]
    costs = layer(batch, 1, 2048)
    figure = draw_roofline(device, dtype_of(device), costs, intensities=(0.1, 10_000))
    assert outside(figure) == []
    assert overlaps(figure, tolerance=3) == []


@pytest.mark.parametrize("name", ["T4", "A100-80GB", "H100", "B200", "reference CPU"])
def test_names_of_other_devices_stay_apart(name):
    others = [DEVICES[other] for other in ("A100-80GB", "A100-40GB", "H200", "B200")]
    dtype = dtype_of(DEVICES[name])
    others = [other for other in others if dtype in other.peak_flops]
    figure = draw_roofline(DEVICES[name], dtype, layer(64, 1, 2048), others=others)
    assert outside(figure) == []
    assert overlaps(figure, tolerance=3) == []


@pytest.mark.parametrize("name", list(DEVICES))
def test_every_device_has_a_ladder(name):
    figure = draw_ladder(DEVICES[name], 16 * 2**20)
    assert {level.name for level in DEVICES[name].levels} <= set(words(figure))
    assert outside(figure) == []
    assert overlaps(figure) == []


# Roofline


def points(figure):
    """Marker, colour and place of each operator."""
    markers = [line for line in figure.axes[0].lines if line.get_markersize() == 11]
    return {
        (line.get_marker(), line.get_color(), *map(float, line.get_xydata()[0])) for line in markers
    }


def test_operators_stand_on_the_roof():
    figure = draw_roofline(LARGE, "bfloat16", {k: COSTS[k] for k in ("map", "softmax")})
    ridge = 400e12 / 2e12
    assert 2 < ridge < 1000
    memory_bound, compute_bound = sorted(points(figure))
    assert memory_bound == ("o", MEMORY, math.log10(2), pytest.approx(math.log10(2 * 2e12)))
    assert compute_bound == ("s", COMPUTE, 3.0, pytest.approx(math.log10(400e12)))


def test_the_side_changes_exactly_at_the_ridge():
    below, at = Cost(199.99e9, 1e9), Cost(200e9, 1e9)
    figure = draw_roofline(LARGE, "bfloat16", {"below": below, "at": at})
    assert sorted(marker for marker, *_ in points(figure)) == ["o", "s"]


def test_operators_beyond_the_axis_are_arrows_at_its_edge():
    figure = draw_roofline(
        LARGE, "bfloat16", {k: COSTS[k] for k in ("lookup", "huge")}, intensities=(1, 1000)
    )
    assert {(marker, x) for marker, _, x, _ in points(figure)} == {("<", 0.0), (">", 3.0)}


def test_labels_have_times_and_equal_operators_share_one():
    texts = words(draw_roofline(LARGE, "bfloat16", COSTS))
    assert "map, map again  2 × 2.5 ms" in texts
    assert "softmax  500 µs" in texts
    assert "ridge 200" in texts
    assert "Large accelerator 80 GB\nbfloat16: 400 TFLOP/s, 2 TB/s" in texts


def test_other_devices_are_named_and_fix_the_axis():
    alone = draw_roofline(SMALL, "bfloat16", {})
    beside = draw_roofline(SMALL, "bfloat16", {}, others=[LARGE, SMALL])
    swapped = draw_roofline(LARGE, "bfloat16", {}, others=[SMALL, LARGE])
    assert LARGE.name in words(beside) and SMALL.name not in words(beside)
    assert SMALL.name in words(swapped) and LARGE.name not in words(swapped)
    assert beside.axes[0].get_ylim() == swapped.axes[0].get_ylim() != alone.axes[0].get_ylim()


def test_many_other_devices_have_no_names():
    others = [replace(LARGE, name=f"other {number}") for number in range(5)]
    figure = draw_roofline(SMALL, "bfloat16", {}, others=others)
    assert not any(text.startswith("other") for text in words(figure))


def test_an_axis_that_does_not_rise_is_refused():
    with pytest.raises(ValueError, match="got low=100 and high=1"):
        draw_roofline(LARGE, "bfloat16", {}, intensities=(100, 1))


# Ladder


def test_the_ladder_prints_capacity_bandwidth_and_time():
    texts = words(draw_ladder(LARGE, 64 * 2**20))
    assert "time for 64 MiB" in texts
    assert "80 GB, 2 TB/s" in texts and "33.6 µs" in texts
    assert "64 GB/s" in texts and "1.05 ms" in texts


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(256 * 1024, "256 KiB"), (80_000_000_000, "80 GB"), (1_234_567, "1.23 MB"), (640, "640 B")],
)
def test_bytes_are_named_by_their_rounder_number(num_bytes, text):
    assert f"time for {text}" in words(draw_ladder(LARGE, num_bytes))


def test_what_is_too_small_says_so():
    small = words(draw_ladder(LARGE, 32 * 2**20))
    assert {text for text in small if text.startswith("only")} == {"only 30 MiB, 30 TB/s"}
    assert not any(text.startswith("only") for text in words(draw_ladder(LARGE, 1000)))


def test_times_and_latencies_are_where_they_belong():
    axes = draw_ladder(LARGE, 2_000_000, times=(1e-9, 1)).axes[0]
    marks = {line.get_marker(): line.get_xydata()[0] for line in axes.lines}
    assert tuple(marks["D"]) == pytest.approx((math.log10(5e-7), 3))
    dots = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert [tuple(dot) for dot in dots] == [
        pytest.approx((math.log10(2_000_000 / level.bandwidth), row))
        for row, level in enumerate(LEVELS)
    ]


def test_a_time_beyond_the_scale_is_an_arrow():
    axes = draw_ladder(LARGE, 640).axes[0]
    markers = [line.get_marker() for line in axes.lines]
    assert markers.count("<") == 2 and markers.count("o") == 3


def test_a_device_without_levels_has_no_ladder():
    with pytest.raises(ValueError, match="bare has no memory levels to draw"):
        draw_ladder(replace(LARGE, name="bare", levels=()), 64)


# Stacked bars


def bars_of(figure):
    """Row, start, length and colour of each part."""
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    return [(p.get_y() + 0.31, p.get_x(), p.get_width(), p.get_facecolor()) for p in patches]


def test_parts_follow_each_other_and_the_total_is_printed():
    figure = draw_stacked_bars(BARS, unit="B")
    assert [bar[:3] for bar in bars_of(figure)] == [
        pytest.approx(expected)
        for expected in [
            (0, 0, 14e9),
            (0, 14e9, 34e9),
            (1, 0, 14e9),
            (1, 14e9, 14e9),
            (1, 28e9, 56e9),
        ]
    ]
    assert {"48 GB", "84 GB", "inference", "training", "KV cache"} <= set(words(figure))


def test_a_part_has_one_colour_everywhere():
    first = bars_of(draw_stacked_bars(BARS, unit="B"))
    alone = bars_of(draw_stacked_bars({"decode": {"KV cache": 1.0}}, unit="B"))
    assert first[0][3] == first[2][3]
    assert first[1][3] == alone[0][3]
    assert len({color for *_, color in first}) == 4
    assert len(set(PART_COLORS.values())) == len(PART_COLORS)


def test_a_maximum_fixes_the_axis():
    ends = {
        draw_stacked_bars({"a": {"x": value}}, unit="s", maximum=10).axes[0].get_xlim()
        for value in (0, 1, 10.0)
    }
    assert ends == {(0, 12.5)}


def test_limits_are_lines_with_names():
    figure = draw_stacked_bars(BARS, unit="B", limits={"80 GB": 80e9})
    assert [80e9, 80e9] in [list(line.get_xdata()) for line in figure.axes[0].lines]


@pytest.mark.parametrize(
    ("groups", "arguments", "message"),
    [
        ({}, {}, "1 to 7 different parts in all, got 0"),
        ({"a": dict.fromkeys("abcdefgh", 1)}, {}, "1 to 7 different parts in all, got 8"),
        ({"run": {"weights": -1}}, {}, "weights of run must be zero or more, got -1"),
        ({"run": {"weights": math.nan}}, {}, "weights of run must be zero or more, got nan"),
        ({"a": {"x": 11}}, {"maximum": 10}, "maximum is 10, but there is a total or limit of 11"),
    ],
)
def test_bars_that_cannot_be_drawn_are_named(groups, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        draw_stacked_bars(groups, unit="B", **arguments)


def test_there_are_as_many_colours_as_the_message_says():
    assert len(PALETTE) == 7


# Tiles


def filled(figure, color):
    """Relative place of the fully coloured tiles."""
    return [
        (patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())
        for patch in figure.axes[0].patches
        if patch.get_fill() and patch.get_alpha() == 1 and patch.get_facecolor()[:3] == rgb(color)
    ]


def rgb(color):
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))


def test_a_long_note_beside_tiles_is_wrapped():
    note = "5.667 times the least traffic that is possible at all"
    figure = draw_tiles(rows=256, inner=256, cols=256, tile=64, traffic=1, note=note)
    assert outside(figure) == []
    assert "5.667 times the\nleast traffic that" in "".join(
        text.get_text() for text, _ in drawn_texts(figure)
    )


def test_three_tiles_are_in_the_fast_memory():
    figure = draw_tiles(rows=256, inner=256, cols=256, tile=64, step=0, traffic=1)
    a, b = filled(figure, MEMORY)
    (c,) = filled(figure, COMPUTE)
    assert a[1] == c[1] and b[0] == c[0]
    assert len({*a[2:], *b[2:], *c[2:]}) == 1


def test_the_inner_index_runs_fastest_then_the_column():
    def tile_of_c(step):
        return filled(draw_tiles(rows=4, inner=6, cols=4, tile=2, step=step, traffic=1), COMPUTE)

    tiles = [tile_of_c(step)[0][:2] for step in range(12)]
    assert tiles[0] == tiles[1] == tiles[2] != tiles[3]
    assert tiles[3][1] == tiles[0][1] and tiles[3][0] > tiles[0][0]
    assert tiles[6][0] == tiles[0][0] and tiles[6][1] > tiles[0][1]


def test_the_last_tile_may_be_partial():
    def side(step):
        figure = draw_tiles(rows=1, inner=1, cols=5, tile=4, step=step, traffic=1)
        return filled(figure, COMPUTE)[0][2]

    assert side(0) == pytest.approx(4 * side(1))


def test_sizes_traffic_and_note_are_printed():
    texts = words(
        draw_tiles(rows=64, inner=4096, cols=512, tile=32, traffic=2.7e8, note="8 times less")
    )
    assert {"A 64 × 4,096\nB 4,096 × 512\nC 64 × 512", "tiles 32 × 32"} <= set(texts)
    assert "traffic 270 MB\n8 times less" in texts


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"step": 8}, "step must be 0 to 7, got 8"),
        ({"step": -1}, "step must be 0 to 7, got -1"),
        ({"tile": 0}, "tile must be a whole number from 1, got 0"),
        ({"inner": -4}, "inner must be a whole number from 1, got -4"),
    ],
)
def test_tiles_that_do_not_exist_are_named(wrong, message):
    arguments = {"rows": 4, "inner": 4, "cols": 4, "tile": 2, "traffic": 1, **wrong}
    with pytest.raises(ValueError, match=re.escape(message)):
        draw_tiles(**arguments)
