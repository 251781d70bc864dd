"""`python -m tests.bench.objectives`: making batches, against Hugging Face's and T5's own way.

Processor time of one thread; the rivals take turns, and a ratio is the median over the rounds of
the times of one round. All get the same ids. T5's way draws and corrupts in NumPy, one
example after the other: `tests/lib/objectives/t5_their_way.py`.
"""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from lib.memory.machine import processor_name
from lib.objectives import (
    MaskedLMCollator,
    MaskingVocabulary,
    choose_exact_count,
    corrupt_spans,
    longest_text,
    random_spans_noise_mask,
    t5_sentinels,
)

sys.path.append(str(Path(__file__).parents[1] / "lib" / "objectives"))
import t5_their_way

BATCH, SEQ_LEN, ROUNDS = 256, 512, 9
BERT = MaskingVocabulary(30522, mask=103, special=(0, 100, 101, 102))


def take_turns(rivals: Mapping[str, Callable[[], object]], tokens: int) -> None:
    """A table: time, tokens a second, and how many times as fast as the first."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(ROUNDS):
        for name, run in rivals.items():
            times[name].append(seconds(run))
    first = next(iter(times.values()))
    for name, mine in times.items():
        ratio = median(its / my for its, my in zip(first, mine, strict=True))
        rate = tokens / median(mine) / 1e6
        print(f"  {name:36}{median(mine) * 1e3:9.3f} ms {rate:8.1f} Mtok/s {ratio:8.1f} x")
    print()


def seconds(run: Callable[[], object], at_least: float = 0.02) -> float:
    """Processor time of one call, the mean over as many as fill `at_least` seconds."""
    run()
    calls, began = 0, time.process_time()
    while time.process_time() - began < at_least:
        run()
        calls += 1
    return (time.process_time() - began) / calls


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with BERT's special tokens at BERT's ids, and names for the others."""
    names = [f"w{index}" for index in range(BERT.vocab_size)]
    names[0], names[100:104] = "[PAD]", ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    model = WordLevel({name: index for index, name in enumerate(names)}, unk_token="[UNK]")
    roles = {role: f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    special = {f"{role}_token": name for role, name in roles.items()}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **special)


def race_masked_lm() -> None:
    """The whole way to inputs and labels.

    Hugging Face's collator is measured with what its tokenizers return, lists in dictionaries, and
    with the rows of tensors that ours is given.
    """
    ids = torch.randint(1000, BERT.vocab_size, (BATCH, SEQ_LEN))
    ids[:, 0], ids[:, -1] = 101, 102
    rows = list(ids)
    ones, zeros = [1] * SEQ_LEN, [0] * SEQ_LEN
    features = [
        {"input_ids": row, "attention_mask": ones, "token_type_ids": zeros} for row in ids.tolist()
    ]
    generator = torch.Generator().manual_seed(0)
    theirs = DataCollatorForLanguageModeling(bert_tokenizer(), seed=0)
    ours, exact = MaskedLMCollator(BERT), MaskedLMCollator(BERT, choose_exact_count)
    print(f"Masked language modelling, 15 % and 80/10/10, {BATCH} rows of {SEQ_LEN}")
    take_turns(
        {
            "Hugging Face, its tokenizers' lists": lambda: theirs(features),
            "Hugging Face, rows as tensors": lambda: theirs(rows),
            "ours": lambda: ours(rows, generator=generator),
            "ours, exact count": lambda: exact(rows, generator=generator),
        },
        ids.numel(),
    )


def race_span_corruption() -> None:
    """From ids to inputs and targets with T5's own sizes, masks drawn or given."""
    ids = torch.randint(2, 32000, (BATCH, longest_text(SEQ_LEN)))
    array, rng = ids.numpy(), np.random.default_rng(0)
    generator, sentinels = torch.Generator().manual_seed(0), t5_sentinels()

    def corrupt(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return corrupt_spans(ids, masks, sentinels, end=1, final_sentinel=False)

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        return corrupt(random_spans_noise_mask(*ids.shape, generator=generator))

    masks = random_spans_noise_mask(*ids.shape, generator=generator)
    for mine, its in zip(corrupt(masks), t5_their_way.corrupt(array, masks.numpy()), strict=True):
        np.testing.assert_array_equal(mine.numpy(), its)
    print(
        f"Span corruption, {BATCH} rows of {ids.shape[1]} tokens; bit for bit the same if masks are"
    )
    take_turns({"T5's way": lambda: t5_their_way.collate(array, rng), "ours": ours}, ids.numel())
    print("The same, masks given")
    take_turns(
        {
            "T5's way": lambda: t5_their_way.corrupt(array, masks.numpy()),
            "ours": lambda: corrupt(masks),
        },
        ids.numel(),
    )


def main() -> None:
    torch.set_num_threads(1)
    print(f"{processor_name()}, one thread, processor time\n")
    race_masked_lm()
    race_span_corruption()


if __name__ == "__main__":
    main()
