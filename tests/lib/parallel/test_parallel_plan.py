"""The planner, against the formulas added up by hand."""

from dataclasses import replace
from functools import cache
from math import prod

import pytest

from lib.memory import EXERCISE_7B, ModelShape, activation_bytes, device, layer_costs, lm_head
from lib.memory import communication as sent
from lib.memory.parallel_plan import plan_parallel
from lib.memory.sharding import pipeline_bubble, zero_state_bytes

GPT_3 = ModelShape(
    num_layers=96,
    hidden_size=12_288,
    num_attention_heads=96,
    num_key_value_heads=96,
    head_dim=128,
    intermediate_size=4 * 12_288,
    vocab_size=50_304,  # the tokens, and as many more as 128 ranks can divide
)
H100 = device("H100")
NETWORK = 50e9


@cache
def plans(num_devices=64, shape=GPT_3, **options):
    options = {"batch_size": 512, "seq_len": 2048, "network_bandwidth": NETWORK, **options}
    return {
        (plan.data, plan.tensor, plan.pipeline, plan.zero): plan
        for plan in plan_parallel(shape, H100, num_devices, **options)
    }


def test_every_division_is_there():
    every = plans()
    assert {prod(key[:3]) for key in every} == {64}
    triples = {key[:3] for key in every}
    assert len(triples) == 28  # 6 twos, in three places
    assert all((d, t, p, zero) in every for d, t, p in triples for zero in range(4 if d > 1 else 1))
    assert len(every) == 7 + 21 * 4


def test_a_plan_by_hand():
    """4 x 8 x 2 with ZeRO-1: the first stage of two is the fullest, and keeps two of 128."""
    plan = plans()[4, 8, 2, 1]
    parameters = 48 * 12 * 12_288**2 // 8 + 50_304 * 12_288 // 8
    part = replace(
        GPT_3, num_attention_heads=12, num_key_value_heads=12, intermediate_size=6 * 1024
    )
    layer = activation_bytes(part, batch_size=1, seq_len=2048, dropout=False, fused=True)
    states = zero_state_bytes(parameters, 4, stage=1)
    assert plan.memory == {
        **states,
        "layer in use": 0,
        "activations": 48 * 2 * sum(layer.values()),
        "logits": 0,
    }
    assert plan.bubble == pipeline_bubble(2, 128)
    stream = 2 * 2048 * 12_288
    data = sent.zero_traffic_bytes(parameters, 4, stage=1)
    tensor = 128 * (4 * 48 + 1) * sent.all_reduce_bytes(stream, 8)
    scores = 128 * 3 * sent.all_reduce_bytes(4 * 2048, 8)
    assert plan.traffic == {"data": data, "tensor": tensor + scores, "pipeline": 128 * stream}
    seconds = (tensor + scores) / 450e9 + (data + 128 * stream) / NETWORK
    assert plan.communication_seconds == pytest.approx(seconds)
    costs = layer_costs(GPT_3, batch_size=512, queries=2048, keys=2048).values()
    head = lm_head(rows=512 * 2048, hidden_size=12_288, vocab_size=50_304).flops
    flops = 3 * (96 * sum(cost.flops for cost in costs) + head)
    assert plan.computing_seconds == pytest.approx(flops / (64 * 989.4e12) * 129 / 128)


def test_what_fits_and_why_not():
    every = plans()
    assert "GB of 80.0 GB" in every[64, 1, 1, 0].obstacle
    assert (
        "2,8" in every[64, 1, 1, 0].obstacle and "optimizer states" in every[64, 1, 1, 0].obstacle
    )
    assert not every[64, 1, 1, 0].fits
    for plan in every.values():
        if plan.memory:
            assert plan.fits == (plan.bytes_per_device <= H100.memory_bytes)
    assert any(plan.fits for plan in plans(checkpointing=True).values())


def test_more_is_less():
    """Each stage of ZeRO needs less than the one before for the states; checkpointing, too."""
    states = ("weights", "gradients", "master weights", "optimizer states")
    for d, t, p, zero in plans():
        plan, checkpointed = plans()[d, t, p, zero], plans(checkpointing=True)[d, t, p, zero]
        if not plan.memory:
            continue
        assert checkpointed.memory["activations"] <= plan.memory["activations"] * 1.03
        assert checkpointed.computing_seconds > plan.computing_seconds
        if zero:
            before = plans()[d, t, p, zero - 1]
            assert sum(plan.memory[name] for name in states) < sum(
                before.memory[name] for name in states
            )


def test_what_cannot_be_divided_says_so():
    heads = replace(GPT_3, num_attention_heads=12, num_key_value_heads=12)
    by_five = plans(5, heads, batch_size=10)
    assert "5" in by_five[1, 5, 1, 0].obstacle and "heads" in by_five[1, 5, 1, 0].obstacle
    assert by_five[1, 5, 1, 0].memory == {} and not by_five[1, 5, 1, 0].fits
    assert "96 / 5 leaves 1" in by_five[1, 1, 5, 0].obstacle
    shallow = plans(4, replace(GPT_3, num_layers=3), batch_size=10)
    assert "3 layers do not make 4 stages" in shallow[1, 1, 4, 0].obstacle
    assert "batch of 10" in shallow[4, 1, 1, 0].obstacle


def test_an_unknown_bandwidth_gives_no_time():
    unknown = plans(16, network_bandwidth=None)
    assert unknown[1, 16, 1, 0].communication_seconds is None
    assert unknown[2, 8, 1, 0].communication_seconds is None
    assert plans(8, network_bandwidth=None)[1, 8, 1, 0].communication_seconds > 0
    fast, slow = (plans(8, link_bandwidth=each)[1, 8, 1, 0] for each in (2e11, 1e11))
    assert slow.communication_seconds == pytest.approx(2 * fast.communication_seconds)


def test_one_device_sends_nothing():
    (plan,) = plans(1, EXERCISE_7B, batch_size=8).values()
    assert set(plan.traffic.values()) == {0} and plan.communication_seconds == 0
    assert plan.bubble == 0
    assert "GB of 80.0 GB" in plan.obstacle


def test_reserved_bytes_are_for_others():
    options = {"num_devices": 2, "shape": EXERCISE_7B, "checkpointing": True}
    (key, fits), *_ = [(key, plan) for key, plan in plans(**options).items() if plan.fits]
    free = H100.memory_bytes - fits.bytes_per_device
    assert plans(**options, reserved_bytes=free)[key].fits
    assert not plans(**options, reserved_bytes=free + 1)[key].fits
