"""Documents as one long row of tokens, cut into windows of equal length: what models pre-train on.

No padding, so no work for nothing; a window may hold the end of one document and the beginning of
the next.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from lib.data.corpora import Document
from lib.memory.sizes import check_sizes


def token_stream(
    documents: Iterable[Document], tokenizer: Any, *, end: int
) -> Int[Tensor, " tokens"]:
    """The ids of all documents one after another, the id `end` after each.

    The tokenizer is one of the library `tokenizers`. Raises `ValueError` for no documents.
    """
    texts = [document.text for document in documents]
    if not texts:
        raise ValueError("a stream of tokens needs at least one document, got none")
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    return torch.tensor([index for each in encoded for index in (*each.ids, end)])


def shuffled_windows(
    stream: Int[Tensor, " tokens"],
    generator: torch.Generator,
    *,
    seq_len: int,
    batch_size: int,
) -> Iterator[Int[Tensor, "batch_size seq_len"]]:
    """One pass over the stream: its windows of `seq_len` tokens in random order, in batches.

    Where the first window begins is drawn too, so that another pass cuts elsewhere. What does not
    fill a window or a batch is left out of this pass. Raises `ValueError` for a stream that does
    not fill one batch wherever it begins.
    """
    check_sizes(seq_len=seq_len, batch_size=batch_size)
    needed = seq_len * (batch_size + 1) - 1
    if len(stream) < needed:
        raise ValueError(
            f"batches of {batch_size} windows of {seq_len} tokens need a stream of {needed} "
            f"tokens, got {len(stream)}"
        )
    first = int(torch.randint(seq_len, (), generator=generator))
    windows = stream[first : first + (len(stream) - first) // seq_len * seq_len].view(-1, seq_len)
    order = torch.randperm(len(windows), generator=generator)
    for chosen in order.split(batch_size):
        if len(chosen) == batch_size:
            yield windows[chosen]


def consecutive_windows(
    stream: Int[Tensor, " tokens"], *, seq_len: int
) -> Int[Tensor, "windows seq_len"]:
    """The stream cut at every `seq_len` tokens from its beginning; the rest is left out.

    Raises `ValueError` for a stream that is shorter than one window.
    """
    check_sizes(seq_len=seq_len)
    if len(stream) < seq_len:
        raise ValueError(f"a window has {seq_len} tokens, the stream only {len(stream)}")
    return stream[: len(stream) // seq_len * seq_len].view(-1, seq_len)
