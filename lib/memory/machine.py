"""What the machine this runs on says about itself: processor, caches, memory."""

import platform
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

SYSTEM_CACHES = Path("/sys/devices/system/cpu")
"""Where Linux describes the caches of each core."""


@dataclass(frozen=True)
class Cache:
    """One level of the caches: so many instances of so many bytes each."""

    name: str
    bytes_each: int
    instances: int

    @property
    def capacity_bytes(self) -> int:
        """All instances together."""
        return self.bytes_each * self.instances


def compute_device() -> torch.device:
    """The CUDA GPU if PyTorch has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def processor_name() -> str:
    """The model of the GPU or CPU, as the system calls it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def memory_bytes() -> int:
    """The capacity of the memory that tensors live in: the GPU's, or the machine's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    return psutil.virtual_memory().total


def caches() -> tuple[Cache, ...]:
    """The caches that hold data, fastest first; none where the system does not say."""
    if torch.cuda.is_available():
        return (Cache("L2", torch.cuda.get_device_properties(0).L2_cache_size, 1),)
    return cpu_caches(SYSTEM_CACHES)


def cpu_caches(root: Path) -> tuple[Cache, ...]:
    """The data caches under `root`, a folder laid out as Linux lays out `SYSTEM_CACHES`."""
    found: dict[int, dict[str, int]] = {}
    for index in sorted(root.glob("cpu[0-9]*/cache/index[0-9]*")):
        if _field(index, "type") != "Instruction":
            # Cores that share a cache name the same set of cores: it is counted once.
            level = found.setdefault(int(_field(index, "level")), {})
            level[_field(index, "shared_cpu_list")] = _kibibytes(_field(index, "size"))
    return tuple(
        Cache(f"L{level}", max(sizes.values()), len(sizes))
        for level, sizes in sorted(found.items())
    )


def _field(folder: Path, name: str) -> str:
    return (folder / name).read_text().strip()


def _kibibytes(size: str) -> int:
    """Linux writes 48K for 48 KiB."""
    return int(size.removesuffix("K")) * 1024
