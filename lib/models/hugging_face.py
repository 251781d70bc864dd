"""The names that Hugging Face's checkpoints give to the tensors of these models, both ways.

Published weights come under those names. Where one tensor of theirs holds several of ours (GPT-2's
query, key and value in one matrix) or is stored the other way round (GPT-2's matrices), its `Entry`
says so. Written for transformers 5.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib.models.albert import Albert
from lib.models.bert import Bert
from lib.models.configs import (
    AlbertConfig,
    BertConfig,
    Gpt1Config,
    GptConfig,
    LlamaConfig,
    T5Config,
    VitConfig,
)
from lib.models.electra import Electra
from lib.models.gpt1 import Gpt1
from lib.models.gpt2 import Gpt2
from lib.models.heads import (
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from lib.models.llama import Llama
from lib.models.t5 import T5
from lib.models.vit import Vit

StateDict = dict[str, Tensor]

PREFIXES = ("bert.", "albert.", "electra.", "transformer.", "model.", "vit.")
NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Entry:
    """One tensor of a checkpoint, and the parameters it becomes, stacked along their first side."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    shape: tuple[int, ...] | None = None

    def split(self, tensor: Tensor) -> StateDict:
        """Their tensor as our parameters."""
        tensor = tensor.flatten(start_dim=1) if self.shape else tensor
        parts = (tensor.mT if self.transposed else tensor).chunk(len(self.ours))
        return {name: part.contiguous() for name, part in zip(self.ours, parts, strict=True)}

    def join(self, state: Mapping[str, Tensor]) -> Tensor:
        """Our parameters as their tensor."""
        tensor = torch.cat([state[name] for name in self.ours])
        tensor = tensor.mT if self.transposed else tensor
        return (tensor.reshape(self.shape) if self.shape else tensor).contiguous()


def entries(model: nn.Module) -> list[Entry]:
    """All tensors of this model, under the names of Hugging Face's counterpart.

    Raises `ValueError` for a model that has none there.
    """
    if type(model) not in _ENTRIES:
        raise ValueError(f"no counterpart of {type(model).__name__} at Hugging Face is known")
    return list(_ENTRIES[type(model)](model.config))


def from_hugging_face(state: Mapping[str, Tensor], model: nn.Module) -> StateDict:
    """A state dict for `model` out of their tensors; heads it has no place for are left out.

    The name of the part that their models with heads wrap (`bert.`, `transformer.`) may be there or
    not. Raises `ValueError` that names what is missing, has another shape, or belongs to a layer
    that `model` does not have.
    """
    ours, used = {}, set()
    for entry in entries(model):
        name = _find(state, entry.theirs)
        try:
            ours |= entry.split(state[name])
        except (RuntimeError, ValueError):
            raise ValueError(
                f"{name} of the shape {tuple(state[name].shape)} in the checkpoint cannot be made "
                f"into {', '.join(entry.ours)}"
            ) from None
        used.add(name)
    _check_layers(state, used)
    for name, parameter in model.state_dict().items():
        if name in ours and ours[name].shape != parameter.shape:
            raise ValueError(
                f"{name} has the shape {tuple(parameter.shape)} here, "
                f"but {tuple(ours[name].shape)} in the checkpoint"
            )
    return ours


def to_hugging_face(model: nn.Module) -> StateDict:
    """The parameters of `model` under the names of Hugging Face's counterpart."""
    state = model.state_dict()
    return {entry.theirs: entry.join(state) for entry in entries(model)}


def _check_layers(state: Mapping[str, Tensor], used: set[str]) -> None:
    """Raise `ValueError` for a tensor that is named like a used one but for its numbers."""
    of_any_layer = {NUMBER.sub("*", name) for name in used if NUMBER.search(name)}
    more = [name for name in state if name not in used and NUMBER.sub("*", name) in of_any_layer]
    if more:
        raise ValueError(
            f"the checkpoint has {len(more)} tensors of layers that this model lacks: {_some(more)}"
        )


def _find(state: Mapping[str, Tensor], name: str) -> str:
    """The name of this tensor in a checkpoint, with or without a prefix."""
    bare = next((name.removeprefix(p) for p in PREFIXES if name.startswith(p)), name)
    for candidate in (name, bare, *(prefix + bare for prefix in PREFIXES)):
        if candidate in state:
            return candidate
    raise ValueError(f"the checkpoint has no {name}, but {len(state)} others: {_some(state)}")


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:3]) or "it is empty"


def _pairs(theirs: str, ours: str, *, transposed: bool = False) -> Iterator[Entry]:
    """A linear map or a norm: its weight and its bias."""
    yield Entry(f"{theirs}.weight", (f"{ours}.weight",), transposed)
    yield Entry(f"{theirs}.bias", (f"{ours}.bias",))


