"""What a kept result needs beside its numbers: how, and on what, it came about."""

import platform
import shlex
from collections.abc import Sequence

import torch

from lib.memory.machine import processor_name


def run_conditions(module: str, arguments: Sequence[str]) -> dict[str, object]:
    """The command that runs this module of `lib.training`, the processor, threads, versions."""
    return {
        "command": shlex.join(["python", "-m", f"lib.training.{module}", *arguments]),
        "cpu": processor_name(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
