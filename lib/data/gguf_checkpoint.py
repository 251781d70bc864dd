"""A LLaMA in a GGUF file, the format of llama.cpp: sizes, weights in 4 to 8 bits, and tokenizer.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lib.models.configs import LlamaConfig
from lib.positions.rope import rotary_permutation

TENSORS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
"""The names of the tensors outside the layers: llama.cpp's and Hugging Face's."""

LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""The same within a layer."""

CONTROL_TOKEN = 3


def read_gguf(
    path: Path, dtype: torch.dtype = torch.float32
) -> tuple[LlamaConfig, dict[str, Tensor], Any]:
    """The sizes, the weights in `dtype` under Hugging Face's names, and the tokenizer.

    Needs the packages gguf and tokenizers. Raises `FileNotFoundError` for no file, and `ValueError`
    for one that is damaged, cut short, or holds no LLaMA.
    """
    try:
        reader = _open(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy's own, of several kinds, where the bytes run out
        raise ValueError(f"{path} is damaged, cut short, or not in GGUF: {error}") from error
    architecture = _field(reader, "general.architecture", path)
    if architecture != "llama":
        raise ValueError(f"{path} holds the architecture {architecture!r}, expected 'llama'")
    config = _config(reader, path)
    weights = {name: weight.to(dtype) for name, weight in _weights(reader, config)}
    return config, weights, _tokenizer(reader, path)


def interleaved_to_halves(
    weight: Float[Tensor, "heads_side_by_side d_in"], num_heads: int
) -> Float[Tensor, "heads_side_by_side d_in"]:
    """The rows of a query or key projection in the order of `lib.positions.rope`.

    RoPE turns pairs of numbers. llama.cpp pairs neighbours in a head, 0 with 1; here as at Hugging
    Face the first half is paired with the second, 0 with head_dim / 2.
    """
    heads = weight.unflatten(0, (num_heads, -1))
    return heads[:, rotary_permutation(heads.shape[1])].flatten(end_dim=1)


def _open(path: Path) -> Any:
    from gguf import GGUFReader

    class Reader(GGUFReader):
        """Bytes in a plain array: the 150,000 pieces of a vocabulary cut out of numpy's memmap,
        which checks each piece for what it shares, take three times as long."""

        @property
        def data(self) -> np.ndarray:
            return self._plain

        @data.setter
        def data(self, mapped: np.ndarray) -> None:
            self._plain = np.asarray(mapped)

    return Reader(path)


def _field(reader: Any, name: str, path: Path) -> Any:
    if name not in reader.fields:
        raise ValueError(f"{path} has no field {name!r}")
    return reader.fields[name].contents()


def _config(reader: Any, path: Path) -> LlamaConfig:
    def size(name: str) -> Any:
        return _field(reader, f"llama.{name}", path)

    return LlamaConfig(
        vocab_size=len(_field(reader, "tokenizer.ggml.tokens", path)),
        hidden_size=size("embedding_length"),
        num_layers=size("block_count"),
        num_attention_heads=size("attention.head_count"),
        num_key_value_heads=size("attention.head_count_kv"),
        intermediate_size=size("feed_forward_length"),
        max_positions=size("context_length"),
        rope_base=size("rope.freq_base"),
        eps=size("attention.layer_norm_rms_epsilon"),
        tied=all(tensor.name != "output.weight" for tensor in reader.tensors),
    )


def _weights(reader: Any, config: LlamaConfig) -> Iterator[tuple[str, Tensor]]:
    from gguf.quants import dequantize

    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for tensor in reader.tensors:
        weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        kind = tensor.name.removesuffix(".weight")
        if not kind.startswith("blk."):
            yield f"{TENSORS.get(kind, kind)}.weight", weight
            continue
        _, layer, kind = kind.split(".")
        if kind in heads:
            weight = interleaved_to_halves(weight, heads[kind])
        yield f"model.layers.{layer}.{LAYER_TENSORS.get(kind, kind)}.weight", weight


def _tokenizer(reader: Any, path: Path) -> Any:
    """Byte-level BPE from the tokens and merges in the file, as SmolLM2 was trained with it.

    Digits stand alone, spaces are kept, and nothing is added in front of a text.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind = _field(reader, "tokenizer.ggml.pre", path)
    if kind != "smollm":
        raise ValueError(f"{path} has a tokenizer of the kind {kind!r}, expected 'smollm'")
    tokens, types, merges = (
        _field(reader, f"tokenizer.ggml.{name}", path)
        for name in ("tokens", "token_type", "merges")
    )
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    controls = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in controls])
    return tokenizer