def _weights(names: Mapping[str, str]) -> Iterator[Entry]:
    """Matrices or gains without a bias."""
    for theirs, ours in names.items():
        yield Entry(f"{theirs}.weight", (f"{ours}.weight",))


def _bert(config: BertConfig) -> Iterator[Entry]:
    words = ("word", "tokens"), ("position", "positions"), ("token_type", "segments")
    for theirs, ours in words:
        yield from _weights({f"embeddings.{theirs}_embeddings": ours})
    yield from _pairs("embeddings.LayerNorm", "norm")
    for index in range(config.num_layers):
        them, us = f"encoder.layer.{index}", f"layers.{index}"
        for name in ("query", "key", "value"):
            ours = f"{us}.self_attention.sublayer.{name}"
            yield from _pairs(f"{them}.attention.self.{name}", ours)
        yield from _pairs(f"{them}.attention.output.dense", f"{us}.self_attention.sublayer.output")
        yield from _pairs(f"{them}.attention.output.LayerNorm", f"{us}.self_attention.norm")
        yield from _pairs(f"{them}.intermediate.dense", f"{us}.feed_forward.sublayer.up")
        yield from _pairs(f"{them}.output.dense", f"{us}.feed_forward.sublayer.down")
        yield from _pairs(f"{them}.output.LayerNorm", f"{us}.feed_forward.norm")


def _albert(config: AlbertConfig) -> Iterator[Entry]:
    words = ("word", "tokens"), ("position", "positions"), ("token_type", "segments")
    yield from _weights({f"embeddings.{them}_embeddings": us for them, us in words})
    yield from _pairs("embeddings.LayerNorm", "norm")
    yield from _pairs("encoder.embedding_hidden_mapping_in", "widen")
    them, us = "encoder.albert_layer_groups.0.albert_layers.0", "layer"
    projections = ("query", "query"), ("key", "key"), ("value", "value"), ("dense", "output")
    for theirs, ours in projections:
        yield from _pairs(f"{them}.attention.{theirs}", f"{us}.self_attention.sublayer.{ours}")
    yield from _pairs(f"{them}.attention.LayerNorm", f"{us}.self_attention.norm")
    yield from _pairs(f"{them}.ffn", f"{us}.feed_forward.sublayer.up")
    yield from _pairs(f"{them}.ffn_output", f"{us}.feed_forward.sublayer.down")
    yield from _pairs(f"{them}.full_layer_layer_norm", f"{us}.feed_forward.norm")


def _gpt2(config: GptConfig) -> Iterator[Entry]:
    yield from _weights({"transformer.wte": "tokens", "transformer.wpe": "positions"})
    yield from _gpt_layers(config)
    yield from _pairs("transformer.ln_f", "norm")


def _gpt1(config: Gpt1Config) -> Iterator[Entry]:
    words = {"transformer.tokens_embed": "tokens", "transformer.positions_embed": "positions"}
    yield from _weights(words)
    yield from _gpt_layers(config)


def _gpt_layers(config: GptConfig) -> Iterator[Entry]:
    for index in range(config.num_layers):
        them, us = f"transformer.h.{index}", f"layers.{index}"
        attention = f"{us}.self_attention.sublayer"
        projections = [f"{attention}.{name}" for name in ("query", "key", "value")]
        for kind in ("weight", "bias"):
            ours = tuple(f"{name}.{kind}" for name in projections)
            yield Entry(f"{them}.attn.c_attn.{kind}", ours, transposed=kind == "weight")
        yield from _pairs(f"{them}.attn.c_proj", f"{attention}.output", transposed=True)
        yield from _pairs(f"{them}.ln_1", f"{us}.self_attention.norm")
        up, down = (f"{us}.feed_forward.sublayer.{name}" for name in ("up", "down"))
        yield from _pairs(f"{them}.mlp.c_fc", up, transposed=True)
        yield from _pairs(f"{them}.mlp.c_proj", down, transposed=True)
        yield from _pairs(f"{them}.ln_2", f"{us}.feed_forward.norm")


def _t5(config: T5Config) -> Iterator[Entry]:
    yield from _weights({"shared": "tokens"})
    for stack in ("encoder", "decoder"):
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
        yield from _weights({bias: f"{stack}.bias", f"{stack}.final_layer_norm": f"{stack}.norm"})
        for index in range(config.num_layers):
            yield from _weights(_t5_layer(config, stack, index))
    if not config.tied:
        yield from _weights({"lm_head": "head"})


