"""The formulas by hand, in symbols, and against numbers that papers print.

That they count what is really sent and kept is the matter of `parallel_steps`.
"""

from dataclasses import replace
from fractions import Fraction

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from lib.memory import EXERCISE_7B, LLAMA_3_8B, ModelShape, activation_bytes, device, sharding
from lib.memory import communication as sent

n, m, p, psi = sympy.symbols("n m p Psi", positive=True, integer=True)
b, t, d, a, layers = sympy.symbols("b t d a L", positive=True, integer=True)


def test_a_ring_sends_hardly_more_for_many_ranks():
    assert sent.all_reduce_bytes(240, 2) == 240
    assert sent.all_reduce_bytes(240, 8) == 420
    assert sympy.limit(sent.all_reduce_bytes(psi, n), n, sympy.oo) == 2 * psi
    assert sent.central_all_reduce_bytes(240, 8) == 7 * 240
    assert sent.reduce_scatter_bytes(10, 3) == Fraction(20, 3)
    assert type(sent.all_gather_bytes(240, 8)) is int


@given(st.integers(1, 10**9), st.integers(1, 1000))
def test_an_all_reduce_is_its_two_halves(num_bytes, ranks):
    halves = sent.reduce_scatter_bytes(num_bytes, ranks) + sent.all_gather_bytes(num_bytes, ranks)
    assert sent.all_reduce_bytes(num_bytes, ranks) == halves
    symbolic = sent.all_reduce_bytes(psi, n).subs({psi: num_bytes, n: ranks})
    assert symbolic == sympy.Rational(halves)


def test_the_gradients_of_bert_base_on_eight_gpus():
    """220 MB at 300 GB/s take 1.28 ms, not the 0.12 ms that some print."""
    seconds = sent.all_reduce_seconds(220_000_000, 8, bandwidth=300e9)
    assert seconds == pytest.approx(1.2833e-3, rel=1e-4)
    late = sent.all_reduce_seconds(220_000_000, 8, bandwidth=300e9, latency=1e-6)
    assert late == pytest.approx(seconds + 14e-6)


def test_only_the_third_stage_of_zero_sends_more():
    """Rajbhandari et al., section 7: 2 Psi for stages 1 and 2, 3 Psi for stage 3."""
    stages = [sent.zero_traffic_bytes(psi, n, stage=stage, gradient_bytes=2) for stage in range(4)]
    ratios = [sympy.simplify(each / stages[0]) for each in stages]
    assert ratios == [1, 1, 1, sympy.Rational(3, 2)]
    twice = sent.zero_traffic_bytes(psi, n, stage=2, num_micro_batches=2)
    assert sympy.simplify(twice / stages[0]) == sympy.Rational(3, 2)


def test_the_table_of_the_zero_paper():
    """Its table 1: 7.5B parameters on 64 GPUs, in GB, with 16 bytes a parameter."""
    printed = {0: 120, 1: 31.4, 2: 16.6, 3: 1.88}
    for stage, gigabytes in printed.items():
        states = sharding.zero_state_bytes(7_500_000_000, 64, stage=stage)
        assert float(sum(states.values())) / 1e9 == pytest.approx(gigabytes, rel=0.005)


def test_bytes_of_a_parameter_by_stage():
    states = [sum(sharding.zero_state_bytes(1, n, stage=stage).values()) for stage in range(4)]
    assert [sympy.simplify(each) for each in states] == [16, 4 + 12 / n, 2 + 14 / n, 16 / n]


def test_gpt_3_on_64_gpus_is_more_than_its_weights():
    states = sharding.zero_state_bytes(175_000_000_000, 64, stage=3)
    assert float(sum(states.values())) / 1e9 == pytest.approx(43.75)


def test_activations_of_a_tensor_parallel_rank():
    """Korthikanti et al., equation 2: s b h (10 + 24 / t + 5 a s / (h t))."""
    shape = ModelShape(layers, d, a, a, d / a, 4 * d, psi)
    part = sharding.tensor_parallel_shape(shape, n)
    kept = sum(activation_bytes(part, batch_size=b, seq_len=t).values())
    statistics = 4 * 4 * b * t
    expected = t * b * d * (10 + 24 / n + 5 * a * t / (d * n))
    assert sympy.simplify(kept - statistics - expected) == 0


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([EXERCISE_7B, LLAMA_3_8B]))
def test_ranks_and_stages_divide_the_parameters(parts, shape):
    of_rank = sharding.tensor_parallel_shape(shape, parts)
    assert of_rank.num_parameters * parts == shape.num_parameters
    stages = [
        sharding.stage_parameters(shape, stage=stage, num_stages=parts) for stage in range(parts)
    ]
    assert sum(stages) == shape.num_parameters


def test_tensor_parallelism_sends_more_than_data_parallelism():
    """BERT-base, 32 sequences of 512: 50.3M elements a layer against 7.1M gradients."""
    layer = sent.tensor_parallel_bytes(
        num_layers=1, hidden_size=768, batch_size=32, seq_len=512, num_ranks=8
    )
    parameters = 4 * 768**2 + 2 * 768 * 3072
    gradients = sent.zero_traffic_bytes(parameters, 8, stage=0)
    assert layer / gradients == pytest.approx(7.1, rel=0.01)


def test_a_pipeline_sends_little_and_the_ends_half():
    sizes = {"hidden_size": 4096, "batch_size": 8, "seq_len": 2048}
    stream = sent.residual_stream_bytes(8, 2048, 4096)
    stages = [sent.pipeline_bytes(stage=stage, num_stages=4, **sizes) for stage in range(4)]
    assert stages == [stream, 2 * stream, 2 * stream, stream]
    assert sent.pipeline_bytes(stage=0, num_stages=1, **sizes) == 0
    symbols = sent.pipeline_bytes(stage=1, num_stages=3, hidden_size=d, batch_size=b, seq_len=t)
    assert symbols == 4 * b * t * d


def test_the_bubble_in_symbols():
    assert sharding.pipeline_bubble(p, m) == (p - 1) / (m + p - 1)
    assert sharding.pipeline_bubble(1, 5) == 0
    in_flight = sharding.micro_batches_in_flight("1f1b", stage=0, num_stages=p, num_micro_batches=m)
    assert in_flight == sympy.Min(m, p)


def test_activations_of_a_stage():
    """Two layers a stage; GPipe keeps eight micro-batches of them, 1F1B three."""
    shape = replace(EXERCISE_7B, num_layers=8)
    sizes = {"stage": 1, "num_stages": 4, "num_micro_batches": 8, "micro_batch_size": 2}
    one = sum(activation_bytes(shape, batch_size=2, seq_len=512, fused=True).values())
    kept = {
        schedule: sharding.stage_activation_bytes(shape, schedule, seq_len=512, fused=True, **sizes)
        for schedule in sharding.PIPELINE_SCHEDULES
    }
    assert kept == {"gpipe": 2 * 8 * one, "1f1b": 2 * 3 * one}


@pytest.mark.parametrize(
    ("key", "one_direction"),
    [("V100", 150e9), ("A100-80GB", 300e9), ("H100", 450e9), ("H200", 450e9), ("B200", 900e9)],
)
def test_the_links_between_devices(key, one_direction):
    assert device(key).specs["link_bandwidth"] == one_direction
    assert "link_bandwidth" not in device("L4").specs
