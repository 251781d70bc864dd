"""Each model against its counterpart at Hugging Face, in float64, with all parameters random.

Random, because a fresh model's biases are 0 and its gains 1, which would hide one that is swapped
or left out. In float64 a wrong eps or the other GELU stands out from the rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional
from transformers.models.llama import modeling_llama
from transformers.models.t5 import modeling_t5

from lib import masks
from lib.models import (
    T5,
    Albert,
    Bert,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
    Electra,
    Gpt1,
    Gpt2,
    Llama,
    Transformer,
    Vit,
    configs,
    watch,
)
from lib.models.hugging_face import from_hugging_face, to_hugging_face

BATCH, TOKENS, TARGETS, VOCAB, CLASSES = 3, 9, 7, 50, 5
LENGTHS = torch.tensor([9, 6, 1])
PADDING = masks.padding(LENGTHS, TOKENS)
ATTENTION_MASK = PADDING[:, 0, 0].long()

OURS = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
}
THEIRS = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
}


def draw(seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = {"size": (BATCH, TOKENS), "generator": generator}
    return {
        "ids": torch.randint(VOCAB, **tokens),
        "labels": torch.randint(VOCAB, **tokens).masked_fill(ATTENTION_MASK == 0, -100),
        "token_classes": torch.randint(CLASSES, **tokens).masked_fill(ATTENTION_MASK == 0, -100),
        "segments": torch.randint(2, **tokens),
        "classes": torch.randint(CLASSES, (BATCH,), generator=generator),
        "pairs": torch.randint(2, (BATCH,), generator=generator),
        "target": torch.randint(VOCAB, (BATCH, TARGETS), generator=generator),
        "target_labels": torch.randint(VOCAB, (BATCH, TARGETS), generator=generator),
        "images": torch.randn(BATCH, 3, 8, 8, generator=generator, dtype=torch.float64),
    }


DRAWN = draw()


def cross_entropy(logits, labels):
    return functional.cross_entropy(logits.flatten(end_dim=-2), labels.flatten())


def loss_against(labels):
    return lambda logits: cross_entropy(logits, DRAWN[labels])


@dataclass(frozen=True)
class Pair:
    """How to make both models and call them, the names of their outputs, the loss of these."""

    theirs: Callable[[], nn.Module]
    ours: Callable[[], nn.Module]
    inputs: dict
    run: Callable[[nn.Module], torch.Tensor | tuple]
    loss: Callable[..., torch.Tensor]
    outputs: tuple[str, ...] = ("logits",)


# BERT


BERT = configs.BertConfig(**OURS, max_positions=20)
BERT_INPUTS = {
    "input_ids": DRAWN["ids"],
    "token_type_ids": DRAWN["segments"],
    "attention_mask": ATTENTION_MASK,
}


def their_bert(kind, **options):
    return lambda: kind(transformers.BertConfig(**THEIRS, max_position_embeddings=20, **options))


def run_bert(model):
    return model(DRAWN["ids"], DRAWN["segments"], PADDING)


def pre_training_loss(tokens, pairs):
    return cross_entropy(tokens, DRAWN["labels"]) + cross_entropy(pairs, DRAWN["pairs"])


def their_albert():
    config = transformers.AlbertConfig(**THEIRS, max_position_embeddings=20, embedding_size=16)
    return transformers.AlbertModel(config, add_pooling_layer=False)


def their_electra():
    sizes = {"max_position_embeddings": 20, "embedding_size": 24, "layer_norm_eps": 1e-12}
    return transformers.ElectraForPreTraining(transformers.ElectraConfig(**THEIRS, **sizes))


def replaced_loss(logits):
    seen = ATTENTION_MASK == 1
    replaced = DRAWN["segments"].to(logits)
    return functional.binary_cross_entropy_with_logits(logits[seen], replaced[seen])


# GPT and Llama


GPT2 = configs.GptConfig(**OURS, max_positions=20)
LLAMA_SIZES = {"num_key_value_heads": 2, "max_positions": 20}


def their_gpt2():
    config = transformers.GPT2Config(
        vocab_size=VOCAB,
        n_embd=24,
        n_layer=3,
        n_head=4,
        n_inner=40,
        n_positions=20,
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.GPT2LMHeadModel(config)


def their_gpt1():
    sizes = {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 20}
    return transformers.OpenAIGPTLMHeadModel(
        transformers.OpenAIGPTConfig(vocab_size=VOCAB, **sizes)
    )


def their_llama(tied):
    config = transformers.LlamaConfig(
        **THEIRS,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
    )
    model = transformers.LlamaForCausalLM(config)
    model.model.rotary_emb = DoubleRotary()
    return model


class DoubleRotary(nn.Module):
    """Hugging Face's turns by angles in float32, also in a model in float64."""

    def forward(self, x, position_ids):
        frequencies = 1e5 ** (-torch.arange(0, 6, 2, dtype=torch.float64) / 6)
        angles = position_ids[..., None] * frequencies
        return torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()


