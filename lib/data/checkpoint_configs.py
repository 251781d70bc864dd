"""The sizes in a checkpoint's `config.json`, and the model of ours that they describe."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from lib.models.bert import Bert
from lib.models.configs import (
    BertConfig,
    Config,
    GptConfig,
    LlamaConfig,
    T5Config,
    VitConfig,
)
from lib.models.gpt2 import Gpt2
from lib.models.llama import Llama
from lib.models.t5 import T5
from lib.models.vit import Vit


@dataclass(frozen=True)
class Family:
    """The models of one `model_type`: our class for them, and how their sizes are called there.

    `sizes` gives the name of each size there, `assumed` what our class can do of their options:
    the values of each, of which the first is what a file means that does not name the option.
    `renamed` are patterns that turn the names of tensors as old files write them into today's.
    """

    model: Callable[[Any], nn.Module]
    config: type[Config]
    sizes: Mapping[str, str]
    assumed: Mapping[str, tuple]
    renamed: Mapping[str, str] = field(default_factory=dict)

    def todays_name(self, name: str) -> str:
        """The name of a tensor as `lib.models.hugging_face` knows it."""
        for pattern, replacement in self.renamed.items():
            name = re.sub(pattern, replacement, name)
        return name


_COMMON = {
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
}

FAMILIES = {
    "bert": Family(
        Bert,
        BertConfig,
        {
            **_COMMON,
            "vocab_size": "vocab_size",
            "max_positions": "max_position_embeddings",
            "num_segments": "type_vocab_size",
            "eps": "layer_norm_eps",
            "dropout": "hidden_dropout_prob",
        },
        {"hidden_act": ("gelu",), "position_embedding_type": ("absolute",)},
        {r"LayerNorm\.gamma$": "LayerNorm.weight", r"LayerNorm\.beta$": "LayerNorm.bias"},
    ),
    "gpt2": Family(
        Gpt2,
        GptConfig,
        {
            "vocab_size": "vocab_size",
            "hidden_size": "n_embd",
            "num_layers": "n_layer",
            "num_attention_heads": "n_head",
            "intermediate_size": "n_inner",
            "max_positions": "n_positions",
            "eps": "layer_norm_epsilon",
            "dropout": "resid_pdrop",
        },
        {
            "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "tie_word_embeddings": (True,),
        },
    ),
    "t5": Family(
        T5,
        T5Config,
        {
            "vocab_size": "vocab_size",
            "hidden_size": "d_model",
            "num_layers": "num_layers",
            "num_attention_heads": "num_heads",
            "head_dim": "d_kv",
            "intermediate_size": "d_ff",
            "num_buckets": "relative_attention_num_buckets",
            "max_distance": "relative_attention_max_distance",
            "eps": "layer_norm_epsilon",
            "tied": "tie_word_embeddings",
            "dropout": "dropout_rate",
        },
        {"feed_forward_proj": ("relu", "gated-gelu")},
    ),
    "llama": Family(
        Llama,
        LlamaConfig,
        {
            **_COMMON,
            "vocab_size": "vocab_size",
            "num_key_value_heads": "num_key_value_heads",
            "max_positions": "max_position_embeddings",
            "rope_base": "rope_theta",
            "tied": "tie_word_embeddings",
            "eps": "rms_norm_eps",
        },
        {
            "hidden_act": ("silu",),
            "attention_bias": (False,),
            "mlp_bias": (False,),
            "rope_type": ("default",),
        },
    ),
    "vit": Family(
        Vit,
        VitConfig,
        {
            **_COMMON,
            "vocab_size": "num_labels",
            "image_size": "image_size",
            "patch_size": "patch_size",
            "num_channels": "num_channels",
            "eps": "layer_norm_eps",
            "dropout": "hidden_dropout_prob",
        },
        {"hidden_act": ("gelu",), "qkv_bias": (True,)},
        {
            r"encoder\.layer\.": "layers.",
            r"attention\.attention\.(.)\w+": r"attention.\1_proj",
            r"attention\.output\.dense": "attention.o_proj",
            r"intermediate\.dense": "mlp.fc1",
            r"output\.dense": "mlp.fc2",
        },
    ),
}
"""Their `model_type` to ours."""

# What their classes take where config.json is silent and our presets say something else.
_SILENT: dict[str, dict[str, Any]] = {
    "gpt2": {"n_inner": None},
    "llama": {"tie_word_embeddings": False, "rope_theta": 10_000.0, "rms_norm_eps": 1e-6},
    "vit": {"num_labels": 2},
}


def model_family(described: Mapping[str, Any]) -> Family:
    """The family of a `config.json`. Raises `ValueError` for a `model_type` that is not there."""
    kind = described.get("model_type")
    if kind not in FAMILIES:
        raise ValueError(f"the model type {kind!r} is not one of {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def model_config(described: Mapping[str, Any]) -> Config:
    """Our sizes for the content of a `config.json`; what it leaves out has their default.

    Raises `ValueError` for an unknown architecture, and for options that our models do not have.
    """
    family, described = model_family(described), _flattened(described)
    for option, allowed in family.assumed.items():
        value = described.get(option, allowed[0])
        if value not in allowed:
            listed = " or ".join(map(repr, allowed))
            raise ValueError(f"{option} is {value!r} in the checkpoint, expected {listed}")
    sizes = {ours: described[name] for ours, name in family.sizes.items() if name in described}
    return family.config(**sizes, **_gated(described))


def _flattened(described: Mapping[str, Any]) -> dict[str, Any]:
    """One level, and under one name each, of what versions of their library write differently."""
    kind = described["model_type"]
    rope = described.get("rope_parameters") or described.get("rope_scaling") or {}
    flat = {**_SILENT.get(kind, {}), **described, **rope}
    if kind == "gpt2" and flat["n_inner"] is None:
        flat["n_inner"] = 4 * flat.get("n_embd", GptConfig.hidden_size)
    if kind == "t5":  # The name since transformers 5, which no longer unties the matrices.
        flat["tie_word_embeddings"] = flat.get(
            "scale_decoder_outputs", flat.get("tie_word_embeddings", True)
        )
    if kind == "llama":
        flat.setdefault("num_key_value_heads", flat.get("num_attention_heads"))
        flat.setdefault("rope_type", flat.get("type", "default"))
        _check_head_dim(flat)
    if "id2label" in flat:
        flat["num_labels"] = len(flat["id2label"])
    return flat


def _check_head_dim(described: Mapping[str, Any]) -> None:
    width, heads = described.get("hidden_size"), described.get("num_attention_heads")
    head_dim = described.get("head_dim")
    if head_dim is not None and width is not None and heads and head_dim * heads != width:
        raise ValueError(
            f"head_dim is {head_dim} in the checkpoint, expected hidden_size / "
            f"num_attention_heads = {width} / {heads}"
        )


def _gated(described: Mapping[str, Any]) -> dict[str, Any]:
    if described.get("feed_forward_proj") == "gated-gelu":
        return {"gated": True, "activation": "gelu_tanh"}
    return {}
