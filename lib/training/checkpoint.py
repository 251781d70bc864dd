"""A training run as a file: all that the next step depends on, so that it goes on bit for bit."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lib.memory.whole_file import whole_file
from lib.training.batch_stream import BatchStream
from lib.training.loss_curve import StepRecord
from lib.training.precision import Precision


@dataclass
class TrainingRun:
    """What training changes: weights, optimizer states, the place in the data, the steps so far.

    `step` counts the updates that are done, and `curve` has a record of each. With torch's own
    generators, which dropout draws from, this is the whole state of a run: the schedule follows
    from `step`.
    """

    model: nn.Module
    optimizer: Optimizer
    batches: BatchStream
    precision: Precision = field(default_factory=Precision)
    step: int = 0
    curve: list[StepRecord] = field(default_factory=list)

    def place(self) -> dict[str, Any]:
        """Where the run stands in the data and in torch's random numbers."""
        return {
            "batches": self.batches.state_dict(),
            "generator": torch.get_rng_state(),
            "device generators": torch.cuda.get_rng_state_all(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors and plain values."""
        return {
            "step": self.step,
            "curve": [tuple(record) for record in self.curve],
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "place": self.place(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become the run that `state_dict` described, torch's global generators included.

        Raises `ValueError`, before anything is changed, for the state of another model.
        """
        _check_same_shapes(self.model.state_dict(), state["model"])
        self.batches.load_state_dict(state["place"]["batches"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.model.load_state_dict(state["model"])
        self.precision.load_state_dict(state["precision"])
        self.step = state["step"]
        self.curve = [StepRecord(*values) for values in state["curve"]]
        torch.set_rng_state(state["place"]["generator"])
        torch.cuda.set_rng_state_all(state["place"]["device generators"])


def save_checkpoint(run: TrainingRun, path: Path) -> None:
    """Write the run to a file, whole or not at all: if the disk is full, the old file stays.

    Raises `OSError` if the file cannot be written.
    """
    write_checkpoint({"run": run.state_dict()}, path)


def save_failure(run: TrainingRun, path: Path, *, batch: Any, place: Mapping[str, Any]) -> None:
    """The same for a step that failed: the run at `place`, where it began, and the step's batch.

    Loaded, the run repeats the step; `read_checkpoint(path)["batch"]` is what it stumbled over,
    tensors in tuples and dictionaries.
    """
    state = {**run.state_dict(), "place": dict(place)}
    write_checkpoint({"run": state, "batch": _plain(batch)}, path)


def write_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Tensors and plain values in a file, whole or not at all. Raises `OSError`."""
    # Through memory: torch's writer cannot be trusted to end well on a full disk.
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    try:
        with whole_file(path) as unfinished:
            unfinished.write_bytes(buffer.getbuffer())
    except OSError as error:
        error.add_note(f"{path} was not written: what it held before, it still holds.")
        raise


def load_checkpoint(run: TrainingRun, path: Path) -> None:
    """Go on from a file: afterwards `run` stands where the one that was saved stood.

    Raises `ValueError` for a file that is no checkpoint, or of another model.
    """
    run.load_state_dict(read_checkpoint(path)["run"])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What is in the file. No code in it is run.

    Raises `ValueError` for a file that is no checkpoint.
    """
    file = io.BytesIO(path.read_bytes())
    try:
        content = torch.load(file, weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a checkpoint, or damaged: {error}") from error
    if not isinstance(content, dict) or "run" not in content:
        raise ValueError(f"{path} is not the checkpoint of a training run")
    return content


def _check_same_shapes(model: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    ours = {name: tuple(value.shape) for name, value in model.items()}
    theirs = {name: tuple(value.shape) for name, value in saved.items()}
    for name in ours.keys() | theirs.keys():
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"the checkpoint is of another model: {name} has the shape {ours.get(name)} here "
                f"and {theirs.get(name)} there"
            )


def _plain(batch: Any) -> Any:
    """Classes as dictionaries, so that the file can be read without them."""
    if is_dataclass(batch):
        return {each.name: _plain(getattr(batch, each.name)) for each in fields(batch)}
    if hasattr(batch, "_asdict"):
        return {name: _plain(part) for name, part in batch._asdict().items()}
    if isinstance(batch, Mapping):
        return {name: _plain(part) for name, part in batch.items()}
    return type(batch)(map(_plain, batch)) if isinstance(batch, tuple | list) else batch