def run_decoder(model):
    return model(DRAWN["ids"], PADDING)


def next_token_loss(logits):
    return cross_entropy(logits[:, :-1], DRAWN["labels"][:, 1:])


DECODER_INPUTS = {
    "input_ids": DRAWN["ids"],
    "attention_mask": ATTENTION_MASK,
    "labels": DRAWN["labels"],
}


# T5


def our_t5(**variant):
    return T5(configs.T5Config(**OURS, head_dim=8, num_buckets=8, max_distance=12, **variant))


def their_t5(kind, tied=True):
    config = transformers.T5Config(
        vocab_size=VOCAB,
        d_model=24,
        d_kv=8,
        d_ff=40,
        num_layers=3,
        num_heads=4,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=12,
        feed_forward_proj=kind,
    )
    model = transformers.T5ForConditionalGeneration(config)
    if not tied:
        untie(model)
    return model


def untie(model):
    """`tie_word_embeddings=False` no longer does so; what it still does is leave out the scale."""
    model.lm_head.weight = nn.Parameter(torch.empty_like(model.shared.weight))
    model.config.tie_word_embeddings = False
    model.config.scale_decoder_outputs = False


def run_t5(model):
    return model(DRAWN["ids"], DRAWN["target"], PADDING)


T5_INPUTS = {
    "input_ids": DRAWN["ids"],
    "attention_mask": ATTENTION_MASK,
    "decoder_input_ids": DRAWN["target"],
    "labels": DRAWN["target_labels"],
}


# ViT


VIT = configs.VitConfig(**{**OURS, "vocab_size": CLASSES}, image_size=8, patch_size=4)


def their_vit():
    sizes = {name: size for name, size in THEIRS.items() if name != "vocab_size"}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=CLASSES)
    return transformers.ViTForImageClassification(config)


def run_vit(model):
    return model(DRAWN["images"])


PAIRS = {
    "bert": Pair(
        their_bert(lambda config: transformers.BertModel(config, add_pooling_layer=False)),
        lambda: Bert(BERT),
        BERT_INPUTS,
        run_bert,
        lambda hidden: hidden.square().mean(),
        ("last_hidden_state",),
    ),
    "bert for pre-training": Pair(
        their_bert(transformers.BertForPreTraining),
        lambda: BertForPreTraining(Bert(BERT)),
        {**BERT_INPUTS, "labels": DRAWN["labels"], "next_sentence_label": DRAWN["pairs"]},
        run_bert,
        pre_training_loss,
        ("prediction_logits", "seq_relationship_logits"),
    ),
    "bert for sequences": Pair(
        their_bert(transformers.BertForSequenceClassification, num_labels=CLASSES),
        lambda: BertForSequenceClassification(Bert(BERT), CLASSES),
        {**BERT_INPUTS, "labels": DRAWN["classes"]},
        run_bert,
        loss_against("classes"),
    ),
    "bert for tokens": Pair(
        their_bert(transformers.BertForTokenClassification, num_labels=CLASSES),
        lambda: BertForTokenClassification(Bert(BERT), CLASSES),
        {**BERT_INPUTS, "labels": DRAWN["token_classes"]},
        run_bert,
        loss_against("token_classes"),
    ),
    "albert": Pair(
        their_albert,
        lambda: Albert(configs.AlbertConfig(**OURS, max_positions=20, embedding_size=16)),
        BERT_INPUTS,
        run_bert,
        lambda hidden: hidden.square().mean(),
        ("last_hidden_state",),
    ),
    "electra": Pair(
        their_electra,
        lambda: Electra(Bert(BERT)),
        {**BERT_INPUTS, "labels": DRAWN["segments"]},
        run_bert,
        replaced_loss,
    ),
    "gpt1": Pair(
        their_gpt1,
        lambda: Gpt1(configs.Gpt1Config(**{**OURS, "intermediate_size": 4 * 24}, max_positions=20)),
        DECODER_INPUTS,
        run_decoder,
        next_token_loss,
    ),
    "gpt2": Pair(their_gpt2, lambda: Gpt2(GPT2), DECODER_INPUTS, run_decoder, next_token_loss),
    "llama": Pair(
        lambda: their_llama(True),
        lambda: Llama(configs.LlamaConfig(**OURS, **LLAMA_SIZES)),
        DECODER_INPUTS,
        run_decoder,
        next_token_loss,
    ),
    "llama, untied": Pair(
        lambda: their_llama(False),
        lambda: Llama(configs.LlamaConfig(**OURS, **LLAMA_SIZES, tied=False)),
        DECODER_INPUTS,
        run_decoder,
        next_token_loss,
    ),
    "t5": Pair(lambda: their_t5("relu"), our_t5, T5_INPUTS, run_t5, loss_against("target_labels")),
    "t5, gated": Pair(
        lambda: their_t5("gated-gelu"),
        lambda: our_t5(gated=True, activation="gelu_tanh"),
        T5_INPUTS,
        run_t5,
        loss_against("target_labels"),
    ),
    "t5 1.1": Pair(
        lambda: their_t5("gated-gelu", tied=False),
        lambda: our_t5(gated=True, activation="gelu_tanh", tied=False),
        T5_INPUTS,
        run_t5,
        loss_against("target_labels"),
    ),
    "vit": Pair(
        their_vit,
        lambda: Vit(VIT),
        {"pixel_values": DRAWN["images"], "labels": DRAWN["classes"]},
        run_vit,
        loss_against("classes"),
    ),
}


