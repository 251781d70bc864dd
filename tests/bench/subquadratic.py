"""`python -m tests.bench.subquadratic`: each sparse pattern against a fused kernel with its mask.

One race a pattern, in which the two take turns. Speeds are in GFLOP/s of the products that the
visible scores need. The window and linear attention race in `tests.bench.attention`.
"""

from collections.abc import Callable
from functools import partial
from math import isqrt

import torch
from torch.nn.functional import scaled_dot_product_attention

from lib import masks
from lib.attention import sparse_tiles
from lib.attention.sparse import block_sparse_attention, sparse_attention
from lib.memory.contention import race
from tests.bench.racing import show

HEADS, HEAD_DIM, WINDOW, BLOCK = 4, 64, 256, 64
SEQ_LEN = 4096

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def compare(name: str, mask: torch.Tensor, attention: Attention) -> None:
    q, k, v = torch.randn(3, 1, HEADS, SEQ_LEN, HEAD_DIM).unbind()
    seen = masks.density(mask)
    rivals = {
        "masked": lambda: scaled_dot_product_attention(q, k, v, attn_mask=mask),
        "sparse": lambda: attention(q, k, v),
    }
    flops = round(4 * HEADS * HEAD_DIM * SEQ_LEN**2 * seen)
    title = f"{name}, {seen:.2%} of the scores visible"
    show(title, race(rivals, rounds=3, tries=6), dict.fromkeys(rivals, flops), "GFLOP/s")


def compare_tiles(name: str, **sizes: object) -> None:
    mask = getattr(masks, name)(SEQ_LEN, **sizes)
    pattern = getattr(sparse_tiles, f"{name}_tiles")(SEQ_LEN, **sizes)
    compare(name, mask, partial(sparse_attention, pattern=pattern))


def main() -> None:
    print(f"{SEQ_LEN:,} tokens in float32, {HEADS} heads of {HEAD_DIM}\n")
    compare_tiles("dilated", window=WINDOW, dilation=4)
    compare_tiles("sparse_transformer_strided", stride=isqrt(SEQ_LEN))
    compare_tiles("sparse_transformer_fixed", block_size=isqrt(SEQ_LEN))
    compare_tiles("longformer", window=WINDOW // 2 + 1, positions=range(4))
    layout = masks.bigbird_layout(SEQ_LEN // BLOCK, generator=torch.Generator().manual_seed(0))
    bigbird = partial(block_sparse_attention, layout=layout)
    compare("bigbird", masks.block_sparse(layout, BLOCK), bigbird)


if __name__ == "__main__":
    main()
