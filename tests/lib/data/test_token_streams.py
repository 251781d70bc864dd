"""A pass over a stream gives each token once at most, and another seed cuts it elsewhere."""

import pytest
import torch

from lib.data.corpora import Document
from lib.data.token_streams import consecutive_windows, shuffled_windows, token_stream
from lib.data.tokenizer_training import train_byte_level_bpe

STREAM = torch.arange(1000)


def one_pass(seed, stream=STREAM, **sizes):
    options = {"seq_len": 16, "batch_size": 4, **sizes}
    return list(shuffled_windows(stream, torch.Generator().manual_seed(seed), **options))


def test_documents_follow_each_other_with_an_end_after_each():
    tokenizer = train_byte_level_bpe(["ab"], 257)
    documents = [Document("one", "ab"), Document("two", "b")]
    a, b = tokenizer.token_to_id("a"), tokenizer.token_to_id("b")
    assert token_stream(documents, tokenizer, end=256).tolist() == [a, b, 256, b, 256]
    with pytest.raises(ValueError, match="at least one document, got none"):
        token_stream([], tokenizer, end=256)


def test_a_pass_holds_neighbours_and_no_token_twice():
    batches = one_pass(seed=0)
    assert {batch.shape for batch in batches} == {(4, 16)}
    windows = torch.cat(batches)
    assert (windows.diff(dim=1) == 1).all() and windows.unique().numel() == windows.numel()
    assert windows.numel() > len(STREAM) - 16 * 5
    assert not torch.equal(windows, windows.sort(0).values)


def test_the_generator_decides():
    first, again, other = (torch.cat(one_pass(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert first.min() != other.min()


def test_a_stream_too_short_is_refused():
    needed = 16 * 5 - 1
    assert len(one_pass(seed=3, stream=STREAM[:needed])) == 1
    with pytest.raises(ValueError, match=f"need a stream of {needed} tokens, got {needed - 1}"):
        one_pass(seed=3, stream=STREAM[: needed - 1])
    with pytest.raises(ValueError, match="batch_size must be a positive"):
        one_pass(seed=3, batch_size=0)


def test_consecutive_windows_begin_at_the_beginning():
    windows = consecutive_windows(STREAM[:10], seq_len=4)
    assert windows.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(ValueError, match="a window has 11 tokens, the stream only 10"):
        consecutive_windows(STREAM[:10], seq_len=11)
