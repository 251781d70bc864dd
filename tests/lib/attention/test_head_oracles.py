"""Multi-head attention against other people's: torch's modules and Hugging Face's."""

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn.attention.flex_attention import flex_attention
from transformers import BartConfig, BertConfig, LlamaConfig, T5Config
from transformers.models.bart.modeling_bart import BartAttention
from transformers.models.bert.modeling_bert import BertAttention
from transformers.models.llama.modeling_llama import LlamaAttention, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

from lib.attention.dot_product import fused_dot_product_attention, scaled_dot_product_attention
from lib.attention.multi_head import MultiHeadAttention, repeat_key_value_heads
from tests.lib.attention.head_cases import Draw, batches, copy_linear, lengths, seeds

EAGER = {"attn_implementation": "eager"}


def like(maps, **options) -> MultiHeadAttention:
    """Our module with the weights of the four linear maps of another one."""
    ours = MultiHeadAttention(bias=maps[0].bias is not None, **options).double().eval()
    for name, theirs in zip(("query", "key", "value", "output"), maps, strict=True):
        copy_linear(getattr(ours, name), theirs.weight, theirs.bias)
    return ours


def additive(mask):
    """The mask as Hugging Face wants it."""
    return torch.zeros(mask.shape).double().masked_fill(~mask, torch.finfo(torch.float64).min)


def some_for_all(mask):
    """No row without a key: there Hugging Face takes the average of everything."""
    mask[..., 0] = True
    return mask


@settings(max_examples=30)
@given(seeds, batches, lengths, lengths)
def test_torch_multi_head_attention(seed, batch, queries, keys):
    """Its masks mean the opposite: True = may not attend."""
    draw = Draw(seed)
    theirs = draw.randomised(nn.MultiheadAttention(12, 3, kdim=7, vdim=7, batch_first=True)).eval()
    ours = MultiHeadAttention(12, 3, source_size=7).double().eval()
    q_bias, k_bias, v_bias = theirs.in_proj_bias.chunk(3)
    copy_linear(ours.query, theirs.q_proj_weight, q_bias)
    copy_linear(ours.key, theirs.k_proj_weight, k_bias)
    copy_linear(ours.value, theirs.v_proj_weight, v_bias)
    copy_linear(ours.output, theirs.out_proj.weight, theirs.out_proj.bias)
    hidden, source = draw.numbers(batch, queries, 12), draw.numbers(batch, keys, 7)
    mask, padding = some_for_all(draw.mask(queries, keys)), some_for_all(draw.mask(batch, keys))
    both = mask & padding[:, None, None, :]
    output, weights = ours(hidden, source, mask=both, return_weights=True)
    for attn_mask, ignored in ((~mask, ~padding), (additive(mask), additive(padding))):
        oracle, oracle_weights = theirs(
            hidden,
            source,
            source,
            attn_mask=attn_mask,
            key_padding_mask=ignored,
            average_attn_weights=False,
        )
        torch.testing.assert_close(output, oracle)
        torch.testing.assert_close(weights, oracle_weights)
    torch.testing.assert_close(ours(hidden, source, mask=both), oracle)


def test_torch_multi_head_attention_with_one_matrix_for_all_three():
    draw = Draw()
    theirs = draw.randomised(nn.MultiheadAttention(12, 4, batch_first=True)).eval()
    ours = MultiHeadAttention(12, 4).double().eval()
    rows = zip(theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3), strict=True)
    for name, (weight, bias) in zip(("query", "key", "value"), rows, strict=True):
        copy_linear(getattr(ours, name), weight, bias)
    copy_linear(ours.output, theirs.out_proj.weight, theirs.out_proj.bias)
    hidden = draw.numbers(2, 5, 12)
    torch.testing.assert_close(ours(hidden), theirs(hidden, hidden, hidden)[0])


DISTANCES = torch.arange(6)[:, None] - torch.arange(6)
SLOPES = 2.0 ** -torch.arange(1.0, 5.0).double()
PATTERNS = {
    "causal": (
        lambda score, b, h, q, k: torch.where(q >= k, score, -torch.inf),
        {"mask": DISTANCES >= 0},
    ),
    "window": (
        lambda score, b, h, q, k: torch.where((q - k).abs() < 3, score, -torch.inf),
        {"mask": DISTANCES.abs() < 3},
    ),
    "ALiBi": (
        lambda score, b, h, q, k: torch.where(q >= k, score - SLOPES[h] * (q - k), -torch.inf),
        {"mask": DISTANCES >= 0, "bias": -SLOPES[:, None, None] * DISTANCES},
    ),
}


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile")
@pytest.mark.parametrize("name", PATTERNS)
def test_flex_attention(name):
    draw, (score_mod, options) = Draw(), PATTERNS[name]
    q = draw.numbers(2, 4, 6, 8)
    k, v = draw.numbers(2, 2, 6, 8), draw.numbers(2, 2, 6, 8)
    oracle = flex_attention(q, k, v, score_mod=score_mod, enable_gqa=True)
    torch.testing.assert_close(fused_dot_product_attention(q, k, v, **options), oracle)
    k, v = repeat_key_value_heads(k, 4), repeat_key_value_heads(v, 4)
    torch.testing.assert_close(scaled_dot_product_attention(q, k, v, **options), oracle)


