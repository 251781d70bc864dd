"""The memory hierarchy as a ladder: what fits on each rung, and how long the climb takes.

A transfer of n bytes takes latency + n / bandwidth. For few bytes the latency decides, for many
the bandwidth, and they weigh the same at n = latency × bandwidth: the size at which one transfer
reaches half of the bandwidth (Hockney, "The communication challenge for MPP", 1994), and the
number of bytes that must be on their way at any moment to keep the level busy (Little, "A proof
for the queuing formula L = λW", 1961).
"""

from dataclasses import dataclass
from itertools import takewhile

import sympy

from lib.memory.data_sheets import Quantity
from lib.memory.devices import Device, MemoryLevel
from lib.memory.sizes import Number, Size, check_sizes


@dataclass(frozen=True)
class Step:
    """One rung of a byte's journey.

    `seconds` is the time for the bytes to pass the level once they flow, `fits` whether the
    level, all copies of it together, can hold them at once.
    """

    level: MemoryLevel
    seconds: Number
    fits: bool | sympy.Basic


def journey(device: Device, num_bytes: Size) -> list[Step]:
    """What `num_bytes` meet at each level of `device`, from the fastest level to the slowest.

    Bytes that start at one level pass all those above it, and the slowest of them sets the
    pace. A level whose bandwidth is not known is missing. Raises `ValueError` unless
    `num_bytes` is a positive whole number or a SymPy expression, which makes `fits` a relation.
    """
    check_sizes(num_bytes=num_bytes)
    return [
        Step(level, level.transfer_time(num_bytes), num_bytes <= level.capacity_bytes)
        for level in device.levels
    ]


def access_time(level: MemoryLevel, num_bytes: Size) -> Number:
    """Seconds from asking for `num_bytes` to having them all: latency + bytes / bandwidth.

    Raises `ValueError` if the level's latency is not known.
    """
    return _latency(level) + level.transfer_time(num_bytes)


def bytes_in_flight(level: MemoryLevel) -> Quantity:
    """Bytes that must be on their way at any moment for the level to be busy all the time.

    Little's law: what is under way is the throughput times the wait. Raises `ValueError` if the
    level's latency is not known.
    """
    return _latency(level) * level.bandwidth


def on_chip_bytes(device: Device) -> Quantity:
    """What all the levels above the global memory hold together."""
    on_chip = takewhile(lambda level: level.name != "global memory", device.levels)
    return sum(level.capacity_bytes for level in on_chip)


def _latency(level: MemoryLevel) -> Quantity:
    if level.latency_seconds is None:
        raise ValueError(f"no source is known for the latency of this level: {level.name}")
    return level.latency_seconds