def randomise(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model


@pytest.fixture(autouse=True)
def norms_in_double(monkeypatch):
    """Hugging Face's RMSNorms compute in float32 whatever they are given."""

    def forward(norm, x):
        scale = (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
        return norm.weight * x * scale

    for kind in (modeling_t5.T5LayerNorm, modeling_llama.LlamaRMSNorm):
        monkeypatch.setattr(kind, "forward", forward)


@pytest.fixture(params=PAIRS)
def pair(request):
    pair = PAIRS[request.param]
    theirs, ours = randomise(pair.theirs()), pair.ours().double().eval()
    ours.load_state_dict(from_hugging_face(theirs.state_dict(), ours))
    return pair, theirs, ours


def assert_close(actual, expected, name, tolerance=1e-10):
    torch.testing.assert_close(
        actual, expected, rtol=tolerance, atol=tolerance, msg=lambda text: f"{name}: {text}"
    )


def test_outputs_loss_and_the_gradient_of_every_parameter(pair):
    pair, theirs, ours = pair
    expected, outputs = theirs(**pair.inputs), pair.run(ours)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for name, values in zip(pair.outputs, outputs, strict=True):
        assert_close(values, expected[name], name)
    loss = pair.loss(*outputs)
    their_loss = pair.loss(*(expected[name] for name in pair.outputs))
    if "loss" in expected:
        # Their own is in float32 for some models, so that its gradients are too.
        assert_close(their_loss, expected["loss"].double(), "loss", 1e-6)
    loss.backward()
    their_loss.backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    in_our_names = from_hugging_face(gradients, ours)
    assert set(in_our_names) == {name for name, _ in ours.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, in_our_names[name], name)


def test_hidden_states_and_attention_weights_of_every_layer(pair):
    pair, theirs, ours = pair
    with torch.no_grad(), watch(ours) as seen:
        expected = theirs(**pair.inputs, output_hidden_states=True)
        pair.run(ours)
        theirs.set_attn_implementation("eager")
        attentions = theirs(**pair.inputs, output_attentions=True)
        for stack in ("encoder_", "decoder_") if isinstance(ours, T5) else ("",):
            states = those(seen.hidden_states, stack[:-1])
            if isinstance(ours, Gpt2 | Llama | T5):
                # What Hugging Face gives out as the last layer's has been normalised.
                states[-1] = ours.get_submodule(stack[:-1]).norm(states[-1])
            compare_layers(states, expected[f"{stack}hidden_states"][1:], 1e-10)
            # Some of their softmaxes are in float32.
            weights = those(seen.attention_weights, stack[:-1], "self_attention")
            compare_layers(weights, attentions[f"{stack}attentions"], 1e-6)
        weights = those(seen.attention_weights, "cross_attention")
        compare_layers(weights, attentions.get("cross_attentions") or (), 1e-6)


def those(seen, *parts):
    return [tensor for name, tensor in seen.items() if all(part in name for part in parts)]


def compare_layers(actual, expected, tolerance):
    if len(actual) == 1:
        # ALBERT's one layer keeps what its last run left.
        expected = expected[-1:]
    for index, (values, reference) in enumerate(zip(actual, expected, strict=True)):
        assert_close(values, reference, f"layer {index}", tolerance)


def test_state_dicts_survive_the_way_there_and_back_bit_for_bit(pair):
    _, theirs, ours = pair
    written, original = to_hugging_face(ours), theirs.state_dict()
    for name, tensor in written.items():
        assert torch.equal(tensor, original[name]), name
    shared = {tensor.data_ptr() for name, tensor in original.items() if name in written}
    assert {name for name, tensor in original.items() if tensor.data_ptr() not in shared} == set()
    read = from_hugging_face(written, ours)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(read[name], tensor), name


def their_transformer(config):
    """nn.Transformer; its own stacks end in one more norm, which the paper does not have."""
    sizes = (config.hidden_size, config.num_attention_heads, config.intermediate_size)
    options = {"dropout": 0.0, "batch_first": True, "dtype": torch.float64}
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(*sizes, **options), config.num_layers
    )
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(*sizes, **options), config.num_layers
    )
    return nn.Transformer(
        *sizes[:2], custom_encoder=encoder, custom_decoder=decoder, batch_first=True
    )


