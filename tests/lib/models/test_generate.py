"""Greedy decoding gives Hugging Face's tokens with every cache, and each prompt its own."""

from functools import partial

import pytest
import torch
from small_models import VOCAB, gpt2, pair, randomised, t5, theirs_generates

from lib.kv_cache import (
    BlockPool,
    GrowingCache,
    Int8Cache,
    PagedCache,
    PreallocatedCache,
    RaggedCache,
    SlidingWindowCache,
)
from lib.masks import padding, sliding_window
from lib.models import T5, Bert, Gpt3, Vit
from lib.models.configs import BertConfig, Gpt3Config, VitConfig
from lib.models.generation import Decoder, generate, new_caches, prepare, stream
from lib.models.generation.sampling import Sampling

PROMPTS = [[3, 14, 15, 9, 2], [7], [31, 4, 4], [20, 21, 22, 23, 24]]
NEW = 10
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 40,
}
GPT3 = Gpt3Config(**SIZES, max_positions=32, window=3)


def paged(*, batch_size, num_blocks=64, **sizes):
    return PagedCache(
        pool=BlockPool(num_blocks=num_blocks, block_size=4, **sizes), batch_size=batch_size
    )


CACHES = {
    "default": None,
    "growing": GrowingCache,
    "preallocated": partial(PreallocatedCache, capacity=20),
    "ragged": partial(RaggedCache, capacity=20),
    "paged": paged,
    "window that is never full": partial(SlidingWindowCache, window=20),
}


@pytest.fixture(scope="module", params=["gpt2", "llama", "t5"])
def models(request):
    return pair(request.param)


@pytest.fixture(scope="module")
def expected(models):
    return [theirs_generates(models[1], prompt, NEW)[0] for prompt in PROMPTS]


def test_the_random_models_say_different_things(models, expected):
    """Otherwise the tests below would prove little."""
    distinct = len({token for tokens in expected for token in tokens})
    outputs = len(set(map(tuple, expected)))
    if isinstance(models[0], T5):
        assert distinct > 3 and outputs > 1
    else:
        assert distinct > 12 and outputs == len(PROMPTS)


@pytest.mark.parametrize("cache", CACHES)
def test_greedy_is_hugging_faces_token_for_token(models, expected, cache):
    for prompt, tokens in zip(PROMPTS, expected, strict=True):
        got = generate(models[0], [prompt], max_new_tokens=NEW, make_cache=CACHES[cache])
        assert got == [tokens]


@pytest.mark.parametrize("cache", CACHES)
def test_prompts_of_one_length_in_one_batch(models, expected, cache):
    got = generate(
        models[0], [PROMPTS[0], PROMPTS[3]], max_new_tokens=NEW, make_cache=CACHES[cache]
    )
    assert got == [expected[0], expected[3]]


@pytest.mark.parametrize("cache", ["default", "ragged", "paged"])
def test_prompts_of_different_lengths_are_each_as_if_alone(models, expected, cache):
    assert generate(models[0], PROMPTS, max_new_tokens=NEW, make_cache=CACHES[cache]) == expected


@pytest.mark.parametrize("cache", ["default", "ragged", "paged"])
@torch.no_grad()
def test_gpt3s_band_follows_each_prompts_own_places(cache):
    """A band counted from the padded start would let a short prompt see too little, or too much."""
    model = randomised(Gpt3(GPT3))
    want = []
    for prompt in PROMPTS:
        ids = list(prompt)
        for _ in range(NEW):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        want.append(ids[len(prompt) :])
    assert len(set(map(tuple, want))) == len(PROMPTS)
    assert generate(model, PROMPTS, max_new_tokens=NEW, make_cache=CACHES[cache]) == want


@pytest.mark.parametrize("policy", [GrowingCache, PreallocatedCache, RaggedCache])
@torch.no_grad()
def test_keys_and_values_in_8_bits_give_nearly_the_same_logits(models, policy):
    options = {} if policy is GrowingCache else {"capacity": 20}
    cache = partial(Int8Cache, policy=policy, **options)
    prompts = PROMPTS if policy is RaggedCache else PROMPTS[:1]
    exact, exact_ids = prepare(models[0], prompts, NEW)
    rounded, ids = prepare(models[0], prompts, NEW, cache)
    for _ in range(4):
        expected, got = exact(exact_ids), rounded(ids)
        assert not torch.equal(got, expected)
        assert (got - expected).norm() < 0.05 * expected.norm()
        exact_ids = ids = expected[:, -1:].argmax(-1)