def test_bert():
    draw, length = Draw(), 6
    config = BertConfig(hidden_size=12, num_attention_heads=3, **EAGER)
    theirs = draw.randomised(BertAttention(config)).eval()
    maps = [getattr(theirs.self, name) for name in ("query", "key", "value")]
    ours = like([*maps, theirs.output.dense], hidden_size=12, num_attention_heads=3)
    hidden, mask = draw.numbers(2, length, 12), some_for_all(draw.mask(2, 1, 1, length))
    output, weights = ours(hidden, mask=mask, return_weights=True)
    heads, oracle_weights = theirs.self(hidden, additive(mask))
    torch.testing.assert_close(weights, oracle_weights)
    torch.testing.assert_close(output, theirs.output.dense(heads))
    whole = theirs(hidden, additive(mask))[0]
    torch.testing.assert_close(theirs.output.LayerNorm(hidden + output), whole)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_llama(groups):
    """Its eager form takes the softmax in float32, so the output is held against the other one."""
    draw, length = Draw(), 7
    sizes = {"hidden_size": 12, "num_attention_heads": 4, "num_key_value_heads": groups}
    config = LlamaConfig(**sizes, head_dim=6, attention_bias=True, attn_implementation="sdpa")
    theirs = draw.randomised(LlamaAttention(config, 0)).eval()
    ours = like([getattr(theirs, f"{name}_proj") for name in "qkvo"], **sizes, head_dim=6)
    angle = torch.outer(torch.arange(length), torch.tensor([1.0, 0.3, 0.07])).double().repeat(1, 2)
    cos, sin = angle.cos()[None], angle.sin()[None]

    def rotary(x):
        return apply_rotary_pos_emb(x, x, cos, sin)[0]

    hidden = draw.numbers(2, length, 12)
    causal = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    output, weights = ours(hidden, is_causal=True, rotary=rotary, return_weights=True)
    oracle = theirs(hidden, (cos, sin), additive(causal))[0]
    torch.testing.assert_close(output, oracle)
    torch.testing.assert_close(ours(hidden, is_causal=True, rotary=rotary), oracle)
    config._attn_implementation = "eager"
    rounded = theirs(hidden, (cos, sin), additive(causal))[1]
    torch.testing.assert_close(weights, rounded, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decoder", [False, True])
def test_t5(decoder):
    """Not scaled, head_dim by itself, a bias of positions that the heads do not share."""
    draw, length = Draw(), 7
    config = T5Config(
        d_model=12,
        num_heads=3,
        d_kv=5,
        dropout_rate=0,
        is_decoder=decoder,
        use_cache=False,
        **EAGER,
    )
    theirs = draw.randomised(T5Attention(config, True, layer_idx=0)).eval()
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "head_dim": 5, "scale": 1.0}
    ours = like([getattr(theirs, name) for name in "qkvo"], **sizes)
    hidden = draw.numbers(2, length, 12)
    bias = theirs.compute_bias(length, length)
    mask = some_for_all(draw.mask(2, 1, length, length))
    oracle = theirs(hidden, position_bias=bias + additive(mask))[0]
    torch.testing.assert_close(ours(hidden, mask=mask, bias=bias), oracle)


def test_bart_cross_attention():
    draw = Draw()
    config = BartConfig(d_model=12, **EAGER)
    theirs = draw.randomised(BartAttention(12, 4, config=config)).eval()
    maps = [getattr(theirs, f"{name}_proj") for name in ("q", "k", "v", "out")]
    ours = like(maps, hidden_size=12, num_attention_heads=4)
    hidden, source = draw.numbers(2, 5, 12), draw.numbers(2, 7, 12)
    mask = some_for_all(draw.mask(2, 1, 5, 7))
    output, weights = ours(hidden, source, mask=mask, return_weights=True)
    oracle, oracle_weights = theirs(hidden, source, attention_mask=additive(mask))
    torch.testing.assert_close(output, oracle)
    torch.testing.assert_close(weights, oracle_weights)
    kept = ours.project_source(source)
    steps = [
        ours(hidden[:, i : i + 1], keys_values=kept, mask=mask[:, :, i, None]) for i in range(5)
    ]
    torch.testing.assert_close(torch.cat(steps, dim=1), oracle)
