"""The numbers of `devices.toml`, each with the document that prints it or the formula behind it.

Vendors print some numbers, third parties measure others, and the rest follows from the two by
arithmetic. A `Fact` says which of the three it is, so that no table in the book hides it.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import sympy

Quantity = int | float

# How much one unit is in SI units or bytes: exact numbers, so that a table prints no float's tail.
UNITS = {
    "": 1,
    "SM": 1,
    "CU": 1,
    "cycles": 1,
    "ns": sympy.Rational(1, 10**9),
    "KiB": 2**10,
    "MiB": 2**20,
    "GB": 10**9,
    "GHz": 10**9,
    "GT/s": 10**9,
    "GB/s": 10**9,
    "TB/s": 10**12,
    "TFLOP/s": 10**12,
}


@dataclass(frozen=True)
class Source:
    """A document. `kind` is "data sheet" for a vendor's or standard's own, else "third party"."""

    kind: str
    title: str
    publisher: str
    year: int
    document: str
    url: str

    def __str__(self) -> str:
        return f"{self.publisher}, {self.title}, {self.year}, {self.document}, {self.url}"


@dataclass(frozen=True)
class Fact:
    """One number of one device.

    `value` is in FLOP/s, bytes, bytes/s, Hz, seconds or a plain count; `printed` is the same
    number in the `unit` of the source. `kind` is "data sheet", "third party" or "derived". A
    derived number has a `formula`, and its sources are those of everything in the formula.
    `sparse` is what the source prints for a peak with sparsity: twice the dense number.
    """

    value: Quantity
    printed: Quantity
    unit: str
    kind: str
    sources: tuple[str, ...]
    formula: str
    note: str
    sparse: float | None

    @property
    def citations(self) -> str:
        """The sources in full, for a reader."""
        return "; ".join(str(sources()[key]) for key in self.sources)


def device_keys() -> tuple[str, ...]:
    """The devices of the table, in its order."""
    return tuple(_tables()["devices"])


def full_name(key: str) -> str:
    """The device's name in full: "NVIDIA H100 SXM 80 GB" for "H100"."""
    return _tables()["devices"][key]["name"]


@cache
def sources() -> Mapping[str, Source]:
    """Every source of the table, by its key."""
    return MappingProxyType({key: Source(**entry) for key, entry in _tables()["sources"].items()})


@cache
def facts(key: str) -> Mapping[str, Fact]:
    """What is known of one device, by field: the table's own values first, then what follows.

    Raises `ValueError` for a device that the table lacks.
    """
    if key not in _tables()["devices"]:
        raise ValueError(f"{key!r} is not in the table, which has {', '.join(device_keys())}")
    own = {field: entry for field, entry in _tables()["devices"][key].items() if field != "name"}
    entries = {**own, **{f: e for f, e in _tables()["formulas"].items() if f not in own}}
    known = (field for field in entries if _is_known(field, entries))
    return MappingProxyType({field: _fact(field, entries) for field in known})


def _is_known(field: str, entries: Mapping[str, dict]) -> bool:
    """Whether the entry is there, and everything that its formula needs as well."""
    return field in entries and all(_is_known(name, entries) for name in _inputs(entries[field]))


def _fact(field: str, entries: Mapping[str, dict]) -> Fact:
    entry = entries[field]
    exact = _exact(field, entries)
    used = tuple(_sources_of(field, entries))
    return Fact(
        value=_number(exact, entry["unit"]),
        printed=_number(exact / UNITS[entry["unit"]], entry["unit"]),
        unit=entry["unit"],
        kind="derived" if "formula" in entry else sources()[entry["source"]].kind,
        sources=tuple(dict.fromkeys(used)),
        formula=entry.get("formula", ""),
        note=_note(entry),
        sparse=float(entry["sparse"]) if "sparse" in entry else None,
    )


def _exact(field: str, entries: Mapping[str, dict]) -> sympy.Rational:
    """The value in SI units or bytes, computed from the formula if the entry has one."""
    entry = entries[field]
    if "value" in entry:
        return sympy.Rational(entry["value"]) * UNITS[entry["unit"]]
    inputs = {name: _exact(name, entries) for name in _inputs(entry)}
    return sympy.sympify(entry["formula"], rational=True).subs(inputs)


def _sources_of(field: str, entries: Mapping[str, dict]) -> Iterator[str]:
    entry = entries[field]
    if "source" in entry:
        yield entry["source"]
    for name in _inputs(entry):
        yield from _sources_of(name, entries)


def _inputs(entry: Mapping) -> list[str]:
    """The fields that the entry's formula is made of."""
    return sorted(str(symbol) for symbol in sympy.sympify(entry.get("formula", 0)).free_symbols)


def _note(entry: Mapping) -> str:
    notes = [entry["note"]] if "note" in entry else []
    if "sparse" in entry:
        notes.insert(0, f"half of the {float(entry['sparse']):,g} printed with sparsity")
    return "; ".join(notes)


def _number(exact: sympy.Rational, unit: str) -> Quantity:
    """A count stays whole; everything else is a float."""
    return int(exact) if UNITS[unit] == 1 and exact.is_integer else float(exact)


@cache
def _tables() -> dict:
    text = files("lib.memory").joinpath("devices.toml").read_text(encoding="utf-8")
    return tomllib.loads(text, parse_float=sympy.Rational)
