"""A packed model computes what the model computes: the same logits, token for token the same."""

from functools import partial

import pytest
import torch
from small_models import VOCAB, gpt2, llama, pair, randomised, t5

from lib.kv_cache import GrowingCache, Int8Cache, PreallocatedCache, RaggedCache, SlidingWindowCache
from lib.models import (
    T5,
    Bert,
    Gpt1,
    Gpt3,
    Int8Map,
    Int8PanelMap,
    Llama,
    PanelMap,
    TileMap,
    Transformer,
    watch,
)
from lib.models.configs import (
    BertConfig,
    Gpt1Config,
    Gpt3Config,
    LlamaConfig,
    T5Config,
    TransformerConfig,
)
from lib.models.generation import (
    beam_search,
    generate,
    generate_speculatively,
    prepare,
    stream,
)
from lib.models.norms import LayerNorm, RMSNorm
from lib.models.packed import PackedEmbedding, pack_model, packed_norm

PROMPTS = [[3, 14, 15, 9, 2], [7], [31, 4, 4], [20, 21, 22, 23, 24]]
NEW = 10
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 40,
}


def untied_llama():
    config = LlamaConfig(**SIZES, num_key_value_heads=3, max_positions=32, tied=False)
    return randomised(Llama(config))


def gated_t5():
    options = {"activation": "gelu_tanh", "gated": True, "tied": False}
    return randomised(T5(T5Config(**SIZES, head_dim=8, num_buckets=8, max_distance=12, **options)))


