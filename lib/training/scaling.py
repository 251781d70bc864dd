"""A small scaling run: GPT-2 in growing sizes on the same tokens, and the power law of its loss.

`python -m lib.training.scaling` trains each size once and fits loss = a · N^-α to the losses on
held-out text, N the parameters without embeddings (Kaplan et al., 2020, find α = 0.076 over six
powers of ten). All sizes read the same windows in the same order; with so few tokens the larger
ones are not trained to the end, which makes the law flatter than theirs would be.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from pathlib import Path
from statistics import linear_regression, mean

from lib.data import CORPORA, read_corpus, split_by_document
from lib.memory.json_file import write_json
from lib.training.conditions import run_conditions
from lib.training.pretrain import PretrainSettings, pretrain
from lib.training.progress import ProgressLine

RESULTS = Path(__file__).with_name("results") / "scaling.json"
"""What the command wrote when it ran for the book."""


@dataclass(frozen=True)
class ScalingSettings:
    """All that decides a run: each of `hidden_sizes` is one model, two layers deep."""

    corpus: str = "addresses"
    hidden_sizes: tuple[int, ...] = (8, 12, 16, 24, 32, 48, 64)
    steps: int = 800
    vocab_size: int = 512
    learning_rate: float = 4e-3
    seed: int = 0

    def pretraining(self, hidden_size: int) -> PretrainSettings:
        """The run of one size."""
        return PretrainSettings(
            architecture="gpt2",
            corpus=self.corpus,
            vocab_size=self.vocab_size,
            hidden_size=hidden_size,
            num_attention_heads=max(1, hidden_size // 16),
            steps=self.steps,
            learning_rate=self.learning_rate,
            seed=self.seed,
        )


@dataclass(frozen=True)
class PowerLaw:
    """y = a · x^-α, with the standard error of α and how far the points lie from the line.

    `residual` is the root mean square of ln y - ln ŷ: 0.01 says that the law is off by 1 % or so.
    """

    a: float
    alpha: float
    alpha_error: float
    residual: float

    def __call__(self, x: int | float) -> float:
        """The y that the law gives for x."""
        return self.a * x**-self.alpha


def fit_power_law(x: Sequence[int | float], y: Sequence[int | float]) -> PowerLaw:
    """The straight line through ln x and ln y with the least squares.

    Raises `ValueError` for fewer than three points, numbers that are not above zero, and x that
    are all the same.
    """
    if len(x) != len(y) or len(x) < 3:
        raise ValueError(f"a power law needs three points or more, got {len(x)} x, {len(y)} y")
    if min(*x, *y) <= 0 or len(set(x)) == 1:
        raise ValueError("a power law needs different x, and all numbers above zero")
    log_x, log_y = [log(value) for value in x], [log(value) for value in y]
    slope, intercept = linear_regression(log_x, log_y)
    squares = sum((b - intercept - slope * a) ** 2 for a, b in zip(log_x, log_y, strict=True))
    spread = sum((a - mean(log_x)) ** 2 for a in log_x)
    error = (squares / (len(x) - 2) / spread) ** 0.5
    return PowerLaw(exp(intercept), -slope, error, (squares / len(x)) ** 0.5)


def run_scaling(settings: ScalingSettings) -> dict[str, object]:
    """Train every size, print its loss, and fit the law."""
    documents, held_out = split_by_document(read_corpus(settings.corpus))
    models = []
    for hidden_size in settings.hidden_sizes:
        began = time.process_time()
        trained = pretrain(
            settings.pretraining(hidden_size), documents, held_out, progress=ProgressLine()
        )
        layers = sum(each.numel() for each in trained.model.layers.parameters())
        models.append(
            {
                "hidden_size": hidden_size,
                "parameters_without_embeddings": layers,
                "parameters": sum(each.numel() for each in trained.model.parameters()),
                "final_loss": round(mean(record.loss for record in trained.curve[-50:]), 4),
                "held_out_loss": round(trained.held_out_loss, 4),
                "cpu_seconds": round(time.process_time() - began, 1),
            }
        )
        print(f"{layers:9,} parameters: held-out loss {models[-1]['held_out_loss']}", flush=True)
    law = fit_power_law(
        [each["parameters_without_embeddings"] for each in models],
        [each["held_out_loss"] for each in models],
    )
    return {
        "settings": asdict(settings),
        "models": models,
        "law": {name: float(f"{value:.4g}") for name, value in asdict(law).items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: train, fit, print, and write it all to a file if asked to."""
    parser = argparse.ArgumentParser(prog="python -m lib.training.scaling", description=__doc__)
    for name, value in asdict(ScalingSettings()).items():
        option = f"--{name.replace('_', '-')}"
        if name == "hidden_sizes":
            parser.add_argument(option, type=int, nargs="+", default=value)
        else:
            choices = CORPORA if name == "corpus" else None
            parser.add_argument(option, type=type(value), default=value, choices=choices)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there")
    options = vars(parser.parse_args(arguments))
    path, options["hidden_sizes"] = options.pop("json"), tuple(options["hidden_sizes"])
    try:
        results = run_scaling(ScalingSettings(**options))
    except ModuleNotFoundError as missing:
        parser.exit(1, f"{missing}\nor, with the text of the book: --corpus excerpt\n")
    law = results["law"]
    print(
        f"loss = {law['a']:.3g} · N^-{law['alpha']:.3g}, the exponent ± {law['alpha_error']:.2g}, "
        f"points off by {law['residual']:.2%}"
    )
    if path:
        command = sys.argv[1:] if arguments is None else arguments
        write_json({**run_conditions("scaling", command), **results}, path)


if __name__ == "__main__":
    main()