def transformer_names(config):
    """Their parameters' names to ours: one, or those that theirs stacks."""
    names = {}
    for stack in ("encoder", "decoder"):
        attentions = {"self_attn": "self_attention"}
        if stack == "decoder":
            attentions["multihead_attn"] = "cross_attention"
        for index in range(config.num_layers):
            layer = f"{stack}.layers.{index}"
            for kind in ("weight", "bias"):
                for place, (theirs, ours) in enumerate(attentions.items(), 1):
                    us = f"{layer}.{ours}.sublayer"
                    projections = [f"{us}.{name}.{kind}" for name in ("query", "key", "value")]
                    names[f"{layer}.{theirs}.in_proj_{kind}"] = projections
                    names[f"{layer}.{theirs}.out_proj.{kind}"] = [f"{us}.output.{kind}"]
                    names[f"{layer}.norm{place}.{kind}"] = [f"{layer}.{ours}.norm.{kind}"]
                us = f"{layer}.feed_forward"
                names[f"{layer}.linear1.{kind}"] = [f"{us}.sublayer.up.{kind}"]
                names[f"{layer}.linear2.{kind}"] = [f"{us}.sublayer.down.{kind}"]
                names[f"{layer}.norm{len(attentions) + 1}.{kind}"] = [f"{us}.norm.{kind}"]
    return names


def test_the_original_transformer_against_the_one_of_torch():
    config = configs.TransformerConfig(**OURS)
    ours, theirs = randomise(Transformer(config)), their_transformer(config)
    names, parameters = transformer_names(config), dict(ours.named_parameters())
    theirs.load_state_dict(
        {name: torch.cat([parameters[part] for part in parts]) for name, parts in names.items()}
    )
    logits = ours(DRAWN["ids"], DRAWN["target"], PADDING)
    hidden = theirs(
        ours.embed(DRAWN["ids"]),
        ours.embed(DRAWN["target"]),
        tgt_mask=~masks.causal(TARGETS),
        src_key_padding_mask=~PADDING[:, 0, 0],
        memory_key_padding_mask=~PADDING[:, 0, 0],
    )
    assert_close(logits, hidden @ ours.tokens.weight.T, "logits")
    cross_entropy(logits, DRAWN["target_labels"]).backward()
    embedding = ours.tokens.weight.grad.clone()
    gradients = {name: parameter.grad.clone() for name, parameter in parameters.items()}
    ours.zero_grad()
    loss = cross_entropy(hidden @ ours.tokens.weight.T, DRAWN["target_labels"])
    loss.backward()
    assert_close(ours.tokens.weight.grad, embedding, "the embedding")
    their_gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert set(their_gradients) == set(names)
    assert sum(map(len, names.values())) == len(parameters) - 1
    for name, parts in names.items():
        assert_close(torch.cat([gradients[part] for part in parts]), their_gradients[name], name)
