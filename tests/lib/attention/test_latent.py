import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import DeepseekV2Config, DeepseekV3Config
from transformers.models.deepseek_v2 import modeling_deepseek_v2 as deepseek_v2
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek_v3

from lib.attention.latent import LatentAttention
from tests.lib.attention.head_cases import (
    Draw,
    TokenCache,
    batches,
    chunks,
    copy_linear,
    lengths,
    rotate,
    seeds,
)

SIZES = {"head_dim": 5, "latent_dim": 7, "rope_dim": 4, "value_dim": 3}
few = settings(max_examples=40)


def latent_attention(draw, heads=3, **options):
    return draw.randomised(LatentAttention(12, heads, **{**SIZES, **options}))


def at(positions):
    return lambda x: rotate(x, positions)


@few
@given(seeds, batches, lengths, st.integers(1, 4), st.sampled_from([None, 6]))
def test_absorbed_is_naive(seed, batch, length, heads, query_latent_dim):
    draw = Draw(seed)
    attention = latent_attention(draw, heads, query_latent_dim=query_latent_dim)
    hidden, mask = draw.numbers(batch, length, 12), draw.mask(batch, heads, length, length)
    for options in ({}, {"mask": mask}, {"is_causal": True}, {"mask": mask, "is_causal": True}):
        naive = attention(hidden, rotary=at(range(length)), **options)
        absorbed = attention(hidden, rotary=at(range(length)), absorbed=True, **options)
        torch.testing.assert_close(naive, absorbed)


def test_so_are_its_gradients():
    draw = Draw()
    attention, gradients = latent_attention(draw, query_latent_dim=6), []
    hidden = draw.numbers(2, 5, 12, grad=True)
    for absorbed in (False, True):
        output = attention(hidden, is_causal=True, rotary=at(range(5)), absorbed=absorbed)
        gradients.append(
            torch.autograd.grad(output.square().sum(), [hidden, *attention.parameters()])
        )
    torch.testing.assert_close(*gradients)
    assert all(gradient.any() for gradient in gradients[0])


def test_absorbed_is_multi_query_attention_whose_value_is_part_of_its_key():
    draw = Draw()
    attention, hidden = latent_attention(draw), draw.numbers(2, 6, 12)
    latent, rope_k = attention.compress(hidden, at(range(6)))
    q = attention.query(hidden).unflatten(-1, (3, 9)).transpose(1, 2)
    up_key = attention.up_key.weight.view(3, 5, 7)
    wide = torch.cat([q[..., :5] @ up_key, rotate(q[..., 5:], range(6))], dim=-1)
    key = torch.cat([latent, rope_k], dim=-1)[:, None]
    average = F.scaled_dot_product_attention(
        wide, key, latent[:, None], scale=9**-0.5, enable_gqa=True
    )
    values = average @ attention.up_value.weight.view(3, 3, 7).mT
    expected = attention.output(values.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(hidden, rotary=at(range(6)), absorbed=True), expected)


@few
@given(seeds, st.integers(1, 8), st.lists(st.integers(1, 7), max_size=4), st.booleans())
def test_cached_decoding_is_the_full_forward(seed, length, cuts, absorbed):
    draw = Draw(seed)
    attention, hidden = latent_attention(draw), draw.numbers(2, length, 12)
    full = attention(hidden, is_causal=True, rotary=at(range(length)))
    cache, outputs = TokenCache(), []
    for block in chunks(length, cuts):
        rotary = at(range(block.start, block.stop))
        outputs.append(attention(hidden[:, block], rotary=rotary, cache=cache, absorbed=absorbed))
    torch.testing.assert_close(torch.cat(outputs, dim=1), full)
    kept = sum(x.numel() for block in cache.blocks for x in block)
    assert kept == 2 * length * (SIZES["latent_dim"] + SIZES["rope_dim"])


def test_with_a_cache_the_absorbed_step_computes_less_and_without_one_the_naive_form_does():
    # DeepSeek-V2's proportions, its sizes by 16.
    sizes = {"head_dim": 8, "rope_dim": 4, "latent_dim": 32, "query_latent_dim": 96}
    attention = LatentAttention(320, 8, **sizes)

    def flops(tokens, seen, absorbed):
        cache = TokenCache()
        cache.append(torch.ones(1, seen, 32), torch.ones(1, seen, 4))
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            attention(torch.ones(1, tokens, 320), cache=cache, absorbed=absorbed)
        return counter.get_total_flops()

    assert flops(1, 1000, True) < flops(1, 1000, False) / 5
    assert flops(1000, 1, True) > flops(1000, 1, False)


@pytest.mark.parametrize("absorbed", [False, True])
def test_the_future_cannot_change_the_past_and_blind_rows_are_zero(absorbed):
    draw = Draw()
    attention, hidden = latent_attention(draw), draw.numbers(2, 6, 12, grad=True)
    other = torch.cat([hidden[:, :3], draw.numbers(2, 3, 12)], dim=1)
    before, after = (attention(x, is_causal=True, absorbed=absorbed) for x in (hidden, other))
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=1e-14)
    assert not torch.allclose(before[:, 3:], after[:, 3:])
    mask = draw.mask(6, 6)
    mask[2] = False
    output = attention(hidden, mask=mask, absorbed=absorbed)
    assert (output[:, 2] == 0).all()
    output.sum().backward()
    assert all(x.grad.isfinite().all() for x in (hidden, *attention.parameters()))


