"""What crosses between the student's process and the test's: JSON and raw buffers, under limits.

A message is a header of JSON and buffers of bytes. Every limit is checked before memory is
allocated. Objects that are no plain values stay with their owner; an integer handle crosses.
Nothing that arrives is ever unpickled, evaluated or imported by name.
"""

import json
import math
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

MAGIC = b"WBG1"
MAX_HEADER = 2 << 20
MAX_BUFFERS = 256
MAX_BYTES = 64 << 20
MAX_DEPTH = 32
MAX_NODES = 200_000
MAX_DIMENSIONS = 16
MAX_INT_BITS = 10_000
AT_ONCE = 1 << 16

_PREFIX = struct.Struct("!4sIH")
_LENGTH = struct.Struct("!I")
_DTYPES = (
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
)
TORCH_DTYPES = {name: getattr(torch, name) for name in _DTYPES}
TORCH_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
NUMPY_DTYPES = {name: np.dtype(name) for name in _DTYPES if name != "bfloat16"}
NUMPY_DTYPES |= {name: np.dtype(name) for name in ("uint16", "uint32", "uint64")}

_SEQUENCES = {"l": list, "t": tuple, "s": set, "fs": frozenset}
_PLAIN = frozenset({type(None), bool, int, float, str})
_DICTIONARIES = {"d": dict, "od": OrderedDict}
_to_json = json.JSONEncoder(separators=(",", ":")).encode

Message = tuple[dict, list[bytes]]
Hook = Callable[[Any], Any]


class WireError(Exception):
    """A message that is malformed or over a limit."""


def send(channel: socket.socket, header: dict, buffers: list[bytes]) -> None:
    """Write one message. Raises `WireError` if it is over a limit."""
    text = _to_json(header).encode()
    if len(text) > MAX_HEADER or len(buffers) > MAX_BUFFERS:
        raise WireError(f"a message of {len(text)} bytes and {len(buffers)} buffers is too large")
    if sum(map(len, buffers)) > MAX_BYTES:
        raise WireError(f"the tensors of a message are larger than {MAX_BYTES} bytes")
    lengths = b"".join(_LENGTH.pack(len(buffer)) for buffer in buffers)
    head = _PREFIX.pack(MAGIC, len(text), len(buffers)) + lengths + text
    small = sum(map(len, buffers)) <= AT_ONCE
    for part in [b"".join([head, *buffers])] if small else [head, *buffers]:
        channel.sendall(part)


class ReadAhead:
    """A socket read in large pieces: a small message takes one system call, not one for each part.

    `until` is the moment after which nothing is read any more: `TimeoutError`.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._ahead, self.until = channel, memoryview(b""), math.inf

    def recv_into(self, view: memoryview) -> int:
        """Fill some of `view`; the number of bytes, 0 at the end."""
        if not self._ahead:
            if len(view) >= AT_ONCE:
                return self._in_time(self._channel.recv_into(view))
            self._ahead = memoryview(self._channel.recv(AT_ONCE))
            self._in_time(0)
        count = min(len(view), len(self._ahead))
        view[:count], self._ahead = self._ahead[:count], self._ahead[count:]
        return count

    def _in_time(self, count: int) -> int:
        if time.monotonic() > self.until:
            raise TimeoutError
        return count


def receive(channel: socket.socket | ReadAhead) -> Message:
    """Read one message. Raises `WireError` for a bad one, `EOFError` at the end."""
    magic, length, count = _PREFIX.unpack(_exactly(channel, _PREFIX.size))
    if magic != MAGIC or length > MAX_HEADER or count > MAX_BUFFERS:
        raise WireError("not a message, or one that is too large")
    sizes = [_LENGTH.unpack(_exactly(channel, _LENGTH.size))[0] for _ in range(count)]
    if sum(sizes) > MAX_BYTES:
        raise WireError(f"the tensors of a message are larger than {MAX_BYTES} bytes")
    header = parse(_exactly(channel, length))
    return header, [_exactly(channel, size) for size in sizes]


def _exactly(channel: socket.socket | ReadAhead, size: int) -> bytes:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        got = channel.recv_into(view[done:])
        if not got:
            raise EOFError("the other side has closed the channel")
        done += got
    return bytes(data)


def parse(text: bytes) -> dict:
    """The header as a dictionary. Raises `WireError` for anything else."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the header is no JSON: {type(error).__name__}") from None
    if type(header) is not dict:
        raise WireError("the header is no dictionary")
    return header


def _all_plain(items: list) -> bool:
    """Whether all items are their own encoding."""
    return _PLAIN.issuperset(map(type, items))


