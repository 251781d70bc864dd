"""How many parameters the presets have: as published, as the formulas say, as Hugging Face has it.

On the meta device a model has shapes and no numbers, so that 175 billion parameters fit.
"""

import ast
import tokenize
from dataclasses import fields, replace
from io import BytesIO
from pathlib import Path

import pytest
import sympy
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.memory.parameters import num_parameters, pooler_parameters
from lib.models import (
    PRESETS,
    T5,
    Albert,
    Bert,
    Gpt1,
    Gpt2,
    Gpt3,
    Llama,
    Transformer,
    Vit,
    configs,
    preset,
)

MODELS = {
    configs.BertConfig: Bert,
    configs.AlbertConfig: Albert,
    configs.Gpt1Config: Gpt1,
    configs.GptConfig: Gpt2,
    configs.Gpt3Config: Gpt3,
    configs.T5Config: T5,
    configs.LlamaConfig: Llama,
    configs.TransformerConfig: Transformer,
    configs.VitConfig: Vit,
}

PUBLISHED = {
    "bert-base-uncased": 108_891_648,
    "bert-large-uncased": 334_092_288,
    "all-MiniLM-L6-v2": 22_565_376,
    "openai-gpt": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "SmolLM2-135M": 134_515_008,
    "vit-base": 86_567_656,
}
"""Of the published checkpoints; BERT's without the pooler."""

GPT3_IN_BILLIONS = {
    "gpt3-small": 0.125,
    "gpt3-medium": 0.350,
    "gpt3-large": 0.760,
    "gpt3-xl": 1.3,
    "gpt3-2.7b": 2.7,
    "gpt3-6.7b": 6.7,
    "gpt3-13b": 13.0,
    "gpt3-175b": 175.0,
}
"""Table 2.1 of the paper, rounded there."""


def count(build):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())


def count_ours(config):
    return count(lambda: MODELS[type(config)](config))


@pytest.mark.parametrize("name", PRESETS)
def test_the_formula_counts_what_the_model_has(name):
    config = preset(name)
    parameters = count_ours(config)
    assert num_parameters(config) == parameters == PUBLISHED.get(name, parameters)


@pytest.mark.parametrize("name", GPT3_IN_BILLIONS)
def test_gpt3_has_as_many_as_its_paper_says(name):
    assert num_parameters(preset(name)) == pytest.approx(1e9 * GPT3_IN_BILLIONS[name], rel=0.025)


def test_bert_base_with_its_pooler():
    assert num_parameters(preset("bert-base-uncased")) + pooler_parameters(768) == 109_482_240


def hf_bert(c):
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=c.vocab_size,
            hidden_size=c.hidden_size,
            num_hidden_layers=c.num_layers,
            num_attention_heads=c.num_attention_heads,
            intermediate_size=c.intermediate_size,
        ),
        add_pooling_layer=False,
    )


def hf_albert(c):
    sizes = {"hidden_size": c.hidden_size, "num_attention_heads": c.num_attention_heads}
    wide = {"intermediate_size": c.intermediate_size, "num_hidden_layers": c.num_layers}
    config = transformers.AlbertConfig(**sizes, **wide)
    return transformers.AlbertModel(config, add_pooling_layer=False)


def hf_gpt1(c):
    return transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig())


def hf_gpt2(c):
    sizes = {"n_embd": c.hidden_size, "n_layer": c.num_layers, "n_head": c.num_attention_heads}
    config = transformers.GPT2Config(**sizes, n_positions=c.max_positions)
    return transformers.GPT2LMHeadModel(config)


def hf_t5(c):
    config = transformers.T5Config(
        d_model=c.hidden_size,
        d_kv=c.head_dim,
        d_ff=c.intermediate_size,
        num_layers=c.num_layers,
        num_heads=c.num_attention_heads,
    )
    return transformers.T5ForConditionalGeneration(config)


def hf_llama(c):
    config = transformers.LlamaConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_layers,
        num_attention_heads=c.num_attention_heads,
        num_key_value_heads=c.num_key_value_heads,
        tie_word_embeddings=True,
    )
    return transformers.LlamaForCausalLM(config)


def hf_vit(c):
    return transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1_000))


THEIRS = {
    configs.BertConfig: hf_bert,
    configs.AlbertConfig: hf_albert,
    configs.Gpt1Config: hf_gpt1,
    configs.GptConfig: hf_gpt2,
    configs.Gpt3Config: hf_gpt2,
    configs.T5Config: hf_t5,
    configs.LlamaConfig: hf_llama,
    configs.VitConfig: hf_vit,
}


@pytest.mark.parametrize("name", [name for name in PRESETS if type(preset(name)) in THEIRS])
def test_hugging_face_counts_the_same(name):
    config = preset(name)
    if type(config) not in (configs.Gpt1Config, configs.VitConfig):
        # Two layers of the large ones suffice, the formula being linear in their number.
        config = replace(config, num_layers=2)
    assert count(lambda: THEIRS[type(config)](config)) == num_parameters(config)


@st.composite
def small_configs(draw):
    kind = draw(st.sampled_from(list(MODELS)))
    size = st.integers(1, 9)
    heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    sizes = {
        "num_layers": draw(st.integers(1, 3)),
        "num_attention_heads": heads * groups,
        "hidden_size": heads * groups * 2 * draw(st.integers(1, 3)),
        "num_key_value_heads": groups,
        "image_size": 4 * draw(st.integers(1, 3)),
        "patch_size": draw(st.sampled_from([1, 2, 4])),
        "num_buckets": 4 * draw(st.integers(1, 4)),
        "activation": "relu",
    }
    values = {}
    for each in fields(kind):
        if each.type is bool:
            values[each.name] = draw(st.booleans())
        elif each.name in sizes:
            values[each.name] = sizes[each.name]
        elif each.type is int and each.name != "max_distance":
            values[each.name] = draw(size)
    return kind(**values)


@given(small_configs())
@settings(max_examples=60)
def test_the_formula_counts_random_models_too(config):
    assert num_parameters(config) == count_ours(config)


def test_the_formula_for_symbols():
    """The exercise sheet's 12 d² a layer, and what it leaves out."""
    d, n, v, p = sympy.symbols("d n v p", positive=True, integer=True)

    class GptConfig:
        hidden_size, num_layers, vocab_size, max_positions = d, n, v, p
        intermediate_size = 4 * d

    formula = sympy.expand(num_parameters(GptConfig()))
    assert formula == sympy.expand(n * (12 * d**2 + 13 * d) + (v + p) * d + 2 * d)


def lines_of_code(path):
    """Lines without the blank ones, comments, docstrings and imports."""
    source = path.read_bytes()
    kept = set()
    for token in tokenize.tokenize(BytesIO(source).readline):
        if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING):
            kept.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or isinstance(node, ast.Import | ast.ImportFrom):
            kept -= set(range(node.lineno, node.end_lineno + 1))
    return len(kept)


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_each_of_the_three_models_fits_on_a_page(name):
    path = Path(__file__).parents[3] / "lib" / "models" / f"{name}.py"
    assert 20 < lines_of_code(path) <= 60


def test_lines_of_code_leaves_out_what_is_none(tmp_path):
    path = tmp_path / "module.py"
    path.write_text('"""Doc\nstring."""\n\nimport os\n\n# comment\nx = f(\n    1\n)\n')
    assert lines_of_code(path) == 3