def twin(theirs, **options):
    """Ours with the weights of a DeepSeek module, whose maps are joined two by two."""
    ours = LatentAttention(12, 3, **SIZES, **options).double()
    if theirs.q_lora_rank is None:
        copy_linear(ours.query, theirs.q_proj.weight)
    else:
        down, norm, up = ours.query
        copy_linear(down, theirs.q_a_proj.weight)
        copy_linear(norm, theirs.q_a_layernorm.weight)
        copy_linear(up, theirs.q_b_proj.weight)
    latent, rope_key = theirs.kv_a_proj_with_mqa.weight.split([7, 4])
    up_key, up_value = theirs.kv_b_proj.weight.view(3, 8, 7).split([5, 3], dim=1)
    copy_linear(ours.down, latent)
    copy_linear(ours.rope_key, rope_key)
    copy_linear(ours.latent_norm, theirs.kv_a_layernorm.weight)
    copy_linear(ours.up_key, up_key.flatten(0, 1))
    copy_linear(ours.up_value, up_value.flatten(0, 1))
    copy_linear(ours.output, theirs.o_proj.weight)
    return ours


def deepseek(draw, module, config_class, query_latent_dim, **options):
    config = config_class(
        hidden_size=12,
        num_attention_heads=3,
        num_key_value_heads=3,
        q_lora_rank=query_latent_dim,
        kv_lora_rank=7,
        qk_nope_head_dim=5,
        qk_rope_head_dim=4,
        v_head_dim=3,
        attn_implementation="sdpa",
        **options,
    )
    name = f"{config_class.__name__.removesuffix('Config')}Attention"
    theirs = draw.randomised(getattr(module, name)(config, 0)).eval()
    # Their RMSNorm squares in float32, also of float64.
    for name in ("q_a_layernorm", "kv_a_layernorm"):
        norm = getattr(theirs, name, None)
        if norm is not None:
            exact = nn.RMSNorm(norm.weight.shape[0], eps=norm.variance_epsilon).double()
            exact.weight = norm.weight
            setattr(theirs, name, exact)
    return theirs


def causal_for_them(length):
    return torch.full((1, 1, length, length), float("-inf")).double().triu(1)


@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize("query_latent_dim", [None, 6])
@pytest.mark.parametrize("interleaved", [False, True])
def test_deepseek_v3(interleaved, query_latent_dim, absorbed):
    draw, length = Draw(), 6
    theirs = deepseek(
        draw, deepseek_v3, DeepseekV3Config, query_latent_dim, rope_interleave=interleaved
    )
    ours, hidden = twin(theirs, query_latent_dim=query_latent_dim), draw.numbers(2, length, 12)
    angle = torch.outer(torch.arange(length), torch.tensor([1.0, 0.01])).double().repeat(1, 2)
    tables = angle.cos()[None], angle.sin()[None]
    turn = "apply_rotary_pos_emb_interleave" if interleaved else "apply_rotary_pos_emb"

    def rotary(x):
        return getattr(deepseek_v3, turn)(x, x, *tables)[0]

    oracle = theirs(hidden, tables, causal_for_them(length))[0]
    result = ours(hidden, is_causal=True, rotary=rotary, absorbed=absorbed)
    torch.testing.assert_close(result, oracle)
    assert not torch.allclose(ours(hidden, is_causal=True, absorbed=absorbed), oracle)


@pytest.mark.parametrize("query_latent_dim", [None, 6])
def test_deepseek_v2(query_latent_dim):
    """It rotates in float32 as complex numbers, hence the tolerance."""
    draw, length = Draw(), 6
    theirs = deepseek(draw, deepseek_v2, DeepseekV2Config, query_latent_dim)
    ours, hidden = twin(theirs, query_latent_dim=query_latent_dim), draw.numbers(2, length, 12)
    angle = torch.outer(torch.arange(length), torch.tensor([1.0, 0.01])).float()
    turns = torch.polar(torch.ones_like(angle), angle)[None]

    def rotary(x):
        return deepseek_v2.apply_rotary_emb(x, x, turns)[0]

    oracle = theirs(hidden, causal_for_them(length), position_embeddings=turns)[0]
    torch.testing.assert_close(
        ours(hidden, is_causal=True, rotary=rotary), oracle, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["head_dim", "latent_dim", "rope_dim", "value_dim"])
def test_sizes_that_are_none(import_unchecked, name):
    latent = import_unchecked("lib.attention.latent")
    with pytest.raises(ValueError, match=f"{name} must be a positive whole number.*got 0"):
        latent.LatentAttention(12, 3, **{**SIZES, name: 0})
    with pytest.raises(ValueError, match=r"query_latent_dim must be a positive.*got -1"):
        latent.LatentAttention(12, 3, **SIZES, query_latent_dim=-1)


@pytest.mark.parametrize("absorbed", [False, True])
def test_a_mask_that_does_not_fit(import_unchecked, absorbed):
    attention = import_unchecked("lib.attention.latent").LatentAttention(12, 3, **SIZES)
    with pytest.raises(ValueError, match=r"mask of shape \(3, 5\) does not fit"):
        attention(torch.ones(1, 3, 12), mask=torch.ones(3, 5) > 0, absorbed=absorbed)
