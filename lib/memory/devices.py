"""Devices: how fast each computes, and how much each level of its memory holds and moves.

The numbers are in `devices.toml`, each with its source. Peaks are dense. GB is 1e9 bytes.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from lib.memory import data_sheets
from lib.memory.data_sheets import Quantity
from lib.memory.sizes import Number, Size, check_positive, check_sizes

DTYPES = ("float32", "tfloat32", "bfloat16", "float16", "float8")
REFERENCE_CPU = "reference CPU"
THIS_MACHINE = "this machine"

# Fastest first; beside each level, how its fields begin in the table.
LEVELS = {
    "registers": "registers",
    "shared memory": "shared_memory",
    "VMEM": "vmem",
    "L2": "l2",
    "Infinity Cache": "infinity_cache",
    "global memory": "memory",
    "host": "host",
}


@dataclass(frozen=True)
class MemoryLevel:
    """One level of a memory hierarchy, all copies of it on the device together.

    `capacity_bytes` is `math.inf` for the host, which holds what its owner has bought.
    `bandwidth` is in bytes/s. `latency_seconds`, from asking to the first byte, is None where
    no source can be trusted.
    """

    name: str
    capacity_bytes: Quantity
    bandwidth: Quantity
    latency_seconds: Quantity | None = None

    def __post_init__(self) -> None:
        check_positive(capacity_bytes=self.capacity_bytes, bandwidth=self.bandwidth)
        if self.latency_seconds is not None:
            check_positive(latency_seconds=self.latency_seconds)

    def transfer_time(self, num_bytes: Size) -> Number:
        """Seconds for `num_bytes` to pass, once they flow: bytes over bandwidth."""
        check_sizes(num_bytes=num_bytes)
        return num_bytes / self.bandwidth


@dataclass(frozen=True)
class Device:
    """A processor and its memory.

    `peak_flops` maps dtypes, as torch spells them, to dense FLOP/s. `bandwidth` (bytes/s) and
    `memory_bytes` are those of the global memory. `levels` run from the fastest to the slowest;
    a level about which too little is known is missing. `specs` has everything else that the
    table knows, in SI units and bytes: `device("H100").specs["sms"]` is 132.
    """

    name: str
    peak_flops: Mapping[str, Quantity] = field(hash=False)
    bandwidth: Quantity
    memory_bytes: Quantity
    levels: tuple[MemoryLevel, ...] = ()
    specs: Mapping[str, Quantity] = field(default_factory=dict, hash=False, repr=False)

    def __post_init__(self) -> None:
        check_positive(bandwidth=self.bandwidth, memory_bytes=self.memory_bytes)
        check_positive(**self.peak_flops)
        for mapping in ("peak_flops", "specs"):
            object.__setattr__(self, mapping, MappingProxyType(dict(getattr(self, mapping))))

    def peak(self, dtype: str) -> Quantity:
        """Dense FLOP/s in `dtype`; `ValueError`, naming the dtypes it has, if it lacks this one."""
        if dtype not in self.peak_flops:
            has = ", ".join(self.peak_flops)
            raise ValueError(f"{self.name} has no peak for {dtype!r}, only for {has}")
        return self.peak_flops[dtype]

    def level(self, name: str) -> MemoryLevel:
        """The level of that name; `ValueError`, naming the levels it has, if there is none."""
        for level in self.levels:
            if level.name == name:
                return level
        has = ", ".join(level.name for level in self.levels)
        raise ValueError(f"{self.name} has no level {name!r}, only {has}")


class _Devices(Mapping[str, Device]):
    """Every device by its key, read-only. A device is built when it is first asked for."""

    def __getitem__(self, key: str) -> Device:
        if key not in list(self):
            raise KeyError(key)
        return _reference_cpu() if key == REFERENCE_CPU else _from_data_sheet(key)

    def __iter__(self) -> Iterator[str]:
        yield from data_sheets.device_keys()
        yield REFERENCE_CPU

    def __len__(self) -> int:
        return len(data_sheets.device_keys()) + 1

    def __repr__(self) -> str:
        return f"DEVICES({', '.join(self)})"


DEVICES: Mapping[str, Device] = _Devices()


def device(name: str) -> Device:
    """A device by its key in `DEVICES`, in upper or lower case, or "this machine".

    "this machine" is measured when it is first asked for, which takes some seconds, and once
    per process. Raises `ValueError` for any other name, with the names there are.
    """
    key = _find(name, (*DEVICES, THIS_MACHINE))
    return _this_machine() if key == THIS_MACHINE else DEVICES[key]


def specifications(*names: str) -> list[dict]:
    """Every number known of the named devices, or of all in `DEVICES`, as rows for pandas.

    A row has `device`, `field`, `value`, `unit`, `kind` ("data sheet", "third party", "derived"
    or "measured"), `formula` where derived, `note` and `source`, the citations in full. Raises
    `ValueError` for a name that is not a key of `DEVICES`, in upper or lower case.
    """
    keys = [_find(name, DEVICES) for name in names] or list(DEVICES)
    return [row for key in keys for row in _rows(key)]


def source(name: str, field: str) -> str:
    """Where one number comes from: `source("H100", "memory_bandwidth")`.

    The fields are those of `specifications`.

    Raises `ValueError` for a field that is not known of the device, naming those that are.
    """
    found = {row["field"]: row["source"] for row in specifications(name)}
    if field not in found:
        raise ValueError(f"{name} has no field {field!r}, only {', '.join(found)}")
    return found[field]


def device_from_record(record: Mapping) -> Device:
    """The device that a measurement describes, as `reference_cpu.json` holds it.

    The record has `name`, `dtypes` (FLOP/s of each), `bandwidth`, `memory_bytes` and `levels`,
    each level with the fields of `MemoryLevel`. The global memory is added if they lack it.
    Raises `ValueError` if any of these is missing.
    """
    missing = {"name", "dtypes", "bandwidth", "memory_bytes", "levels"} - record.keys()
    if missing:
        raise ValueError(f"the measurement lacks {', '.join(sorted(missing))}")
    levels = tuple(MemoryLevel(**level) for level in record["levels"])
    if "global memory" not in {level.name for level in levels}:
        levels += (MemoryLevel("global memory", record["memory_bytes"], record["bandwidth"]),)
    return Device(
        name=record["name"],
        peak_flops=record["dtypes"],
        bandwidth=record["bandwidth"],
        memory_bytes=record["memory_bytes"],
        levels=levels,
    )


@cache
def _from_data_sheet(key: str) -> Device:
    values = {field: fact.value for field, fact in data_sheets.facts(key).items()}
    return Device(
        name=data_sheets.full_name(key),
        peak_flops={dtype: values[dtype] for dtype in DTYPES if dtype in values},
        bandwidth=values["memory_bandwidth"],
        memory_bytes=values["memory_bytes"],
        levels=tuple(
            MemoryLevel(
                name=name,
                capacity_bytes=values.get(f"{prefix}_bytes", math.inf),
                bandwidth=values[f"{prefix}_bandwidth"],
                latency_seconds=values.get(f"{prefix}_latency"),
            )
            for name, prefix in LEVELS.items()
            if f"{prefix}_bandwidth" in values
        ),
        specs=values,
    )


@cache
def _reference_record() -> dict:
    text = files("lib.memory").joinpath("reference_cpu.json").read_text(encoding="utf-8")
    return json.loads(text)


@cache
def _reference_cpu() -> Device:
    return device_from_record(_reference_record())


@cache
def _this_machine() -> Device:
    # Imported here because measuring needs torch, which reading the table does not.
    from lib.memory.measure import measure_device

    return measure_device()


def _find(name: str, keys: Iterable[str]) -> str:
    """The key that a reader means by `name`, in upper or lower case."""
    found = {key.casefold(): key for key in keys}
    if str(name).casefold() not in found:
        raise ValueError(f"unknown device {name!r}; there are {', '.join(found.values())}")
    return found[str(name).casefold()]


def _rows(key: str) -> Iterator[dict]:
    if key == REFERENCE_CPU:
        yield from _measured_rows(_reference_record())
        return
    facts = data_sheets.facts(key)
    for field_name in sorted(facts, key=lambda name: name not in DTYPES):
        fact = facts[field_name]
        yield {
            "device": key,
            "field": field_name,
            "value": fact.printed,
            "unit": fact.unit,
            "kind": fact.kind,
            "formula": fact.formula,
            "note": fact.note,
            "source": fact.citations,
        }


def _measured_rows(record: Mapping) -> Iterator[dict]:
    measured = {dtype: (flops, "FLOP/s") for dtype, flops in record["dtypes"].items()}
    measured["memory_bandwidth"] = (record["bandwidth"], "bytes/s")
    measured["memory_bytes"] = (record["memory_bytes"], "bytes")
    for field_name, (value, unit) in measured.items():
        yield {
            "device": REFERENCE_CPU,
            "field": field_name,
            "value": value,
            "unit": unit,
            "kind": "measured",
            "formula": "",
            "note": record["cpu"],
            "source": f"{record['command']}, {record['date']}",
        }
