"""Key-value caches: what a decoder remembers of the tokens so far, one layer each.

Read in this order: `cache` for what they have in common, then `growing`, `preallocated`, `sliding`,
`latent`, `ragged`, `quantised`, `paged`, `cross_attention`. How many bytes each of them holds is in
`lib.memory.storage`. Fewer key-value heads than attention heads need no cache of their own.
"""

from lib.kv_cache.cache import KVCache
from lib.kv_cache.cross_attention import CrossAttentionCache
from lib.kv_cache.growing import GrowingCache
from lib.kv_cache.latent import LatentCache
from lib.kv_cache.paged import BlockPool, PagedCache
from lib.kv_cache.preallocated import PreallocatedCache
from lib.kv_cache.quantised import Int8Cache, dequantise_int8, quantise_int8
from lib.kv_cache.ragged import RaggedCache
from lib.kv_cache.sliding import SlidingWindowCache

__all__ = [
    "BlockPool",
    "CrossAttentionCache",
    "GrowingCache",
    "Int8Cache",
    "KVCache",
    "LatentCache",
    "PagedCache",
    "PreallocatedCache",
    "RaggedCache",
    "SlidingWindowCache",
    "dequantise_int8",
    "quantise_int8",
]
