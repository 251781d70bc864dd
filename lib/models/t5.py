"""T5 (Raffel et al., 2020): encoder and decoder. The decoder also sees all of the encoder.

Pre-norm with RMSNorm, no biases, no 1/√head_dim, and positions only as a bias on the scores, which
all layers of a stack share.
"""

from functools import partial

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.attention.multi_head import MultiHeadAttention
from lib.dropout import Dropout
from lib.models.configs import T5Config
from lib.models.embeddings import TokenEmbedding
from lib.models.encoder_decoder import EncoderDecoderModel
from lib.models.feed_forward import FeedForward
from lib.models.initialise import initialise_t5
from lib.models.layer import Caches, TransformerLayer, check_tokens, run_layers
from lib.models.norms import RMSNorm
from lib.models.residual import PreNorm
from lib.positions.t5_buckets import T5RelativeBias


class T5Stack(nn.Module):
    """The encoder, or the decoder: its layers, their position bias, the norm at the end."""

    def __init__(self, config: T5Config, *, decoder: bool) -> None:
        super().__init__()
        self.config, self.decoder = config, decoder
        sizes = {"num_buckets": config.num_buckets, "max_distance": config.max_distance}
        heads = config.num_attention_heads
        self.bias = T5RelativeBias(heads, bidirectional=not decoder, **sizes)
        self.layers = nn.ModuleList(self.make_layer() for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.eps)
        self.dropout = Dropout(config.dropout)

    def make_layer(self) -> TransformerLayer:
        """Self-attention, in the decoder cross-attention, and the feed-forward network."""
        c = self.config
        norm = partial(RMSNorm, c.hidden_size, c.eps)
        options = {"head_dim": c.head_dim, "bias": False, "scale": 1.0, "dropout": c.dropout}
        attention = partial(MultiHeadAttention, c.hidden_size, c.num_attention_heads, **options)
        return TransformerLayer(
            partial(PreNorm, norm=norm, dropout=c.dropout),
            attention(),
            FeedForward(
                c.hidden_size,
                c.intermediate_size,
                activation=c.activation,
                gated=c.gated,
                bias=False,
                dropout=c.dropout,
            ),
            cross_attention=attention() if self.decoder else None,
        )

    def forward(
        self,
        hidden: Float[Tensor, "batch tokens hidden"],
        mask: Bool[Tensor, "..."] | None = None,
        caches: Caches = None,
        **cross: object,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The stack's output. `cross` is what the decoder reads of the encoder, with its mask."""
        keys = hidden.shape[1] + (caches[0].length if caches else 0)
        bias = self.bias(hidden.shape[1], keys)
        options = {"mask": mask, "bias": bias, "is_causal": self.decoder}
        hidden = run_layers(self.layers, self.dropout(hidden), caches, **options, **cross)
        return self.dropout(self.norm(hidden))


class T5(EncoderDecoderModel):
    """Ids of the input and of the target so far to the logits of the target's next tokens."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.tokens = TokenEmbedding(config.vocab_size, config.hidden_size)
        self.encoder = T5Stack(config, decoder=False)
        self.decoder = T5Stack(config, decoder=True)
        self.head = None
        if not config.tied:
            self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        initialise_t5(self)

    def embed(
        self, ids: Int[Tensor, "batch tokens"], caches: Caches = None
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The tokens' vectors alone: positions come with the scores."""
        check_tokens(ids)
        return self.tokens(ids)

    def logits(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocab"]:
        """Scores of all tokens; by the embedding's matrix, on hidden states scaled down to it."""
        if self.head is not None:
            return self.head(hidden)
        return self.tokens.logits(hidden * self.config.hidden_size**-0.5)
