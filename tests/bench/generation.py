"""`python -m tests.bench.generation`: greedy decoding against Hugging Face's `generate`.

By the clock with as many threads as torch takes, and, as a machine may have others at work, in
processor time of one thread. The physical limit is the time in which memory gives the weights that
a step reads once; keys and values, which grow, and all arithmetic come on top. Above it stands what
the step's matrix products take by themselves, with torch's kernels and nothing between them.
"""

import time
from collections.abc import Callable

import torch
import transformers
from torch import nn

from lib.data.checkpoints import load
from lib.memory.machine import processor_name
from lib.models import Gpt2
from lib.models.configs import GptConfig
from lib.models.generation import generate
from lib.models.hugging_face import from_hugging_face, to_hugging_face
from lib.models.int8 import Int8Map, Int8PanelMap
from lib.models.packed import MakeMap, PackedMap, pack_model
from lib.models.panels import PanelMap
from lib.models.tiles import TileMap
from tests.bench.racing import Clock, seconds_of, show_speeds

PROMPT, NEW = 128, 256
ONE: dict[str, MakeMap] = {"panels": PanelMap, "8-bit panels": Int8PanelMap}
SEVERAL: dict[str, MakeMap] = {"tiles": TileMap, "8 bits": Int8Map}

NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def small_gpt2() -> tuple[nn.Module, nn.Module]:
    """14 million parameters, ours and theirs with the same weights."""
    sizes = {"vocab_size": 8192, "n_embd": 384, "n_layer": 6, "n_head": 6, "n_inner": 1536}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **NO_TOKENS)).eval()
    config = GptConfig(
        vocab_size=8192,
        hidden_size=384,
        num_layers=6,
        num_attention_heads=6,
        intermediate_size=1536,
    )
    ours = Gpt2(config).eval()
    ours.load_state_dict(from_hugging_face(theirs.state_dict(), ours))
    return ours, theirs


def smollm2() -> tuple[nn.Module, nn.Module]:
    """SmolLM2-135M, ours and theirs."""
    ours, _ = load("SmolLM2-135M")
    c = ours.config
    config = transformers.LlamaConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        num_hidden_layers=c.num_layers,
        num_attention_heads=c.num_attention_heads,
        num_key_value_heads=c.num_key_value_heads,
        intermediate_size=c.intermediate_size,
        max_position_embeddings=c.max_positions,
        rms_norm_eps=c.eps,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_base},
        tie_word_embeddings=True,
        **NO_TOKENS,
    )
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.load_state_dict(to_hugging_face(ours), strict=False)
    return ours, theirs


def compare(
    name: str,
    models: tuple[nn.Module, nn.Module],
    batch: int,
    new: int,
    rounds: int,
    clock: Clock,
) -> None:
    ours, theirs = models
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(ours.config.vocab_size, (batch, PROMPT), generator=generator)
    kinds = ONE if batch == 1 else SEVERAL
    packed = {kind: pack_model(ours, make_map) for kind, make_map in kinds.items()}

    def hugging_face() -> list[list[int]]:
        options = {"max_new_tokens": new, "do_sample": False, "use_cache": True}
        out = theirs.generate(prompts, attention_mask=torch.ones_like(prompts), **options)
        return out[:, PROMPT:].tolist()

    def own(model: nn.Module) -> Callable[[], list[list[int]]]:
        return lambda: generate(model, prompts.tolist(), max_new_tokens=new)

    rivals = {"Hugging Face": hugging_face, "readable": own(ours)}
    rivals |= {kind: own(model) for kind, model in packed.items()}
    title = f"{name}, batch {batch}, prompt {PROMPT}, {new} new tokens"
    show_speeds(title, rivals, batch * new, rounds, clock)
    show_agreement(rivals)
    for kind, model in packed.items():
        show_products(kind, model, batch, clock)
        show_limit(kind, step_bytes(model), batch, clock)
    print()


def show_agreement(rivals: dict[str, Callable[[], list[list[int]]]]) -> None:
    """How many tokens are the peer's, up to where a sequence first leaves it."""
    want = rivals["Hugging Face"]()
    for kind, run in rivals.items():
        pairs = list(zip(want, run(), strict=True))
        same = sum(_common(theirs, ours) for theirs, ours in pairs)
        print(f"  {kind:14}{same:6} of {sum(len(theirs) for theirs, _ in pairs)} tokens the same")


def _common(left: list[int], right: list[int]) -> int:
    agree = [one == other for one, other in zip(left, right, strict=True)]
    return agree.index(False) if False in agree else len(agree)


def packed_maps(packed: nn.Module) -> list[PackedMap]:
    """The linear maps of all layers, in the order in which a step comes to them."""
    parts = (vars(sublayer) for layer in packed.layers for sublayer, _ in layer.sublayers)
    return [part for each in parts for part in each.values() if hasattr(part, "nbytes")]


def step_bytes(packed: nn.Module) -> int:
    """Bytes of weights that a step reads."""
    return packed.tokens.map.nbytes + sum(each.nbytes for each in packed_maps(packed))


def show_products(kind: str, packed: nn.Module, batch: int, clock: Clock) -> None:
    """The time of a step's products alone."""
    hidden = torch.randn(batch, 1, packed.config.hidden_size)
    maps = [(each, torch.randn(batch, each.d_in)) for each in packed_maps(packed)]

    def products() -> None:
        for each, x in maps:
            each(x)
        packed.tokens.logits(hidden)

    seconds = min(seconds_of(products, clock) for _ in range(10))
    print(f"  products of {kind} alone: {seconds / batch * 1e3:.3f} ms a token")


def show_limit(kind: str, num_bytes: int, batch: int, clock: Clock) -> None:
    """The least time a token can take if its weights come from memory."""
    source = torch.ones(2**27)
    bandwidth = source.nbytes / min(seconds_of(source.sum, clock) for _ in range(10))
    limit = num_bytes / bandwidth / batch * 1e3
    print(
        f"  limit of {kind}: {num_bytes / 2**20:,.1f} MiB a step at {bandwidth / 1e9:.1f} GB/s, "
        f"{limit:.3f} ms a token"
    )


def main() -> None:
    threads = torch.get_num_threads()
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    models, real = small_gpt2(), smollm2()
    for count, name, clock in (
        (threads, "by the clock", time.perf_counter),
        (1, "of processor time", time.process_time),
    ):
        torch.set_num_threads(count)
        print(f"Threads: {count}, seconds {name}, on {processor_name()}\n")
        for batch in (1, 8):
            compare("GPT-2 of 14 M", models, batch, NEW, 5, clock)
        compare("SmolLM2-135M", real, 1, 32, 3, clock)
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
