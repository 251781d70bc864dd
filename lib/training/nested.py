"""Tensors in tuples, lists, mappings and dataclasses, however deep: batches, options of layers."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor


def map_tensors(function: Callable[[Tensor], Any], nested: Any) -> Any:
    """The same structure with `function` applied to every tensor in it; what is none stays."""
    if isinstance(nested, Tensor):
        return function(nested)
    if isinstance(nested, Mapping):
        return {name: map_tensors(function, part) for name, part in nested.items()}
    if isinstance(nested, tuple | list):
        parts = [map_tensors(function, part) for part in nested]
        return type(nested)(*parts) if hasattr(nested, "_fields") else type(nested)(parts)
    if is_dataclass(nested):
        parts = {each.name: getattr(nested, each.name) for each in fields(nested)}
        return type(nested)(**map_tensors(function, parts))
    return nested


def list_tensors(nested: Any) -> list[Tensor]:
    """All tensors of the structure, in order."""
    found: list[Tensor] = []
    map_tensors(found.append, nested)
    return found
