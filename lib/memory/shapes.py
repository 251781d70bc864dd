"""The sizes that decide what a decoder-only Transformer costs."""

from dataclasses import dataclass

from lib.memory.sizes import Size, check_divides, check_sizes


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder-only Transformer; whole numbers or SymPy expressions.

    `gated` says whether the feed-forward block has a gate beside the up-projection (LLaMA's
    SwiGLU: three matrices) or not (GPT's GELU: two).

    Raises `ValueError` for sizes that are not positive or head counts that do not divide.
    """

    num_layers: Size
    hidden_size: Size
    num_attention_heads: Size
    num_key_value_heads: Size
    head_dim: Size
    intermediate_size: Size
    vocab_size: Size
    gated: bool = False

    def __post_init__(self) -> None:
        check_sizes(**{name: size for name, size in vars(self).items() if name != "gated"})
        check_divides(
            "num_key_value_heads",
            self.num_key_value_heads,
            "num_attention_heads",
            self.num_attention_heads,
        )

    @property
    def layer_parameters(self) -> Size:
        """One layer's matrices. Norms and biases, less than a thousandth, are left out."""
        query = self.num_attention_heads * self.head_dim
        key_value = self.num_key_value_heads * self.head_dim
        attention = self.hidden_size * (2 * query + 2 * key_value)
        matrices = 3 if self.gated else 2
        return attention + matrices * self.hidden_size * self.intermediate_size

    @property
    def num_parameters(self) -> Size:
        """All layers' matrices, and separate matrices for the embedding and the LM head."""
        return self.num_layers * self.layer_parameters + 2 * self.vocab_size * self.hidden_size


EXERCISE_7B = ModelShape(
    num_layers=32,
    hidden_size=4096,
    num_attention_heads=32,
    num_key_value_heads=32,
    head_dim=128,
    intermediate_size=4 * 4096,
    vocab_size=32_000,
)
"""The model of the exercises: 7B-style attention with the plain feed-forward block of width 4d."""

LLAMA_7B = ModelShape(
    num_layers=32,
    hidden_size=4096,
    num_attention_heads=32,
    num_key_value_heads=32,
    head_dim=128,
    intermediate_size=11_008,
    vocab_size=32_000,
    gated=True,
)
"""LLaMA-7B (Touvron et al., 2023)."""

LLAMA_3_8B = ModelShape(
    num_layers=32,
    hidden_size=4096,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    intermediate_size=14_336,
    vocab_size=128_256,
    gated=True,
)
"""Llama 3 8B (Grattafiori et al., 2024): grouped-query attention, four query heads a group."""
