"""`python -m tests.bench.models`: forward and backward, float32, against Hugging Face's models.

Processor time of one thread, weights and dropout the same on both sides. BERT computes logits at
masked places only, which its peer cannot. The limit is the time of the matrix products alone, at
the speed of a large one.
"""

from collections.abc import Callable

import torch
import transformers
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, pad
from torch.utils.flop_counter import FlopCounterMode

from lib.models import T5, Bert, BertForPreTraining, Gpt2
from lib.models.configs import BertConfig, GptConfig, T5Config
from tests.bench.generation import NO_TOKENS
from tests.bench.racing import seconds_of, show_speeds

BATCH, TOKENS, TARGET, VOCAB, ROUNDS = 8, 128, 32, 8192, 3
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 384,
    "num_layers": 6,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
}

Step = Callable[[], object]


def step(model: nn.Module, loss: Callable[[], Tensor]) -> Step:
    """Forward and backward."""

    def run() -> None:
        model.zero_grad()
        loss().backward()

    return run


def bert() -> dict[str, Step]:
    names = {"num_hidden_layers" if key == "num_layers" else key: SIZES[key] for key in SIZES}
    theirs = transformers.BertForMaskedLM(transformers.BertConfig(**names)).train()
    ours = BertForPreTraining(Bert(BertConfig(**SIZES))).train()
    ids = torch.randint(VOCAB, (BATCH, TOKENS))
    chosen = torch.rand(BATCH, TOKENS) < 0.15
    labels = ids.masked_fill(~chosen, -100)
    everything = torch.ones_like(ids)

    def masked_only() -> Tensor:
        hidden = ours.bert(ids)[chosen]
        return cross_entropy(ours.masked_tokens(hidden, ours.bert.tokens), ids[chosen])

    return {
        "Hugging Face": step(
            theirs, lambda: theirs(ids, attention_mask=everything, labels=labels).loss
        ),
        "ours": step(ours, masked_only),
    }


def gpt() -> dict[str, Step]:
    sizes = {"vocab_size": VOCAB, "n_embd": 384, "n_layer": 6, "n_head": 6, "n_inner": 1536}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **NO_TOKENS)).train()
    ours = Gpt2(GptConfig(**SIZES)).train()
    ids = torch.randint(VOCAB, (BATCH, TOKENS))

    # As many logits as its peer computes, though the last token has nothing to predict.
    labels = pad(ids[:, 1:], (0, 1), value=-100).flatten()

    def loss() -> Tensor:
        return cross_entropy(ours(ids).flatten(end_dim=1), labels)

    return {
        "Hugging Face": step(theirs, lambda: theirs(ids, labels=ids).loss),
        "ours": step(ours, loss),
    }


def t5() -> dict[str, Step]:
    sizes = {"vocab_size": VOCAB, "d_model": 384, "d_kv": 64, "d_ff": 1536, "num_heads": 6}
    config = transformers.T5Config(
        **sizes, num_layers=6, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1
    )
    theirs = transformers.T5ForConditionalGeneration(config).train()
    ours = T5(T5Config(**SIZES, head_dim=64)).train()
    ids, target = torch.randint(VOCAB, (BATCH, TOKENS)), torch.randint(VOCAB, (BATCH, TARGET))
    shifted = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1]], dim=1)

    def loss() -> Tensor:
        return cross_entropy(ours(ids, shifted).flatten(end_dim=1), target.flatten())

    return {
        "Hugging Face": step(theirs, lambda: theirs(ids, labels=target).loss),
        "ours": step(ours, loss),
    }


def show_limit(run: Step, tokens: int) -> None:
    """The floating-point operations of one step, over the speed of a large product."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    left, right = torch.randn(2, 1024, 1024)
    speed = 2 * 1024**3 / min(seconds_of(lambda: left @ right) for _ in range(10))
    flops = counter.get_total_flops()
    each = flops / speed / tokens * 1e3
    print(f"  limit of ours: {flops / 1e9:.1f} GFLOP at {speed / 1e9:.0f} GFLOP/s, ", end="")
    print(f"{each:.3f} ms a token\n")


def main() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tables = {"BERT, masked tokens": bert, "GPT-2": gpt, f"T5, {TARGET} target tokens": t5}
    for name, make in tables.items():
        rivals, tokens = make(), BATCH * TOKENS
        title = f"{name}, forward and backward, batch {BATCH} of {TOKENS}, dropout 0.1"
        show_speeds(title, rivals, tokens, ROUNDS)
        show_limit(rivals["ours"], tokens)
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
