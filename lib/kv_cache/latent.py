"""The cache of multi-head latent attention (DeepSeek-V2, 2024): no keys and no values.

A token leaves one latent vector, from which every head makes its own keys and values, and one
rotated key that all heads share. Both lie where other caches keep keys and values, so that only
the widths differ; any of the other caches holds them as well.
"""

from lib.kv_cache.preallocated import PreallocatedCache


class LatentCache(PreallocatedCache):
    """`append(latents, rope_keys)`: (batch, tokens, latent_dim) and (batch, tokens, rope_dim).

    DeepSeek-V2 keeps 512 + 64 numbers a token and layer, where its 128 heads of 128 would make
    32,768 numbers of keys and values.
    """

    def __init__(self, *, latent_dim: int, rope_dim: int, **sizes):
        widths = {"head_dim": latent_dim, "value_dim": rope_dim}
        super().__init__(num_key_value_heads=None, **widths, **sizes)
