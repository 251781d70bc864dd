"""Random sizes of Transformers, and every operator, for properties that must hold for all."""

import inspect

from hypothesis import settings
from hypothesis import strategies as st

from lib.memory import ModelShape, traffic

OPERATORS = {
    name: function
    for name, function in inspect.getmembers(traffic, inspect.isfunction)
    if not name.startswith("_") and function.__module__ == traffic.__name__
}

thousand = settings(max_examples=1000)

# Tensors on the meta device have sizes but no memory, so these may be as large as they like.
LARGE = {"heads": 64, "batch": 512, "length": 2**17, "head": 512, "wide": 2**16}
# These are allocated and computed with.
SMALL = {"heads": 6, "batch": 3, "length": 12, "head": 16, "wide": 48}


@st.composite
def head_counts(draw, most):
    """How many attention heads and how many key-value heads: MHA, GQA or MQA."""
    key_value = draw(st.integers(1, most))
    group = draw(st.integers(1, most // key_value))
    return {"num_attention_heads": key_value * group, "num_key_value_heads": key_value}


@st.composite
def attention_sizes(draw, limits):
    """Sizes of one attention: prefill, decoding and everything between, as keyword arguments."""
    return {
        "batch_size": draw(st.integers(1, limits["batch"])),
        **draw(head_counts(limits["heads"])),
        "queries": draw(st.just(1) | st.integers(1, limits["length"])),
        "keys": draw(st.integers(1, limits["length"])),
        "head_dim": draw(st.integers(1, limits["head"])),
    }


@st.composite
def model_shapes(draw, limits):
    """A `ModelShape` whose heads need not add up to the hidden size."""
    return ModelShape(
        num_layers=draw(st.integers(1, 4)),
        hidden_size=draw(st.integers(1, limits["wide"])),
        **draw(head_counts(limits["heads"])),
        head_dim=draw(st.integers(1, limits["head"])),
        intermediate_size=draw(st.integers(1, limits["wide"])),
        vocab_size=draw(st.integers(1, limits["wide"])),
        gated=draw(st.booleans()),
    )
