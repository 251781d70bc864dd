"""The caches of Hugging Face, given the same tokens, return the same keys and values."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer, StaticCache

from lib.kv_cache import GrowingCache, PreallocatedCache, RaggedCache, SlidingWindowCache
from tests.lib.kv_cache.decoding import block_sizes, paged, projections

SHAPE = {"batch_size": 2, "num_key_value_heads": 2, "head_dim": 4, "dtype": torch.float64}


def tokens_in_blocks(blocks, seed=0):
    _, k, _ = projections(sum(blocks), seed=seed)
    _, v, _ = projections(sum(blocks), seed=seed + 1)
    ends = torch.tensor(blocks).cumsum(0).tolist()
    for size, end in zip(blocks, ends, strict=True):
        yield k[..., end - size : end, :], v[..., end - size : end, :]


@settings(max_examples=30)
@given(block_sizes())
def test_dynamic_cache(blocks):
    peer, layers = DynamicCache(), [GrowingCache(**SHAPE) for _ in range(2)]
    for new in tokens_in_blocks(blocks):
        for index, layer in enumerate(layers):
            expected = peer.update(*new, index)
            assert all(map(torch.equal, layer.append(*new), expected))
        assert layers[0].length == peer.get_seq_length()


@settings(max_examples=30)
@given(block_sizes())
def test_static_cache(blocks):
    """Theirs returns its whole capacity, ours the part that is filled."""
    config = LlamaConfig(hidden_size=16, num_attention_heads=4, num_hidden_layers=1)
    peer = StaticCache(config, max_cache_len=16)
    ours = PreallocatedCache(capacity=16, **SHAPE)
    for new in tokens_in_blocks(blocks):
        found, expected = ours.append(*new), peer.update(*new, 0)
        for mine, theirs in zip(found, expected, strict=True):
            assert torch.equal(mine, theirs[..., : ours.length, :])
            assert mine.untyped_storage().nbytes() == theirs.untyped_storage().nbytes()


@settings(max_examples=30)
@given(length=st.integers(1, 14), window=st.integers(2, 6))
def test_sliding_window_layer(length, window):
    """Token by token: the same ones, which theirs moves along and ours leaves where they are."""
    peer, ours = DynamicSlidingWindowLayer(window), SlidingWindowCache(window=window, **SHAPE)
    for new in tokens_in_blocks([1] * length):
        found, expected = ours.append(*new), peer.update(*new)
        order = ours.positions().argsort()
        for mine, theirs in zip(found, expected, strict=True):
            assert torch.equal(mine[..., order, :], theirs)


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=29,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).double().eval()


class OurLayers:
    """Our caches where a Hugging Face model expects its own: it calls no more than this."""

    is_compileable = False

    def __init__(self, make):
        sizes = {"batch_size": 2, "num_key_value_heads": 2, "head_dim": 8, "dtype": torch.float64}
        self.layers = [make(**sizes) for _ in range(2)]

    def update(self, keys, values, layer, *_, **__):
        return self.layers[layer].append(keys, values)

    def get_seq_length(self, layer=0):
        return self.layers[layer].length


@pytest.mark.parametrize("drafts", [1, 3])
@pytest.mark.parametrize(
    "make",
    [
        GrowingCache,
        lambda **sizes: PreallocatedCache(capacity=16, **sizes),
        lambda **sizes: RaggedCache(capacity=16, **sizes),
        lambda **sizes: paged(capacity=16, **sizes),
        lambda **sizes: SlidingWindowCache(window=12, num_sinks=4, **sizes),
    ],
    ids=["growing", "preallocated", "ragged", "paged", "window"],
)
def test_a_model_decodes_with_our_caches_in_place_of_its_own(llama, make, drafts):
    """A whole Llama: prompt, then blocks of tokens, against the same tokens at once."""
    tokens = torch.randint(29, (2, 13), generator=torch.Generator().manual_seed(1))
    cache, logits = OurLayers(make), []
    with torch.no_grad():
        expected = llama(tokens, use_cache=False).logits
        for block in (tokens[:, :4], *tokens[:, 4:].split(drafts, dim=1)):
            start, size = cache.get_seq_length(), block.shape[1]
            positions = torch.arange(start, start + size)
            seen = torch.ones(13, 13, dtype=torch.bool).tril()[start : start + size]
            output = llama(
                block,
                past_key_values=cache,
                position_ids=positions[None],
                attention_mask=seen[None, None, :, : start + size].expand(2, -1, -1, -1),
            )
            logits.append(output.logits)
            for layer in cache.layers:
                mask = layer.mask(size)
                assert mask is None or torch.equal(
                    mask.expand(2, 1, size, -1), seen[:, : start + size].expand(2, 1, -1, -1)
                )
    torch.testing.assert_close(torch.cat(logits, dim=1), expected, rtol=1e-5, atol=1e-7)
