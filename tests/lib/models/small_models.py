"""Small models of ours and of Hugging Face's with the same random weights, in float64."""

import torch
import transformers

from lib.models import T5, Gpt2, Llama
from lib.models.configs import GptConfig, LlamaConfig, T5Config
from lib.models.hugging_face import from_hugging_face

VOCAB = 40
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


EMBEDDINGS = ("wte", "wpe", "embed", "tokens", "positions")


def randomised(model, seed=0):
    """Every parameter drawn anew, so that greedy decoding wanders instead of repeating a token.

    Large matrices, small embeddings and biases, and norms that keep what they are given do that.
    In T5 only small norms do: its decoder starts with the same token whatever the prompt.
    """
    generator = torch.Generator().manual_seed(seed)
    is_t5 = isinstance(model, T5 | transformers.T5ForConditionalGeneration)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if is_t5 or any(part in name for part in EMBEDDINGS):
                drawn *= 0.3
            elif parameter.ndim == 1:
                drawn = 0.1 * drawn if name.endswith("bias") else 1 + 0.3 * drawn
            parameter.copy_(drawn)
    return model.double().eval()


def gpt2(seed=0, vocab_size=VOCAB, max_positions=32, num_layers=2):
    return randomised(
        Gpt2(
            GptConfig(
                vocab_size=vocab_size,
                hidden_size=24,
                num_layers=num_layers,
                num_attention_heads=3,
                intermediate_size=40,
                max_positions=max_positions,
            )
        ),
        seed,
    )


def their_gpt2(**options):
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=VOCAB,
            n_embd=24,
            n_layer=2,
            n_head=3,
            n_inner=40,
            n_positions=32,
            **NO_TOKENS | options,
        )
    )


def llama(seed=0):
    return randomised(
        Llama(
            LlamaConfig(
                vocab_size=VOCAB,
                hidden_size=24,
                num_layers=2,
                num_attention_heads=6,
                num_key_value_heads=2,
                intermediate_size=40,
                max_positions=32,
                rope_base=100.0,
            )
        ),
        seed,
    )


def their_llama(**options):
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=6,
            num_key_value_heads=2,
            intermediate_size=40,
            max_position_embeddings=32,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 100.0},
            tie_word_embeddings=True,
            **NO_TOKENS | options,
        )
    )


def t5(seed=0):
    return randomised(
        T5(
            T5Config(
                vocab_size=VOCAB,
                hidden_size=24,
                num_layers=2,
                num_attention_heads=4,
                head_dim=8,
                intermediate_size=40,
                num_buckets=8,
                max_distance=12,
            )
        ),
        seed,
    )


def their_t5(**options):
    config = transformers.T5Config(
        vocab_size=VOCAB,
        d_model=24,
        d_kv=8,
        d_ff=40,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=12,
        decoder_start_token_id=0,
        **NO_TOKENS | options,
    )
    return transformers.T5ForConditionalGeneration(config)


PAIRS = {"gpt2": (gpt2, their_gpt2), "llama": (llama, their_llama), "t5": (t5, their_t5)}


def pair(name, seed=0, **options):
    """Ours and theirs; the weights are drawn for theirs and carried over."""
    ours, theirs = PAIRS[name]
    ours, theirs = ours(), randomised(theirs(**options), seed)
    ours.load_state_dict(from_hugging_face(theirs.state_dict(), ours))
    return ours, theirs


def theirs_generates(model, prompt, max_new_tokens, **options):
    """What Hugging Face's `generate` adds to one prompt."""
    ids = torch.tensor([prompt])
    options = {"do_sample": False, "use_cache": True, **options}
    out = model.generate(ids, max_new_tokens=max_new_tokens, min_new_tokens=None, **options)
    return out[:, 1 if model.config.is_encoder_decoder else len(prompt) :].tolist()
