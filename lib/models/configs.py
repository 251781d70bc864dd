"""The sizes of every model in the book, and the presets by name.

A preset is what its paper or its published checkpoint says; the parameter counts that follow from
them are exact.
"""

from dataclasses import dataclass, fields

from lib.memory.sizes import check_divides, check_sizes


@dataclass(frozen=True, kw_only=True)
class Config:
    """What all models share. Raises `ValueError` for sizes that are not positive or not fitting."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_attention_heads: int
    intermediate_size: int
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_sizes(
            **{each.name: getattr(self, each.name) for each in fields(self) if each.type is int}
        )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout!r}")
        if not hasattr(self, "head_dim"):
            check_divides(
                "num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size
            )


@dataclass(frozen=True, kw_only=True)
class BertConfig(Config):
    """BERT (Devlin et al., 2019), in sizes that default to bert-base-uncased."""

    vocab_size: int = 30_522
    hidden_size: int = 768
    num_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3_072
    max_positions: int = 512
    num_segments: int = 2
    activation: str = "gelu"
    eps: float = 1e-12


@dataclass(frozen=True, kw_only=True)
class AlbertConfig(BertConfig):
    """ALBERT (Lan et al., 2020); defaults are albert-base-v2, which has no dropout."""

    vocab_size: int = 30_000
    embedding_size: int = 128
    activation: str = "gelu_tanh"
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GptConfig(Config):
    """GPT-2 (Radford et al., 2019); defaults are its smallest model."""

    vocab_size: int = 50_257
    hidden_size: int = 768
    num_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3_072
    max_positions: int = 1_024
    eps: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class Gpt1Config(GptConfig):
    """GPT-1 (Radford et al., 2018), in the sizes of its one model."""

    vocab_size: int = 40_478
    max_positions: int = 512


@dataclass(frozen=True, kw_only=True)
class Gpt3Config(GptConfig):
    """GPT-3 (Brown et al., 2020); defaults are its smallest model.

    `window` is how many tokens the locally banded layers see. The paper does not tell; 256 is ours.
    """

    max_positions: int = 2_048
    window: int = 256


@dataclass(frozen=True, kw_only=True)
class T5Config(Config):
    """T5 (Raffel et al., 2020); defaults are t5-small. `num_layers` in each of the two stacks.

    `activation="gelu_tanh", gated=True, tied=False` is T5 v1.1.
    """

    vocab_size: int = 32_128
    hidden_size: int = 512
    num_layers: int = 6
    num_attention_heads: int = 8
    head_dim: int = 64
    intermediate_size: int = 2_048
    num_buckets: int = 32
    max_distance: int = 128
    activation: str = "relu"
    gated: bool = False
    tied: bool = True
    eps: float = 1e-6


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(Config):
    """LLaMA and its kin (Touvron et al., 2023); defaults are SmolLM2-135M (Allal et al., 2025)."""

    vocab_size: int = 49_152
    hidden_size: int = 576
    num_layers: int = 30
    num_attention_heads: int = 9
    num_key_value_heads: int = 3
    intermediate_size: int = 1_536
    max_positions: int = 8_192
    rope_base: float = 100_000.0
    tied: bool = True
    dropout: float = 0.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_divides(
            "num_key_value_heads",
            self.num_key_value_heads,
            "num_attention_heads",
            self.num_attention_heads,
        )


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(Config):
    """The original Transformer (Vaswani et al., 2017); defaults are its base model."""

    vocab_size: int = 37_000
    hidden_size: int = 512
    num_layers: int = 6
    num_attention_heads: int = 8
    intermediate_size: int = 2_048
    eps: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class VitConfig(Config):
    """ViT (Dosovitskiy et al., 2021); defaults are ViT-Base/16. `vocab_size` counts the classes."""

    vocab_size: int = 1_000
    hidden_size: int = 768
    num_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3_072
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    dropout: float = 0.0
    eps: float = 1e-12

    def __post_init__(self) -> None:
        super().__post_init__()
        check_divides("patch_size", self.patch_size, "image_size", self.image_size)


def _gpt(layers: int, hidden: int, heads: int, kind: type[GptConfig] = GptConfig) -> GptConfig:
    return kind(
        num_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
    )


def _gpt3(layers: int, hidden: int, heads: int) -> GptConfig:
    return _gpt(layers, hidden, heads, Gpt3Config)


def _t5(layers: int, hidden: int, heads: int, head_dim: int, wide: int) -> T5Config:
    return T5Config(
        num_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        head_dim=head_dim,
        intermediate_size=wide,
    )


PRESETS: dict[str, Config] = {
    "bert-base-uncased": BertConfig(),
    "bert-large-uncased": BertConfig(
        num_layers=24, hidden_size=1_024, num_attention_heads=16, intermediate_size=4_096
    ),
    "all-MiniLM-L6-v2": BertConfig(
        num_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1_536
    ),
    "albert-base-v2": AlbertConfig(),
    "openai-gpt": Gpt1Config(),
    "gpt2": _gpt(12, 768, 12),
    "gpt2-medium": _gpt(24, 1_024, 16),
    "gpt2-large": _gpt(36, 1_280, 20),
    "gpt2-xl": _gpt(48, 1_600, 25),
    "gpt3-small": _gpt3(12, 768, 12),
    "gpt3-medium": _gpt3(24, 1_024, 16),
    "gpt3-large": _gpt3(24, 1_536, 16),
    "gpt3-xl": _gpt3(24, 2_048, 16),
    "gpt3-2.7b": _gpt3(32, 2_560, 32),
    "gpt3-6.7b": _gpt3(32, 4_096, 32),
    "gpt3-13b": _gpt3(40, 5_120, 40),
    "gpt3-175b": _gpt3(96, 12_288, 96),
    "t5-small": _t5(6, 512, 8, 64, 2_048),
    "t5-base": _t5(12, 768, 12, 64, 3_072),
    "t5-large": _t5(24, 1_024, 16, 64, 4_096),
    "t5-3b": _t5(24, 1_024, 32, 128, 16_384),
    "t5-11b": _t5(24, 1_024, 128, 128, 65_536),
    "SmolLM2-135M": LlamaConfig(),
    "transformer-base": TransformerConfig(),
    "transformer-big": TransformerConfig(
        hidden_size=1_024, num_attention_heads=16, intermediate_size=4_096, dropout=0.3
    ),
    "vit-base": VitConfig(),
}
"""The sizes behind a name. `openai-gpt` is GPT-1.

The table of GPT-3's paper gives its XL 24 heads of 128, which do not make 2,048, and its 13B a
width of 5,140, which 40 heads of 128 do not make either: here they are 16 heads and 5,120.
"""


def preset(name: str) -> Config:
    """The sizes of the model of this name. Raises `ValueError`, listing the names, for another."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
