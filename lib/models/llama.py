"""LLaMA (Touvron et al., 2023): GPT-2 with four parts exchanged.

RMSNorm for LayerNorm, rotary positions for learned ones, a SiLU with a gate for the GELU, fewer
key-value heads than heads; and no biases. SmolLM2 is such a model.
"""

from collections.abc import Callable
from functools import partial

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.attention.multi_head import MultiHeadAttention
from lib.models.configs import LlamaConfig
from lib.models.decoder_only import DecoderOnlyModel
from lib.models.embeddings import TokenEmbedding
from lib.models.feed_forward import FeedForward
from lib.models.initialise import initialise_normal
from lib.models.layer import Caches, TransformerLayer, next_positions, run_layers
from lib.models.norms import RMSNorm
from lib.models.residual import PreNorm
from lib.positions.rope import apply_rotary, rotary_table


class Llama(DecoderOnlyModel):
    """Token ids (batch, tokens) to the logits of the token after each, (batch, tokens, vocab)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = TokenEmbedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(self.make_layer() for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.eps)
        self.head = None
        if not config.tied:
            self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        initialise_normal(self)

    def make_layer(self) -> TransformerLayer:
        """Attention and gated feed-forward network, each with its norm before it."""
        c = self.config
        norm = partial(RMSNorm, c.hidden_size, c.eps)
        return TransformerLayer(
            partial(PreNorm, norm=norm, dropout=c.dropout),
            MultiHeadAttention(
                c.hidden_size,
                c.num_attention_heads,
                num_key_value_heads=c.num_key_value_heads,
                bias=False,
            ),
            FeedForward(
                c.hidden_size, c.intermediate_size, activation="silu", gated=True, bias=False
            ),
        )

    def rotary(self, positions: Int[Tensor, "*batch tokens"]) -> Callable[[Tensor], Tensor]:
        """What turns queries and keys, (batch, heads, tokens, head_dim), by their positions."""
        c = self.config
        # Sequences with positions of their own have them for all heads alike.
        positions = positions if positions.ndim == 1 else positions[:, None]
        head_dim, dtype = c.hidden_size // c.num_attention_heads, self.norm.weight.dtype
        cos, sin = rotary_table(positions, head_dim, base=c.rope_base, dtype=dtype)
        return partial(apply_rotary, cos=cos, sin=sin)

    def hidden_states(
        self,
        ids: Int[Tensor, "batch tokens"],
        mask: Bool[Tensor, "..."] | None = None,
        caches: Caches = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The last layer's hidden states, normalised. With `caches`, `ids` are the new tokens.

        Raises `ValueError` beyond `max_positions`: angles go on for ever, but none was trained.
        """
        length = ids.shape[1] + (caches[0].length if caches else 0)
        if length > self.config.max_positions:
            raise ValueError(f"at most {self.config.max_positions} tokens, got {length}")
        rotary = self.rotary(next_positions(ids, caches))
        options = {"mask": mask, "is_causal": True, "rotary": rotary}
        return self.norm(run_layers(self.layers, self.tokens(ids), caches, **options))

    def logits(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocab"]:
        """Scores of all tokens, by the embedding's matrix or by one of its own."""
        return self.tokens.logits(hidden) if self.head is None else self.head(hidden)
