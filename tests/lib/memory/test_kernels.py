"""Kernels do the work that they say they do, and a race of them is kept and read back whole."""

import json
import socket
from importlib.resources import files

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lib.memory import kernel_times, kernels
from lib.memory.contention import Race, Timing
from lib.memory.kernel_times import (
    kernel_times_from_record,
    kernel_times_record,
    measure_kernels,
    reference_kernels,
)
from lib.memory.kernels import Heads, calibration_kernels, transformer_kernels
from lib.memory.prediction import MODELS

HEADS = Heads(2, 3, 16, 24, 8)
SMALL = {
    "linear": kernels.linear_kernel(5, 12, 20),
    "gradient": kernels.weight_gradient_kernel(6, 12, 20),
    "scores": kernels.scores_kernel(HEADS),
    "weighted sum": kernels.weighted_sum_kernel(HEADS),
    "fused": kernels.fused_attention_kernel(HEADS),
    "softmax": kernels.softmax_kernel(HEADS),
    "sum": kernels.sum_kernel(33),
    "gelu": kernels.gelu_kernel(33),
    "layer norm": kernels.layer_norm_kernel(4, 24),
}
EVERYTHING = [*transformer_kernels(), *(k for ks in calibration_kernels().values() for k in ks)]


@pytest.mark.parametrize("name", SMALL)
def test_a_product_has_the_flops_that_torch_counts(name):
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        SMALL[name].run()
    assert counter.get_total_flops() == SMALL[name].work.product_flops


def inputs(*shapes):
    return kernels._carve("inputs", *shapes)


def written(shape):
    return kernels._carve("outputs", shape)[0]


def test_linear_and_its_gradient_are_what_torch_computes():
    SMALL["linear"].run()
    x, weight = inputs((5, 12), (20, 12))
    torch.testing.assert_close(written((5, 20)), torch.nn.functional.linear(x, weight))
    SMALL["gradient"].run()
    x, dy = inputs((6, 12), (6, 20))
    torch.testing.assert_close(written((20, 12)), torch.einsum("no,ni->oi", dy, x))


def test_attention_is_what_torch_computes():
    SMALL["scores"].run()
    q, k = inputs((2, 3, 16, 8), (2, 3, 24, 8))
    torch.testing.assert_close(written((2, 3, 16, 24)), torch.einsum("bhqe,bhke->bhqk", q, k))
    SMALL["weighted sum"].run()
    p, v = inputs((2, 3, 16, 24), (2, 3, 24, 8))
    torch.testing.assert_close(written((2, 3, 16, 8)), torch.einsum("bhqk,bhke->bhqe", p, v))
    SMALL["softmax"].run()
    torch.testing.assert_close(written((2, 3, 16, 24)), p.softmax(-1))


def test_what_is_no_product_is_what_torch_computes():
    SMALL["sum"].run()
    x, y = inputs((33,), (33,))
    torch.testing.assert_close(written((33,)), x + y)
    SMALL["gelu"].run()
    torch.testing.assert_close(written((33,)), torch.nn.functional.gelu(x))
    SMALL["layer norm"].run()
    x, gain, bias = inputs((4, 24), (24,), (24,))
    normal = torch.nn.functional.layer_norm(x, (24,), gain, bias)
    torch.testing.assert_close(written((4, 24)), normal)


def test_operands_lie_side_by_side_and_begin_with_a_cache_line():
    first, second = inputs((3, 5), (7,))
    assert second.data_ptr() - first.data_ptr() == 64
    assert first.data_ptr() % 64 == 0


def test_every_kernel_finds_its_memory():
    """Carving beyond the end of the shared memory would fail; names are not used twice."""
    assert len({kernel.work.name for kernel in transformer_kernels()}) == len(transformer_kernels())
    assert all(kernel.work.cost.bytes > 0 for kernel in EVERYTHING)


def test_no_kernel_is_both_calibrated_with_and_predicted():
    predicted = {str(kernel.work.cost) for kernel in transformer_kernels()}
    calibrated = {str(k.work.cost) for ks in calibration_kernels().values() for k in ks}
    assert not predicted & calibrated
    assert len(predicted) >= 40


def test_the_kernels_span_four_powers_of_ten_in_intensity():
    intensities = [kernel.work.cost.intensity for kernel in transformer_kernels()]
    assert min(intensities) < 0.1 and max(intensities) > 1000


def fake_racer(operations):
    """Each kernel takes one, two, ... milliseconds, and up to three times as long."""
    times = {name: 1e-3 * turn for turn, name in enumerate(operations, start=1)}
    return Race({n: Timing(2 * t, (2 * t, t, 3 * t), clean=True) for n, t in times.items()})


@pytest.mark.parametrize("quick", [True, False])
def test_the_best_sample_of_every_kernel_is_kept(quick):
    times = measure_kernels(quick=quick, racer=fake_racer)
    timed = [*(each for rows in times.calibration.values() for each in rows), *times.predicted]
    assert [each.seconds for each in timed] == [1e-3 * n for n in range(1, len(timed) + 1)]
    assert len(times.predicted) == len(transformer_kernels(quick=quick))
    assert len(timed) < 60 if quick else len(timed) > 80


def test_kernels_run_in_one_thread_and_the_threads_come_back():
    before, seen = torch.get_num_threads(), []

    def racer(operations):
        seen.append(torch.get_num_threads())
        return fake_racer(operations)

    measure_kernels(quick=True, racer=racer)
    assert seen == [1]
    assert torch.get_num_threads() == before


def test_timings_are_kept_and_read_back():
    times = measure_kernels(quick=True, racer=fake_racer)
    record = json.loads(json.dumps(kernel_times_record(times)))
    again = kernel_times_from_record(record)
    assert again.predicted == times.predicted
    assert again.ratios() == times.ratios()
    assert record["command"].startswith("python -m lib.memory.kernel_times")


def test_a_record_that_predicts_nothing_is_refused():
    with pytest.raises(ValueError, match="predicts nothing, it has call"):
        kernel_times_from_record({"seconds": {"call": []}})


def test_the_command_prints_and_writes(monkeypatch, tmp_path, capsys):
    times = measure_kernels(quick=True, racer=fake_racer)
    monkeypatch.setattr(kernel_times, "measure_kernels", lambda quick: times)
    kernel_times.main(["--quick", "--json", str(tmp_path / "times.json")])
    written_times = kernel_times_from_record(json.loads((tmp_path / "times.json").read_text()))
    assert written_times.predicted == times.predicted
    printed = capsys.readouterr().out
    assert all(each.work.name in printed for each in times.predicted)
    assert all(model in printed for model in MODELS)


def test_the_committed_timings_are_predicted_as_well_as_the_book_says():
    reference = reference_kernels()
    spread = reference.spread()
    assert len(reference.predicted) >= 40
    assert 0.9 <= spread.median <= 1.1
    assert spread.geometric_spread <= 1.25
    assert spread.geometric_spread < min(
        reference.spread(model).geometric_spread for model in list(MODELS)[:-1]
    )


def test_the_committed_timings_are_those_of_the_kernels_and_say_nothing_of_their_host():
    reference = reference_kernels()
    assert [each.work for each in reference.predicted] == [k.work for k in transformer_kernels()]
    calibrated = {name: [k.work for k in ks] for name, ks in calibration_kernels().items()}
    timed = {name: [each.work for each in ks] for name, ks in reference.calibration.items()}
    assert timed == calibrated
    text = files("lib.memory").joinpath("reference_kernels.json").read_text()
    assert socket.gethostname() not in text
