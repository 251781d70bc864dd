"""ViT (Dosovitskiy et al., 2021): an encoder whose tokens are patches of an image.

BERT's attention, a learned [CLS] in front; pre-norm, and no masks, since nothing is padded.
"""

from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.attention.multi_head import MultiHeadAttention
from lib.dropout import Dropout
from lib.models.configs import VitConfig
from lib.models.feed_forward import FeedForward
from lib.models.initialise import initialise_normal
from lib.models.layer import TransformerLayer, run_layers
from lib.models.norms import LayerNorm
from lib.models.residual import PreNorm


def patches(
    images: Float[Tensor, "batch channels height width"], patch_size: int
) -> Float[Tensor, "batch patches pixels"]:
    """Cut images into squares, row by row; each becomes a vector of channels · patch_size² numbers.

    Raises `ValueError` if the squares do not tile the image.
    """
    height, width = images.shape[-2:]
    if height % patch_size or width % patch_size:
        raise ValueError(f"patches of {patch_size} do not tile an image of {height} x {width}")
    pattern = "b c (rows p) (cols q) -> b (rows cols) (c p q)"
    return rearrange(images, pattern, p=patch_size, q=patch_size)


def take_patches(
    tokens: Float[Tensor, "batch patches hidden"], chosen: Int[Tensor, "batch chosen"]
) -> Float[Tensor, "batch chosen hidden"]:
    """Of each image the patches with these numbers, in this order."""
    return tokens.take_along_dim(chosen[..., None], dim=1)


def vit_layer(config: VitConfig) -> TransformerLayer:
    """Attention and feed-forward network, each with its norm before it."""
    c = config
    norm = partial(LayerNorm, c.hidden_size, c.eps)
    return TransformerLayer(
        partial(PreNorm, norm=norm, dropout=c.dropout),
        MultiHeadAttention(c.hidden_size, c.num_attention_heads, dropout=c.dropout),
        FeedForward(c.hidden_size, c.intermediate_size, activation="gelu"),
    )


class Vit(nn.Module):
    """Images (batch, channels, size, size) to the logits of their classes (batch, num_classes)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        c = self.config = config
        num_patches = (c.image_size // c.patch_size) ** 2
        self.patch_map = nn.Linear(c.num_channels * c.patch_size**2, c.hidden_size)
        self.cls = nn.Parameter(torch.zeros(1, 1, c.hidden_size))
        positions = torch.empty(1, num_patches + 1, c.hidden_size).normal_(std=0.02)
        self.positions = nn.Parameter(positions)
        self.dropout = Dropout(c.dropout)
        self.layers = nn.ModuleList(vit_layer(c) for _ in range(c.num_layers))
        self.norm = LayerNorm(c.hidden_size, c.eps)
        self.classifier = nn.Linear(c.hidden_size, c.vocab_size)
        initialise_normal(self)

    def embed(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """[CLS] and the patches, with their positions. Raises `ValueError` for other sizes."""
        c = self.config
        expected = (c.num_channels, c.image_size, c.image_size)
        if images.shape[1:] != expected or not len(images):
            raise ValueError(f"images must be (batch, *{expected}), got {tuple(images.shape)}")
        tokens = self.patch_map(patches(images, c.patch_size))
        tokens = torch.cat([self.cls.expand(len(tokens), 1, -1), tokens], dim=1)
        return self.dropout(tokens + self.positions)

    def hidden_states(
        self,
        images: Float[Tensor, "batch channels height width"],
        visible: Int[Tensor, "batch visible"] | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """[CLS] and the patches after the last layer, normalised; the `visible` patches alone."""
        tokens = self.embed(images)
        if visible is not None:
            tokens = torch.cat([tokens[:, :1], take_patches(tokens[:, 1:], visible)], dim=1)
        return self.norm(run_layers(self.layers, tokens))

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """The logits of each image's classes, read off its [CLS]."""
        return self.classifier(self.hidden_states(images)[:, 0])