class Encoder:
    """Values to JSON, tensors into `buffers`; `other` encodes what is no plain value."""

    def __init__(self, other: Hook, tensor: Hook | None = None, first: int = 0) -> None:
        self.buffers: list[bytes] = []
        self._other, self._tensor, self._nodes, self._first = other, tensor, 0, first

    def __call__(self, value: Any, depth: int = 0) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise WireError("a value is nested too deep or has too many parts to be passed on")
        kind = type(value)
        if value is None or kind in (bool, float, str):
            return value
        if kind is dict or kind is list:
            return self._container(value, kind, depth + 1)
        if isinstance(value, np.generic):
            return self._numpy(np.asarray(value), "ns")
        if isinstance(value, int) and kind.__module__ != "enum":
            return self._int(int.__int__(value))
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, str):
            return str.__str__(value)
        return self._container(value, kind, depth + 1)

    def _int(self, value: int) -> int | list:
        if value.bit_length() > MAX_INT_BITS:
            raise WireError(f"an integer of {value.bit_length()} bits is too large")
        return value

    def _container(self, value: Any, kind: type, depth: int) -> Any:
        if kind is dict:
            return ["d", self._items(list(value), depth), self._items(list(value.values()), depth)]
        if kind is list:
            return self._records(value, depth) or ["l", self._items(value, depth)]
        if isinstance(value, torch.Size):
            return ["size", [int(n) for n in tuple.__iter__(value)]]
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            names = [str(name) for name in kind._fields]
            return ["nt", kind.__name__, names, [self(v, depth) for v in tuple.__iter__(value)]]
        for tag, base in _SEQUENCES.items():
            if isinstance(value, base):
                return [tag, self._items(list(base.__iter__(value)), depth)]
        if isinstance(value, dict):
            tag = "od" if isinstance(value, OrderedDict) else "d"
            pairs = list(dict.items(value))
            return [tag, *(self._items([pair[n] for pair in pairs], depth) for n in (0, 1))]
        if isinstance(value, torch.Tensor):
            marks = self._tensor(value) if self._tensor else None
            return marks if type(marks) is list else self.tensor(value, marks)
        return self._rest(value)

    def _records(self, rows: list, depth: int) -> list | None:
        """Dictionaries with the same keys, or tuples of one length, column by column; else None.

        A column of plain values is taken together; a test's cases and their answers are records.
        """
        kind = type(rows[0]) if len(rows) > 1 else None
        if kind not in (dict, tuple) or not rows[0]:
            return None
        if kind is dict:
            keys = list(rows[0])
            if any(type(row) is not dict or list(row) != keys for row in rows):
                return None
            columns = zip(*map(dict.values, rows), strict=True)
            return ["rd", self._items(keys, depth), self._items(list(map(list, columns)), depth)]
        if any(type(row) is not tuple or len(row) != len(rows[0]) for row in rows):
            return None
        return ["rt", self._items(list(map(list, zip(*rows, strict=True))), depth)]

    def _items(self, items: list, depth: int) -> list:
        """Each item encoded. Plain ones are what they are in JSON: they are taken together."""
        if not _all_plain(items):
            return [self(item, depth) for item in items]
        self._nodes += len(items)
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise WireError("a value is nested too deep or has too many parts to be passed on")
        integers = [item for item in items if type(item) is int]
        if integers:
            self._int(max(integers, key=abs))
        return items

    def _rest(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return (
                self._numpy(value, "n") if value.dtype.name in NUMPY_DTYPES else self._other(value)
            )
        if isinstance(value, bytes | bytearray):
            return ["ba" if isinstance(value, bytearray) else "b", self._buffer(bytes(value))]
        if isinstance(value, complex):
            return ["c", value.real, value.imag]
        if isinstance(value, torch.dtype) and value in TORCH_NAMES:
            return ["dtype", TORCH_NAMES[value]]
        if isinstance(value, torch.device):
            return ["device"]
        if isinstance(value, slice | range):
            parts = [value.start, value.stop, value.step]
            return ["slice" if type(value) is slice else "range", [self(part) for part in parts]]
        return ["..."] if value is ... else self._other(value)

    def tensor(self, value: torch.Tensor, marks: dict | None = None) -> list:
        """A dense CPU tensor as dtype, shape and bytes; `marks` go along."""
        plain = value.detach().as_subclass(torch.Tensor)
        if plain.layout is not torch.strided or plain.dtype not in TORCH_NAMES or plain.is_meta:
            return self._other(value)
        if plain.numel() * plain.element_size() > MAX_BYTES:
            raise WireError(f"a tensor of shape {list(plain.shape)} is too large to be passed on")
        plain = plain.resolve_conj().resolve_neg().cpu()
        flat = plain.reshape(-1).clone(memory_format=torch.contiguous_format)
        data = flat.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        where = self._buffer(data)
        return ["T", TORCH_NAMES[plain.dtype], list(plain.shape), where, marks or {}]

    def _numpy(self, value: np.ndarray, tag: str) -> list:
        if value.dtype.name not in NUMPY_DTYPES:
            return self._other(value)
        native = np.ascontiguousarray(value).astype(NUMPY_DTYPES[value.dtype.name])
        return [tag, value.dtype.name, list(value.shape), self._buffer(native.tobytes())]

    def _buffer(self, data: bytes) -> int:
        self.buffers.append(data)
        return self._first + len(self.buffers) - 1


class MessageDecoder:
    """The way back. `other` gets the tagged lists that the wire does not know itself."""

    def __init__(self, buffers: list[bytes], other: Hook, tensor: Callable | None = None) -> None:
        self._buffers, self._other, self._tensor = buffers, other, tensor
        self._nodes = self._bytes = 0

    def __call__(self, node: Any, depth: int = 0) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise WireError("a value is nested too deep or has too many parts")
        if node is None or type(node) in (bool, int, float, str):
            return node
        if type(node) is not list or not node or type(node[0]) is not str:
            raise WireError("a value without a tag")
        try:
            return self._tagged(node, depth + 1)
        except WireError:
            raise
        except (TypeError, ValueError, KeyError, IndexError, RuntimeError, OverflowError) as error:
            raise WireError(f"a bad value: {type(error).__name__}") from None

    def _tagged(self, node: list, depth: int) -> Any:
        tag, rest = node[0], node[1:]
        if tag in _DICTIONARIES:
            keys, values = self._items(rest[0], depth), self._items(rest[1], depth)
            return _DICTIONARIES[tag](zip(keys, values, strict=True))
        if tag in _SEQUENCES:
            return _SEQUENCES[tag](self._items(rest[0], depth))
        if tag in ("rd", "rt"):
            return self._records(tag, rest, depth)
        if tag == "T":
            return self._torch(*rest)
        if tag in ("n", "ns"):
            array = self._array(*rest)
            return array if tag == "n" else array.reshape(-1)[0]
        if tag in ("b", "ba"):
            return {"b": bytes, "ba": bytearray}[tag](self._take(rest[0]))
        return self._small(tag, rest, depth)

    def _items(self, node: Any, depth: int) -> list:
        if not _all_plain(self._list(node)):
            return [self(item, depth) for item in node]
        self._nodes += len(node)
        if self._nodes > MAX_NODES:
            raise WireError("a value has too many parts")
        return node

    def _records(self, tag: str, rest: list, depth: int) -> list:
        """Columns back to rows: dictionaries, after their keys, or tuples."""
        columns = self._items(rest[-1], depth)
        if not columns or any(type(column) is not list for column in columns):
            raise WireError("records without columns")
        self._nodes += len(columns[0])
        if self._nodes > MAX_NODES:
            raise WireError("a value has too many parts")
        rows = zip(*columns, strict=True)
        if tag == "rt":
            return list(rows)
        keys = self._items(rest[0], depth)
        if len(keys) != len(columns):
            raise WireError("records with more columns than keys, or fewer")
        return [dict(zip(keys, row, strict=True)) for row in rows]

    def _small(self, tag: str, rest: list, depth: int) -> Any:
        if tag == "c":
            return complex(*map(float, rest))
        if tag == "dtype":
            return TORCH_DTYPES[rest[0]]
        if tag == "device":
            return torch.device("cpu")
        if tag == "size":
            return torch.Size(self._shape(rest[0]))
        if tag in ("slice", "range"):
            start, stop, step = (self(part, depth) for part in self._list(rest[0]))
            return slice(start, stop, step) if tag == "slice" else range(start, stop, step)
        if tag == "...":
            return ...
        return self._other([tag, *rest])

    def _torch(self, name: str, shape: list, where: int, marks: dict) -> torch.Tensor:
        dtype, shape, data = TORCH_DTYPES[name], self._shape(shape), self._take(where)
        if len(data) != math.prod(shape) * dtype.itemsize or type(marks) is not dict:
            raise WireError("a tensor whose bytes do not fit its shape")
        if dtype is torch.bool and data.translate(None, b"\0\1"):
            raise WireError("a truth value that is neither 0 nor 1")
        raw = bytearray(data)
        plain = (
            torch.frombuffer(raw, dtype=dtype).reshape(shape)
            if raw
            else torch.empty(shape, dtype=dtype)
        )
        return self._tensor(plain, marks) if self._tensor else plain

    def _array(self, name: str, shape: list, where: int) -> np.ndarray:
        dtype, shape, data = NUMPY_DTYPES[name], self._shape(shape), self._take(where)
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise WireError("an array whose bytes do not fit its shape")
        return np.frombuffer(bytearray(data), dtype=dtype).reshape(shape)

    def _take(self, where: Any) -> bytes:
        if type(where) is not int or not 0 <= where < len(self._buffers):
            raise WireError("a buffer that is not there")
        self._bytes += len(self._buffers[where])
        if self._bytes > MAX_BYTES:
            raise WireError("buffers that are used too often")
        return self._buffers[where]

    def _shape(self, shape: Any) -> list[int]:
        if type(shape) is not list or len(shape) > MAX_DIMENSIONS:
            raise WireError("a shape that is none")
        if any(type(n) is not int or not 0 <= n <= MAX_BYTES for n in shape):
            raise WireError("a shape with a size out of range")
        if math.prod(n for n in shape if n) > MAX_BYTES:
            raise WireError("a shape that is too large")
        return shape

    def _list(self, node: Any) -> list:
        if type(node) is not list:
            raise WireError("a list was expected")
        return node
