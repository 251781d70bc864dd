"""How many parameters a model has, from its sizes alone: exact, down to the last bias.

`ModelShape.num_parameters` counts matrices and suffices for a cost; these formulas count all.
They take whole numbers, or SymPy symbols to see the formula.
"""

from functools import partial
from typing import Any

from lib.memory.sizes import Size, check_sizes


def linear_parameters(d_in: Size, d_out: Size, *, bias: bool = True) -> Size:
    """A matrix, and a bias for each output."""
    return d_in * d_out + (d_out if bias else 0)


def norm_parameters(hidden_size: Size, *, bias: bool = True) -> Size:
    """A gain for each feature, and with LayerNorm a bias; RMSNorm has none."""
    return 2 * hidden_size if bias else hidden_size


def attention_parameters(
    hidden_size: Size, query_size: Size, key_value_size: Size, *, bias: bool = True
) -> Size:
    """Queries, keys, values and the output; the sizes are heads · head_dim."""
    queries = linear_parameters(hidden_size, query_size, bias=bias)
    keys = linear_parameters(hidden_size, key_value_size, bias=bias)
    return queries + 2 * keys + linear_parameters(query_size, hidden_size, bias=bias)


def feed_forward_parameters(
    hidden_size: Size, intermediate_size: Size, *, gated: bool = False, bias: bool = True
) -> Size:
    """One matrix out wide, a second one with a gate, and one back."""
    wide = linear_parameters(hidden_size, intermediate_size, bias=bias)
    return (2 if gated else 1) * wide + linear_parameters(intermediate_size, hidden_size, bias=bias)


def layer_parameters(
    hidden_size: Size,
    intermediate_size: Size,
    *,
    query_size: Size | None = None,
    key_value_size: Size | None = None,
    gated: bool = False,
    bias: bool = True,
    cross_attention: bool = False,
) -> Size:
    """One layer: attention, in a decoder that reads an encoder twice, feed-forward, their norms.

    `query_size` is hidden_size and `key_value_size` is query_size unless given. Without `bias` the
    norms have none either.
    """
    query_size = hidden_size if query_size is None else query_size
    key_value_size = query_size if key_value_size is None else key_value_size
    attention = attention_parameters(hidden_size, query_size, key_value_size, bias=bias)
    norm = norm_parameters(hidden_size, bias=bias)
    feed_forward = feed_forward_parameters(hidden_size, intermediate_size, gated=gated, bias=bias)
    return (2 if cross_attention else 1) * (attention + norm) + feed_forward + norm


def bert_parameters(config: Any) -> Size:
    """BERT without heads: words, positions and segments, their norm, the layers."""
    rows = config.vocab_size + config.max_positions + config.num_segments
    embeddings = rows * config.hidden_size + norm_parameters(config.hidden_size)
    layer = layer_parameters(config.hidden_size, config.intermediate_size)
    return embeddings + config.num_layers * layer


def albert_parameters(config: Any) -> Size:
    """ALBERT: narrow embeddings and their norm, the matrix that widens them, one layer."""
    rows = config.vocab_size + config.max_positions + config.num_segments
    embeddings = rows * config.embedding_size + norm_parameters(config.embedding_size)
    widen = linear_parameters(config.embedding_size, config.hidden_size)
    return embeddings + widen + layer_parameters(config.hidden_size, config.intermediate_size)


def pooler_parameters(hidden_size: Size) -> Size:
    """The map of [CLS]."""
    return linear_parameters(hidden_size, hidden_size)


def gpt_parameters(config: Any, *, final_norm: bool = True) -> Size:
    """GPT: words, which score the next word too, positions, layers, a norm; GPT-1 lacks that."""
    embeddings = (config.vocab_size + config.max_positions) * config.hidden_size
    layer = layer_parameters(config.hidden_size, config.intermediate_size)
    last = norm_parameters(config.hidden_size) if final_norm else 0
    return embeddings + config.num_layers * layer + last


def t5_parameters(config: Any) -> Size:
    """T5: words, and in both stacks a bias per bucket and head, the layers, a norm at the end."""
    sizes = {"query_size": config.num_attention_heads * config.head_dim, "bias": False}
    sizes |= {"gated": config.gated}
    hidden, wide = config.hidden_size, config.intermediate_size
    encoder = config.num_layers * layer_parameters(hidden, wide, **sizes)
    decoder = config.num_layers * layer_parameters(hidden, wide, cross_attention=True, **sizes)
    position_bias = config.num_buckets * config.num_attention_heads
    words = (1 if config.tied else 2) * config.vocab_size * hidden
    return words + encoder + decoder + 2 * (position_bias + norm_parameters(hidden, bias=False))


def llama_parameters(config: Any) -> Size:
    """LLaMA: words, layers without biases and with fewer key-value heads, a norm at the end."""
    hidden = config.hidden_size
    key_value_size = hidden * config.num_key_value_heads // config.num_attention_heads
    layer = layer_parameters(
        hidden, config.intermediate_size, key_value_size=key_value_size, gated=True, bias=False
    )
    words = (1 if config.tied else 2) * config.vocab_size * hidden
    return words + config.num_layers * layer + norm_parameters(hidden, bias=False)


def transformer_parameters(config: Any) -> Size:
    """The original Transformer: one matrix of words for both sides and the output, both stacks."""
    encoder = layer_parameters(config.hidden_size, config.intermediate_size)
    decoder = layer_parameters(config.hidden_size, config.intermediate_size, cross_attention=True)
    return config.vocab_size * config.hidden_size + config.num_layers * (encoder + decoder)


def vit_parameters(config: Any) -> Size:
    """ViT: the map of patches, [CLS], positions, layers, a norm, the classifier."""
    hidden = config.hidden_size
    patches = linear_parameters(config.num_channels * config.patch_size**2, hidden)
    positions = ((config.image_size // config.patch_size) ** 2 + 1) * hidden
    layers = config.num_layers * layer_parameters(hidden, config.intermediate_size)
    classifier = linear_parameters(hidden, config.vocab_size)
    return patches + hidden + positions + layers + norm_parameters(hidden) + classifier


_FORMULAS = {
    "BertConfig": bert_parameters,
    "AlbertConfig": albert_parameters,
    "Gpt1Config": partial(gpt_parameters, final_norm=False),
    "GptConfig": gpt_parameters,
    "Gpt3Config": gpt_parameters,
    "T5Config": t5_parameters,
    "LlamaConfig": llama_parameters,
    "TransformerConfig": transformer_parameters,
    "VitConfig": vit_parameters,
}


def num_parameters(config: Any) -> Size:
    """All parameters of the model with this configuration of `lib.models`.

    Raises `ValueError` for a configuration without a formula.
    """
    kind = type(config).__name__
    if kind not in _FORMULAS:
        raise ValueError(f"no formula for a {kind}; there are {', '.join(_FORMULAS)}")
    check_sizes(vocab_size=config.vocab_size, hidden_size=config.hidden_size)
    return _FORMULAS[kind](config)
