"""What a model is given wrongly, it names, with what it expected."""

import pytest
import torch

SIZES = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
IDS = torch.zeros(2, 8, dtype=torch.long)


@pytest.fixture(scope="module")
def models(import_unchecked):
    return import_unchecked("lib.models")


@pytest.fixture(scope="module")
def hugging_face(import_unchecked):
    return import_unchecked("lib.models.hugging_face")


def build_t5(models):
    return models.T5(models.configs.T5Config(**SIZES, head_dim=8))


@pytest.fixture(params=["Bert", "Gpt1", "Gpt2", "Gpt3", "Albert", "Llama"])
def model(request, models):
    return build(models, request.param)


def build(models, name, **options):
    kinds = {"Gpt2": "GptConfig"}
    if name == "Llama":
        options = {"num_key_value_heads": 1}
    config = getattr(models.configs, kinds.get(name, f"{name}Config"))
    return getattr(models, name)(config(**SIZES, max_positions=8, **options))


@pytest.mark.parametrize("wrong", [30, -1])
def test_ids_out_of_range(model, wrong):
    with pytest.raises(ValueError, match=rf"between 0 and 29, .*{wrong}"):
        model(IDS.clone().index_fill_(1, torch.tensor([3]), wrong))


@pytest.mark.parametrize("shape", [(0, 8), (2, 0)])
def test_no_tokens(model, shape):
    with pytest.raises(ValueError, match=rf"no tokens in ids of shape \({shape[0]}, {shape[1]}\)"):
        model(torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("shape", [(0, 8), (2, 0)])
def test_no_tokens_for_t5(models, shape):
    nothing = torch.zeros(shape, dtype=torch.long)
    model = build_t5(models)
    for call in (lambda: model.encode(nothing), lambda: model.decode(nothing, None)):
        with pytest.raises(ValueError, match=r"no tokens in ids of shape"):
            call()


def test_as_many_targets_as_inputs(models):
    model = build_t5(models)
    with pytest.raises(ValueError, match="1 targets cannot look at 2 inputs: one for each"):
        model(IDS, IDS[:1])


def test_a_cache_and_a_memory_for_each_layer(models, import_unchecked):
    kv_cache = import_unchecked("lib.kv_cache")
    generation = import_unchecked("lib.models.generation")
    gpt2, t5 = build(models, "Gpt2"), build_t5(models)
    caches = generation.new_caches(gpt2, kv_cache.GrowingCache, batch_size=2)
    with pytest.raises(ValueError, match="2 layers need as many caches, got 1"):
        gpt2(IDS, caches=caches[:1])
    memory = t5.encode(IDS)
    with pytest.raises(ValueError, match=r"2 layers need as many keys and values.* got 3"):
        t5.decode(IDS, [*memory, memory[0]])


@pytest.mark.parametrize("shape", [(2, 1, 1, 7), (3, 1, 8, 8)])
def test_a_mask_that_does_not_fit(model, shape):
    with pytest.raises(ValueError, match="mask"):
        model(IDS, mask=torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize("name", ["Bert", "Gpt2", "Albert"])
def test_a_sequence_longer_than_the_model(models, name):
    with pytest.raises(ValueError, match="positions 0 to 7 are learned, got 0 to 8"):
        build(models, name)(torch.zeros(1, 9, dtype=torch.long))


def test_a_sequence_longer_than_llama_was_made_for(models):
    with pytest.raises(ValueError, match="at most 8 tokens, got 9"):
        build(models, "Llama")(torch.zeros(1, 9, dtype=torch.long))


def test_images_of_another_size(models):
    vit = models.Vit(models.configs.VitConfig(**SIZES, image_size=8, patch_size=4))
    for shape in (2, 3, 8, 12), (2, 1, 8, 8), (0, 3, 8, 8):
        with pytest.raises(ValueError, match="images must be"):
            vit(torch.zeros(shape))


def test_more_visible_patches_than_there_are(import_unchecked):
    mae = import_unchecked("lib.models.mae")
    with pytest.raises(ValueError, match="num_visible must be at most 4, got 5"):
        mae.draw_visible(2, 4, 5, torch.Generator())


def test_an_unknown_preset_or_activation(models, import_unchecked):
    with pytest.raises(ValueError, match=r"no preset 'bert-huge'; there are .*bert-base-uncased"):
        models.preset("bert-huge")
    with pytest.raises(ValueError, match=r"no activation 'swish'; there are .*silu"):
        import_unchecked("lib.models.activations").activation("swish")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden_size": 15}, "num_attention_heads must divide hidden_size"),
        ({"num_layers": 0}, "num_layers must be a positive"),
        ({"vocab_size": 30.0}, "vocab_size must be a positive"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
    ],
)
def test_sizes_that_make_no_model(models, wrong, message):
    with pytest.raises(ValueError, match=message):
        models.configs.BertConfig(**{**SIZES, **wrong})


def test_a_checkpoint_of_another_shape(models, hugging_face):
    small = build(models, "Bert")
    large = models.Bert(models.configs.BertConfig(**{**SIZES, "hidden_size": 32}, max_positions=8))
    state = hugging_face.to_hugging_face(large)
    with pytest.raises(ValueError, match=r"tokens.weight has .* \(30, 16\) .* \(30, 32\)"):
        hugging_face.from_hugging_face(state, small)


def test_a_checkpoint_of_a_deeper_model(models, hugging_face):
    deep = models.Bert(models.configs.BertConfig(**{**SIZES, "num_layers": 3}, max_positions=8))
    state = hugging_face.to_hugging_face(deep)
    with pytest.raises(ValueError, match=r"16 tensors of layers that this model lacks: .*layer\.2"):
        hugging_face.from_hugging_face(state, build(models, "Bert"))


def test_a_tensor_that_holds_no_query_key_and_value(models, hugging_face):
    model = build(models, "Gpt2")
    state = hugging_face.to_hugging_face(model)
    [name] = [name for name in state if name.endswith("h.0.attn.c_attn.weight")]
    state[name] = torch.zeros(16, 2)
    with pytest.raises(ValueError, match=rf"{name} of the shape \(16, 2\) .* cannot be made into"):
        hugging_face.from_hugging_face(state, model)


def test_a_checkpoint_of_another_architecture(models, hugging_face):
    state = hugging_face.to_hugging_face(build(models, "Gpt2"))
    with pytest.raises(ValueError, match=r"the checkpoint has no embeddings\.word_embeddings"):
        hugging_face.from_hugging_face(state, build(models, "Bert"))
    with pytest.raises(ValueError, match="it is empty"):
        hugging_face.from_hugging_face({}, build(models, "Bert"))
    with pytest.raises(ValueError, match="no counterpart of Linear"):
        hugging_face.entries(torch.nn.Linear(2, 2))


def test_no_formula_for_a_configuration(import_unchecked):
    parameters = import_unchecked("lib.memory.parameters")
    with pytest.raises(ValueError, match="no formula for a dict; there are BertConfig"):
        parameters.num_parameters({})
