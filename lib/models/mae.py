"""MAE (He et al., 2022): BERT's game with an image. Most patches are hidden, and to be painted.

The encoder sees the visible quarter alone, which makes it cheap; a light decoder gets a learned
token at each hidden place and paints the pixels. After training it is thrown away.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.memory.sizes import check_sizes
from lib.models.initialise import initialise_normal
from lib.models.layer import run_layers
from lib.models.norms import LayerNorm
from lib.models.vit import Vit, patches, vit_layer


def draw_visible(
    batch_size: int, num_patches: int, num_visible: int, generator: torch.Generator
) -> Int[Tensor, "{batch_size} {num_visible}"]:
    """Which patches of each image stay visible, drawn at random; the paper keeps a quarter.

    Raises `ValueError` for more than there are.
    """
    check_sizes(batch_size=batch_size, num_patches=num_patches, num_visible=num_visible)
    if num_visible > num_patches:
        raise ValueError(f"num_visible must be at most {num_patches}, got {num_visible}")
    lots = torch.rand(batch_size, num_patches, generator=generator)
    return lots.argsort(dim=1)[:, :num_visible]


class Mae(nn.Module):
    """Images and which of their patches are visible to the pixels of all patches.

    `vit` is the encoder. The sizes of the decoder are the paper's unless given.
    """

    def __init__(
        self, vit: Vit, hidden_size: int = 512, num_layers: int = 8, num_attention_heads: int = 16
    ) -> None:
        super().__init__()
        self.vit = vit
        sizes = replace(
            vit.config,
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_attention_heads=num_attention_heads,
            intermediate_size=4 * hidden_size,
        )
        self.narrow = nn.Linear(vit.config.hidden_size, hidden_size)
        self.hidden_patch = nn.Parameter(torch.empty(1, 1, hidden_size).normal_(std=0.02))
        positions = torch.empty(1, vit.positions.shape[1], hidden_size).normal_(std=0.02)
        self.positions = nn.Parameter(positions)
        self.layers = nn.ModuleList(vit_layer(sizes) for _ in range(num_layers))
        self.norm = LayerNorm(hidden_size, sizes.eps)
        self.paint = nn.Linear(hidden_size, vit.patch_map.in_features)
        for part in (self.narrow, self.layers, self.paint):
            initialise_normal(part)

    def forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        visible: Int[Tensor, "batch visible"],
    ) -> Float[Tensor, "batch patches pixels"]:
        """What the decoder paints: every patch, as `patches` cuts them."""
        hidden = self.narrow(self.vit.hidden_states(images, visible))
        places = visible[..., None].expand(-1, -1, hidden.shape[-1])
        tokens = self.hidden_patch.expand(len(images), self.positions.shape[1] - 1, -1)
        tokens = tokens.scatter(1, places, hidden[:, 1:])
        tokens = torch.cat([hidden[:, :1], tokens], dim=1) + self.positions
        return self.paint(self.norm(run_layers(self.layers, tokens)))[:, 1:]

    def loss(
        self,
        images: Float[Tensor, "batch channels height width"],
        visible: Int[Tensor, "batch visible"],
    ) -> Float[Tensor, ""]:
        """The mean squared error of the pixels, over the hidden patches alone."""
        target = patches(images, self.vit.config.patch_size)
        errors = (self(images, visible) - target).square().mean(dim=-1)
        hidden = torch.ones_like(errors).scatter(1, visible, 0)
        return (errors * hidden).sum() / hidden.sum()