def _t5_layer(config: T5Config, stack: str, index: int) -> dict[str, str]:
    sublayers = {"SelfAttention": "self_attention"}
    if stack == "decoder":
        sublayers["EncDecAttention"] = "cross_attention"
    names = {}
    for place, (theirs, ours) in enumerate(sublayers.items()):
        them, us = f"{stack}.block.{index}.layer.{place}", f"{stack}.layers.{index}.{ours}"
        for short, long in zip("qkvo", ("query", "key", "value", "output"), strict=True):
            names[f"{them}.{theirs}.{short}"] = f"{us}.sublayer.{long}"
        names[f"{them}.layer_norm"] = f"{us}.norm"
    them = f"{stack}.block.{index}.layer.{len(sublayers)}"
    us = f"{stack}.layers.{index}.feed_forward"
    up = {"wi_0": "gate", "wi_1": "up"} if config.gated else {"wi": "up"}
    for theirs, ours in {**up, "wo": "down"}.items():
        names[f"{them}.DenseReluDense.{theirs}"] = f"{us}.sublayer.{ours}"
    return {**names, f"{them}.layer_norm": f"{us}.norm"}


def _llama(config: LlamaConfig) -> Iterator[Entry]:
    yield from _weights({"model.embed_tokens": "tokens", "model.norm": "norm"})
    for index in range(config.num_layers):
        them, us = f"model.layers.{index}", f"layers.{index}"
        for name in ("query", "key", "value", "output"):
            ours = f"{us}.self_attention.sublayer.{name}"
            yield from _weights({f"{them}.self_attn.{name[0]}_proj": ours})
        for name in ("gate", "up", "down"):
            yield from _weights({f"{them}.mlp.{name}_proj": f"{us}.feed_forward.sublayer.{name}"})
        yield from _weights({f"{them}.input_layernorm": f"{us}.self_attention.norm"})
        yield from _weights({f"{them}.post_attention_layernorm": f"{us}.feed_forward.norm"})
    if not config.tied:
        yield from _weights({"lm_head": "head"})


def _vit(config: VitConfig) -> Iterator[Entry]:
    yield Entry("vit.embeddings.cls_token", ("cls",))
    yield Entry("vit.embeddings.position_embeddings", ("positions",))
    projection = "vit.embeddings.patch_embeddings.projection"
    side = config.patch_size
    kernel = (config.hidden_size, config.num_channels, side, side)
    yield Entry(f"{projection}.weight", ("patch_map.weight",), shape=kernel)
    yield Entry(f"{projection}.bias", ("patch_map.bias",))
    for index in range(config.num_layers):
        them, us = f"vit.layers.{index}", f"layers.{index}"
        for name in ("query", "key", "value", "output"):
            ours = f"{us}.self_attention.sublayer.{name}"
            yield from _pairs(f"{them}.attention.{name[0]}_proj", ours)
        yield from _pairs(f"{them}.layernorm_before", f"{us}.self_attention.norm")
        yield from _pairs(f"{them}.mlp.fc1", f"{us}.feed_forward.sublayer.up")
        yield from _pairs(f"{them}.mlp.fc2", f"{us}.feed_forward.sublayer.down")
        yield from _pairs(f"{them}.layernorm_after", f"{us}.feed_forward.norm")
    yield from _pairs("vit.layernorm", "norm")
    yield from _pairs("classifier", "classifier")


def _bert_with(
    *heads: tuple[str, str], name: str = "bert"
) -> Callable[[BertConfig], Iterator[Entry]]:
    """A BERT inside a model with these heads, each a linear map or a norm: theirs and ours.

    `name` is what they call the BERT.
    """

    def all_entries(config: BertConfig) -> Iterator[Entry]:
        for entry in _bert(config):
            yield Entry(f"{name}.{entry.theirs}", tuple(f"bert.{ours}" for ours in entry.ours))
        for theirs, ours in heads:
            yield from _pairs(theirs, ours)

    return all_entries


def _bert_for_pre_training(config: BertConfig) -> Iterator[Entry]:
    yield from _bert_with(
        ("bert.pooler.dense", "pooler.map"),
        ("cls.predictions.transform.dense", "masked_tokens.transform"),
        ("cls.predictions.transform.LayerNorm", "masked_tokens.norm"),
        ("cls.seq_relationship", "next_sentence"),
    )(config)
    yield Entry("cls.predictions.bias", ("masked_tokens.bias",))


_ENTRIES: dict[type[nn.Module], Callable[..., Iterator[Entry]]] = {
    Bert: _bert,
    BertForPreTraining: _bert_for_pre_training,
    BertForSequenceClassification: _bert_with(
        ("bert.pooler.dense", "pooler.map"), ("classifier", "classifier")
    ),
    BertForTokenClassification: _bert_with(("classifier", "classifier")),
    Electra: _bert_with(
        ("discriminator_predictions.dense", "transform"),
        ("discriminator_predictions.dense_prediction", "replaced"),
        name="electra",
    ),
    Albert: _albert,
    Gpt1: _gpt1,
    Gpt2: _gpt2,
    T5: _t5,
    Llama: _llama,
    Vit: _vit,
}