MODELS = {
    "gpt1": lambda: randomised(Gpt1(Gpt1Config(**SIZES, max_positions=32))),
    "gpt2": gpt2,
    "gpt3": lambda: randomised(Gpt3(Gpt3Config(**SIZES, max_positions=32, window=3))),
    "llama": llama,
    "untied llama": untied_llama,
    "t5": t5,
    "gated t5": gated_t5,
    "transformer": lambda: randomised(Transformer(TransformerConfig(**SIZES))),
}
CACHES = {
    "growing": GrowingCache,
    "preallocated": partial(PreallocatedCache, capacity=20),
    "ragged": partial(RaggedCache, capacity=20),
    "8 bits": partial(Int8Cache, policy=GrowingCache),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.fixture(scope="module", params=[PanelMap, TileMap])
def both(request, model):
    return model, pack_model(model, request.param)


def tokens(model, count=7, batch=3):
    ids = torch.randint(VOCAB, (batch, count), generator=torch.Generator().manual_seed(1))
    return (ids, ids[:, 2:]) if hasattr(model, "encode") else (ids,)


@torch.no_grad()
def test_the_logits_are_the_same(both):
    model, packed = both
    for batch in (1, 3):
        given = tokens(model, batch=batch)
        torch.testing.assert_close(packed(*given), model(*given))


@torch.no_grad()
def test_prompts_of_different_lengths_and_stop_tokens_give_the_same_tokens(both):
    model, packed = both
    want = generate(model, PROMPTS, max_new_tokens=NEW)
    assert generate(packed, PROMPTS, max_new_tokens=NEW) == want
    stops = {want[0][2], want[2][5]}
    want = generate(model, PROMPTS, max_new_tokens=NEW, stop_ids=stops)
    assert generate(packed, PROMPTS, max_new_tokens=NEW, stop_ids=stops) == want
    assert min(map(len, want)) < NEW


@pytest.mark.parametrize("cache", CACHES)
def test_each_cache_gives_the_same_tokens(both, cache):
    for prompts in (PROMPTS[:1], [PROMPTS[0], PROMPTS[3]]):
        want, got = (
            generate(model, prompts, max_new_tokens=NEW, make_cache=CACHES[cache]) for model in both
        )
        assert got == want


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_sliding_window_gives_the_same_tokens(name):
    model = pair(name)[0]
    cache = partial(SlidingWindowCache, window=3)
    want, got = (
        generate(each, PROMPTS[:1], max_new_tokens=NEW, make_cache=cache)
        for each in (model, pack_model(model))
    )
    assert got == want


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_beams_and_speculation_give_the_same_tokens(name):
    model = MODELS[name]()
    packed = pack_model(model)
    options = {"num_beams": 3, "max_new_tokens": 6}
    want, got = (beam_search(each, PROMPTS[0], **options) for each in (model, packed))
    assert [each.ids for each in got] == [each.ids for each in want]
    if name != "t5":
        done = generate_speculatively(packed, pack_model(gpt2(5)), PROMPTS[0], max_new_tokens=9)
        assert done.ids == generate(model, PROMPTS[:1], max_new_tokens=9)[0]


def test_a_packed_model_streams():
    model = gpt2()
    steps = [
        list(stream(*prepare(each, PROMPTS[:1], NEW), max_new_tokens=NEW))
        for each in (model, pack_model(model))
    ]
    assert steps[0] == steps[1] and len(steps[0]) == NEW


@torch.no_grad()
def test_an_encoder_can_be_packed():
    bert = randomised(Bert(BertConfig(**SIZES, max_positions=32)))
    ids = tokens(bert)[0]
    mask = torch.arange(7) < torch.tensor([7, 4, 1])[:, None, None, None]
    torch.testing.assert_close(pack_model(bert)(ids, mask=mask), bert(ids, mask=mask))


def test_the_model_stays_as_it_was():
    model = gpt2().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    packed = pack_model(model)
    assert not packed.training and model.training
    assert packed.positions.weight is model.positions.weight
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    with torch.no_grad(), watch(model.eval()) as seen:
        model(torch.tensor(PROMPTS[:1]))
    assert len(seen.attention_weights) == 2


@pytest.mark.parametrize("make_map", [PanelMap, TileMap, Int8PanelMap, Int8Map])
@pytest.mark.parametrize("shape", [(1, 6), (1, 1, 6), (2, 3, 6)])
def test_an_embedding_reads_and_scores(shape, make_map):
    weight = torch.randn(11, 6)
    embedding, hidden = PackedEmbedding(weight, make_map), torch.randn(shape)
    ids = torch.tensor([[3, 10], [0, 3]])
    bound = {"atol": 0.1, "rtol": 0} if make_map in (Int8PanelMap, Int8Map) else {}
    torch.testing.assert_close(embedding.logits(hidden), hidden @ weight.T, **bound)
    torch.testing.assert_close(embedding(ids), weight[ids], **(bound or {"atol": 0, "rtol": 0}))
    # It reads what it scores with.
    all_rows = embedding(torch.arange(11))
    assert torch.equal(embedding(ids), all_rows[ids])


@torch.no_grad()
@pytest.mark.parametrize("size", [1.0, 1e-3, 1e18])
def test_norms_as_functions(size):
    for norm in (RMSNorm(7, eps=1e-2).double(), LayerNorm(7, eps=1e-2).double()):
        torch.nn.init.normal_(norm.weight)
        x = size * torch.randn(3, 7).double()
        torch.testing.assert_close(packed_norm(norm)(x), norm(x))


def test_what_cannot_be_packed(import_unchecked):
    packed, models = (import_unchecked(f"lib.models{end}") for end in (".packed", ""))
    sizes = {**SIZES, "embedding_size": 8, "max_positions": 8}
    albert = models.Albert(models.configs.AlbertConfig(**sizes))
    with pytest.raises(ValueError, match=r"decoder of TransformerLayers, .* got Albert"):
        packed.pack_model(albert)
    gpt = models.Gpt2(models.configs.GptConfig(**SIZES, max_positions=8))
    with pytest.raises(ValueError, match="not packed yet, got Gpt2"):
        packed.pack_model(packed.pack_model(gpt))
    vit = models.Vit(models.configs.VitConfig(**SIZES, image_size=8, patch_size=4))
    with pytest.raises(ValueError, match=r"with tokens and a decoder .* got Vit"):
        packed.pack_model(vit)
    with pytest.raises(ValueError, match="expected LayerNorm or RMSNorm to pack, got Identity"):
        packed.packed_norm(torch.nn.Identity())


@torch.no_grad()
def test_ids_out_of_range_are_named():
    packed = pack_model(gpt2())
    for wrong in (VOCAB, -1):
        with pytest.raises(ValueError, match="token ids must lie between 0 and 39"):
            packed(torch.tensor([[1, wrong]]))


def test_how_matrices_are_stored_can_be_chosen():
    def negated(weight, bias):
        return PanelMap(-weight, bias)

    model = gpt2()
    want = generate(model, PROMPTS[:1], max_new_tokens=NEW)
    assert generate(pack_model(model, TileMap), PROMPTS[:1], max_new_tokens=NEW) == want
    assert generate(pack_model(model, negated), PROMPTS[:1], max_new_tokens=NEW) != want