@pytest.mark.parametrize("window", [1, 3])
@torch.no_grad()
def test_a_sliding_window_is_the_model_under_that_mask(window):
    for name in ("gpt2", "llama"):
        model = pair(name)[0]
        cache = partial(SlidingWindowCache, window=window)
        [got] = generate(model, PROMPTS[:1], max_new_tokens=NEW, make_cache=cache)
        ids = list(PROMPTS[0])
        for _ in range(NEW):
            logits = model(torch.tensor([ids]), sliding_window(len(ids), window=window))
            ids.append(int(logits[0, -1].argmax()))
        assert got == ids[len(PROMPTS[0]) :]
        assert got != generate(model, PROMPTS[:1], max_new_tokens=NEW)[0]


@torch.no_grad()
def test_no_cache_at_all_gives_the_same_tokens(models, expected):
    model = models[0]
    encoder_decoder = hasattr(model, "encode")
    for prompt, tokens in zip(PROMPTS, expected, strict=True):
        ids = [0] if encoder_decoder else list(prompt)
        for token in tokens:
            inputs = ([prompt], [ids]) if encoder_decoder else ([ids],)
            logits = model(*map(torch.tensor, inputs))
            assert int(logits[0, -1].argmax()) == token
            ids.append(token)


def test_a_stop_token_ends_a_sequence_and_is_left_out(models, expected):
    for stop_at in (0, 3, NEW - 1):
        stop = expected[0][stop_at]
        want = [tokens[: tokens.index(stop)] if stop in tokens else tokens for tokens in expected]
        assert generate(models[0], PROMPTS, max_new_tokens=NEW, stop_ids={stop}) == want


def test_each_sequence_ends_by_itself_and_the_rest_go_on_in_a_smaller_batch(models, expected):
    stops = {tokens[place] for tokens, place in zip(expected, (2, 5, 1), strict=False)}
    want = []
    for tokens in expected:
        end = next((i for i, token in enumerate(tokens) if token in stops), NEW)
        want.append(tokens[:end])
    assert generate(models[0], PROMPTS, max_new_tokens=NEW, stop_ids=stops) == want


def test_hugging_face_stops_there_too():
    for name in ("gpt2", "t5"):
        ours, theirs = pair(name)
        stop = theirs_generates(theirs, PROMPTS[0], NEW)[0][4]
        got = generate(ours, PROMPTS[:1], max_new_tokens=NEW, stop_ids=[stop])
        [want] = theirs_generates(theirs, PROMPTS[0], NEW, eos_token_id=stop, pad_token_id=0)
        assert [*got[0], stop] == want


def test_a_stream_yields_a_step_at_a_time(models, expected):
    decoder, ids = prepare(models[0], PROMPTS, NEW)
    stop = expected[1][2]
    steps = stream(decoder, ids, max_new_tokens=NEW, stop_ids={stop})
    first = next(steps)
    assert first == [tokens[0] for tokens in expected]
    assert decoder.length == (1 if hasattr(models[0], "encode") else 5)
    columns = list(zip(first, *steps, strict=True))
    for column, tokens in zip(columns, expected, strict=True):
        end = tokens.index(stop) + 1 if stop in tokens else NEW
        assert list(column[:end]) == tokens[:end]
        assert set(column[end:]) <= {None}


def test_a_stream_ends_with_its_last_sequence(models, expected):
    decoder, ids = prepare(models[0], PROMPTS[:1], NEW)
    stop = expected[0][3]
    steps = list(stream(decoder, ids, max_new_tokens=NEW, stop_ids={stop}))
    assert len(steps) == expected[0].index(stop) + 1
    assert steps[-1] == [stop]


def test_a_padded_source_is_read_as_if_alone():
    ours, theirs = pair("t5")
    longest = max(map(len, PROMPTS))
    lengths = torch.tensor([len(prompt) for prompt in PROMPTS])
    source = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in PROMPTS])
    want = theirs.generate(
        source,
        attention_mask=padding(lengths, longest)[:, 0, 0].long(),
        max_new_tokens=NEW,
        do_sample=False,
    )
    assert generate(ours, PROMPTS, max_new_tokens=NEW) == want[:, 1:].tolist()


def test_a_repetition_penalty_sees_a_short_prompt_only_once():
    """The padding before a short prompt must not be penalised as if it had been said."""
    model = gpt2()
    sampling = Sampling(temperature=0.0, repetition_penalty=1.7)
    alone = [generate(model, [p], max_new_tokens=NEW, sampling=sampling)[0] for p in PROMPTS]
    assert generate(model, PROMPTS, max_new_tokens=NEW, sampling=sampling) == alone


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_repetition_penalty_is_hugging_faces(name):
    ours, theirs = pair(name)
    sampling = Sampling(temperature=0.0, repetition_penalty=1.5)
    for prompt in PROMPTS:
        want = theirs_generates(theirs, prompt, NEW, repetition_penalty=1.5)
        assert generate(ours, [prompt], max_new_tokens=NEW, sampling=sampling) == want


def test_sampling_is_repeated_by_its_generator():
    def sample(seed):
        generator = torch.Generator().manual_seed(seed)
        return generate(
            gpt2(), PROMPTS, max_new_tokens=NEW, sampling=Sampling(), generator=generator
        )

    assert sample(1) == sample(1) != sample(2)


def test_all_positions_of_the_model_can_be_used():
    model = gpt2(max_positions=8)
    assert len(generate(model, [[1, 2, 3]], max_new_tokens=6)[0]) == 6


def test_caches_have_the_sizes_and_the_type_of_the_model():
    caches = new_caches(t5(), GrowingCache, 3)
    assert len(caches) == 2
    assert (caches[0].heads, caches[0].key_dim, caches[0].batch_size) == ((4,), 8, 3)
    assert caches[0].dtype == torch.float64


@torch.no_grad()
def test_a_decoder_forgets_and_selects():
    model = gpt2()
    decoder = Decoder(model, GrowingCache, 2)
    ids = torch.tensor([PROMPTS[0], PROMPTS[3]])
    whole = decoder(ids, last=5)
    decoder.truncate(2)
    assert decoder.length == 2
    torch.testing.assert_close(decoder(ids[:, 2:], last=3), whole[:, 2:])
    decoder.truncate(4)
    decoder.select(torch.tensor([1, 1, 0]))
    torch.testing.assert_close(decoder(ids[[1, 1, 0], 4:]), whole[[1, 1, 0], 4:])


@torch.no_grad()
def test_what_a_decoder_refuses():
    decoder = Decoder(gpt2(), GrowingCache, 2)
    with pytest.raises(ValueError, match=r"keys must be \(2, 3, 5, 8\).*got \(1, 3, 5, 8\)"):
        decoder(torch.tensor(PROMPTS[:1]))
    decoder = Decoder(gpt2(), GrowingCache, 2)
    decoder(torch.tensor([PROMPTS[0], PROMPTS[3]]))
    with pytest.raises(ValueError, match=r"length must be a whole number from 0 to 5.*got 6"):
        decoder.truncate(6)
    with pytest.raises(ValueError, match=r"rows must be whole numbers from 0 to 1.*got \[2\]"):
        decoder.select(torch.tensor([2]))
    with pytest.raises(ValueError, match="there are no tokens in ids of shape"):
        decoder(torch.zeros(2, 0, dtype=torch.long))


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, r"each prompt needs at least one token, got lengths \[\]"),
        ([[1], []], {}, r"each prompt needs at least one token, got lengths \[1, 0\]"),
        ([[1, 2]], {"max_new_tokens": 0}, "max_new_tokens"),
        ([[1, 2]], {"max_new_tokens": 2.5}, "max_new_tokens"),
        ([[1, 2]], {"max_new_tokens": 32}, "2 tokens and 32 new ones do not fit into the 32"),
        ([[1, VOCAB]], {}, "token ids must lie between 0 and 39, got ids from 1 to 40"),
        ([[-1]], {}, "token ids must lie between 0 and 39"),
        ([["a"]], {}, "whole numbers"),
        ([[1, 2.5]], {}, "whole numbers"),
        ([1, 2], {}, "lists of whole numbers"),
    ],
)
def test_what_generate_refuses(import_unchecked, prompts, options, message):
    module = import_unchecked("lib.models.generation.generate")
    models = import_unchecked("lib.models")
    configs = import_unchecked("lib.models.configs")
    model = models.Gpt2(
        configs.GptConfig(
            vocab_size=VOCAB,
            hidden_size=8,
            num_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            max_positions=32,
        )
    ).eval()
    with pytest.raises(ValueError, match=message):
        module.generate(model, prompts, **{"max_new_tokens": 3, **options})


def test_a_model_that_writes_nothing():
    vit = Vit(VitConfig(**SIZES, image_size=8, patch_size=4))
    for model in (Bert(BertConfig(**SIZES)), vit):
        with pytest.raises(ValueError, match=f"a {type(model).__name__} has no decoder to write"):
            generate(model, PROMPTS, max_new_tokens=2)


def test_a_cache_for_one_length_refuses_several():
    for make_cache in (GrowingCache, partial(PreallocatedCache, capacity=20)):
        with pytest.raises(ValueError, match=r"lengths \[5, 1, 3, 5\] need .*RaggedCache"):
            generate(gpt2(), PROMPTS, max_new_tokens=2, make_cache=make_cache)
    with pytest.raises(ValueError, match=r"lengths \[5, 1, 3, 5\] need .*RaggedCache"):
        generate(
            gpt2(),
            PROMPTS,
            max_new_tokens=2,
            make_cache=partial(Int8Cache, policy=PreallocatedCache, capacity=20),
        )
