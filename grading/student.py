"""The student's side: runs the submission's cells in this process, and does what the test asks.

Everything here is in the student's hands, who may change it as they like. What leaves is a claim.
"""

import ast
import asyncio
import builtins
import contextlib
import inspect
import io
import json
import linecache
import math
import operator
import os
import random
import re
import signal
import socket
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from grading import wire

MAX_TEXT = 20_000
MAX_PLOTS, MAX_PLOT_BYTES = 4, 200_000


class OvertimeError(BaseException):
    """A cell or a call took longer than it may."""


class _Tail(io.StringIO):
    """Standard output, of which only the beginning is kept."""

    def write(self, text: str) -> int:
        room = MAX_TEXT - self.tell()
        if room > 0:
            super().write(text[:room])
        return len(text)

    def take(self) -> str:
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


class Alarm:
    """Raises `OvertimeError` in what runs longer than it may.

    The timer is set once, and looks at the clock when it rings: to set it for every request would
    take more time than most requests do. Student code can turn it off: the test has its own.
    """

    def __init__(self) -> None:
        self.until = math.inf
        self.install()

    def install(self) -> None:
        """Take the signal, also from a cell that took it for itself."""
        self._rings = math.inf
        signal.signal(signal.SIGALRM, self._ring)

    def allow(self, seconds: float) -> None:
        """So long from now."""
        self.set(time.monotonic() + seconds)

    def set(self, until: float) -> None:
        """Until this moment, or for ever if it is infinite."""
        self.until = until
        if until < self._rings:
            self._rings = until
            signal.setitimer(signal.ITIMER_REAL, max(until - time.monotonic(), 0.001))

    def _ring(self, *_: Any) -> None:
        self._rings = math.inf
        if time.monotonic() < self.until:
            self.set(self.until)
            return
        signal.setitimer(signal.ITIMER_REAL, 0.05)  # again, for whoever catches everything
        raise OvertimeError


class Inert:
    """What `get_ipython()` gives: it takes every request and does nothing."""

    def __getattr__(self, name: str) -> "Inert":
        return self

    def __call__(self, *_: Any, **__: Any) -> None:
        return None


class Student:
    """The namespace of a submission, and the objects of which the test holds handles."""

    def __init__(self, channel: socket.socket, cells: list[str]) -> None:
        self.channel, self.cells = channel, cells
        self.incoming, self.alarm = wire.ReadAhead(channel), Alarm()
        self.objects: dict[int, Any] = {}
        self.shown: dict[str, Any] = {}
        self.inputs: dict[int, torch.Tensor] = {}
        self.changed: list[tuple[int, Any, Any]] = []
        self.count = 0
        self.output = _Tail()
        module = types.ModuleType("__main__")
        self.namespace = module.__dict__
        self.namespace |= {"display": self._display, "get_ipython": Inert}
        sys.modules["__main__"] = module
        sys.stdout = sys.stderr = self.output

    def _display(self, *values: Any, **_: Any) -> None:
        for value in values:
            print(value if isinstance(value, str) else repr(value))

    # --- messages ---------------------------------------------------------------------------

    def keep(self, value: Any) -> int:
        self.count += 1
        self.objects[self.count] = value
        return self.count

    def encode(self, value: Any, first: int = 0) -> tuple[Any, list[bytes]]:
        def tensor(given: torch.Tensor) -> dict | list | None:
            if isinstance(given, torch.nn.Parameter) or (
                given.is_leaf and given.requires_grad and id(given) not in self.inputs
            ):
                kind = "P" if isinstance(given, torch.nn.Parameter) else "L"
                plain = encoder.tensor(given, {})
                return [kind, self.keep(given), given.requires_grad, plain]
            return {"g": self.keep(given)} if given.requires_grad else None

        encoder = wire.Encoder(self._handle, tensor, first)
        return encoder(value), encoder.buffers

    def _handle(self, value: Any) -> list:
        if isinstance(value, Callback):
            return ["r", value.number]
        if isinstance(value, types.ModuleType):
            raise TypeError(f"the module {value.__name__} is no value that a test can look at")
        name = getattr(value, "__name__", type(value).__name__)
        kind, of = _kind(value), type(value).__name__[:80]
        if kind == "exception":
            name = "|".join(each.__name__ for each in value.__mro__)
        return ["h", self.keep(value), kind, str(name)[:400], of]

    def decode(self, node: Any, buffers: list[bytes]) -> Any:
        def other(tagged: list) -> Any:
            if tagged[0] == "h":
                return self.objects[tagged[1]]
            if tagged[0] == "r":
                return Callback(self, tagged[1], tagged[2])
            if tagged[0] == "gen":
                generator = torch.Generator()
                generator.set_state(wire.MessageDecoder(buffers, other)(tagged[1]))
                return generator
            if tagged[0] == "watch":
                value = wire.MessageDecoder(buffers, other, tensor)(tagged[2])
                self.changed.append((tagged[1], value, _version(value)))
                return value
            if tagged[0] == "builtin":
                return getattr(builtins, tagged[1])
            raise wire.WireError(f"an unknown tag: {tagged[0]}")

        def tensor(plain: torch.Tensor, marks: dict) -> torch.Tensor:
            if "rg" in marks:
                plain.requires_grad_()
                self.inputs[id(plain)] = plain
                self.objects[marks["rg"]] = plain
            return torch.nn.Parameter(plain, plain.requires_grad) if "p" in marks else plain

        return wire.MessageDecoder(buffers, other, tensor)(node)

    def serve(self, until_answer: bool = False) -> Any:
        """Do what the test asks, one request after the other; in a callback, until its answer."""
        while True:
            try:
                request, buffers = wire.receive(self.incoming)
            except EOFError:  # the test's side is done; an EOFError of the student's goes there
                os._exit(0)
            if until_answer and "answer" in request:
                if request.get("raise"):
                    raise _local(request["raise"])
                return self.decode(request["answer"], buffers)
            for number in request.get("free", ()):
                self.objects.pop(number, None)
            self._answer(request, buffers)

    def _answer(self, request: dict, buffers: list[bytes]) -> None:
        before, self.changed = self.changed, []
        late_before = self.alarm.until
        header: dict = {}
        data: list[bytes] = []
        try:
            self.alarm.allow(request.get("seconds", 60.0))
            arguments = self.decode(request["args"], buffers)
            value = OPERATIONS[request["do"]](self, *arguments)
            header["ok"], data = self.encode(value)
            changes = [(key, new) for key, new, old in self.changed if _version(new) != old]
            self.alarm.set(late_before)
            if changes:
                header["changed"], more = self.encode(changes, first=len(data))
                data += more
        except BaseException as error:
            self.alarm.set(late_before)
            header, data = {"raise": _described(error)}, []
        self.changed = before
        header |= {"out": self.output.take(), "moved": self.moved()}
        try:
            wire.send(self.channel, header, data)
        except wire.WireError as error:
            wire.send(self.channel, {"raise": _described(error), "out": ""}, [])

    def moved(self) -> list[str]:
        """The names which the test has looked up and which stand for something else by now."""
        names = [n for n, seen in self.shown.items() if self.namespace.get(n) is not seen]
        for name in names:
            del self.shown[name]
        return names

    # --- cells ------------------------------------------------------------------------------

    def run(self, place: int) -> dict:
        """Run a cell as a notebook does; the error, if any, comes back as text."""
        name, failure = f"<cell {place}>", ""
        try:
            self._execute(self.cells[place], name)
        except OvertimeError:
            raise
        except BaseException as error:
            failure = f"{type(error).__name__}: {error}"[:2000]
        self.alarm.install()
        return {"error": failure, "plots": self._plots(), "defined": self._defined()}

    def _defined(self) -> dict[str, Any]:
        """The functions and classes that are new: a test need not ask for them one by one."""
        new = {
            name: value
            for name, value in list(self.namespace.items())
            if type(value) in (types.FunctionType, type)
            and value.__module__ == "__main__"
            and self.shown.get(name) is not value
        }
        self.shown |= new
        return new

    def _execute(self, source: str, name: str) -> None:
        try:
            tree = ast.parse(source, name)
        except SyntaxError:
            source = readable(source)
            tree = ast.parse(source, name)
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        self._code(compile(tree, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
        if last:
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            value = self._code(compile(ast.Expression(last.value), name, "eval", flags=flags))
            if value is not None and not source.rstrip().endswith(";"):
                print(repr(value)[:MAX_TEXT])

    def _code(self, code: types.CodeType) -> Any:
        value = eval(code, self.namespace)
        if code.co_flags & inspect.CO_COROUTINE:
            return asyncio.run(value)
        return value

    def _plots(self) -> list[bytes]:
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None or not pyplot.get_fignums():
            return []
        pictures = []
        for number in pyplot.get_fignums()[:MAX_PLOTS]:
            file = io.BytesIO()
            pyplot.figure(number).savefig(file, format="png", dpi=60)
            pictures.append(file.getvalue())
        pyplot.close("all")
        return [picture for picture in pictures if len(picture) <= MAX_PLOT_BYTES]


class Callback:
    """A function of the test: calling it asks the test's process."""

    def __init__(self, student: Student, number: int, name: str) -> None:
        self._student, self.number, self.__name__ = student, number, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        header, data = self._student.encode([list(args), kwargs])
        about = {"callback": self.number, "args": header, "moved": self._student.moved()}
        wire.send(self._student.channel, about, data)
        return self._student.serve(until_answer=True)


def readable(source: str) -> str:
    """A cell without IPython's magics: a line with one does nothing, a cell of one is empty."""
    try:
        ast.parse(source)
        return source
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    first, _, rest = source.lstrip().partition("\n")
    if first.startswith("%%"):
        return readable(rest) if re.match(r"%%(time|timeit|capture|prun)\b", first) else ""
    line = re.compile(r"^(\s*)(?:[%!].*|\w[\w.]*\?{1,2}\s*)$", re.MULTILINE)
    return line.sub(r"\1pass", source)


def _kind(value: Any) -> str:
    if isinstance(value, type):
        for base, kind in ((BaseException, "exception"), (torch.nn.Module, "moduletype")):
            if issubclass(value, base):
                return kind
        return "class"
    for base, kind in (
        (torch.nn.Module, "module"),
        (BaseException, "error"),
        (Iterator, "iterator"),
    ):
        if isinstance(value, base):
            return kind
    return "function" if callable(value) else "object"


def _described(error: BaseException) -> dict:
    if isinstance(error, OvertimeError):
        return {"late": True, "types": ["TimeoutError"], "text": "took too long"}
    types_ = [t.__name__[:80] for t in type(error).__mro__ if t not in (object, BaseException)]
    try:
        text = str(error)[:2000]
    except Exception:
        text = ""
    return {"types": types_[:16] or ["RuntimeError"], "text": text}


def _local(given: dict) -> Exception:
    kinds = [getattr(builtins, name, None) for name in given["types"]]
    kind = next(
        (k for k in kinds if isinstance(k, type) and issubclass(k, Exception)), RuntimeError
    )
    return kind(given["text"])


def _version(value: Any) -> Any:
    """Something that differs once a tensor, a list or a dictionary has been changed in place."""
    if isinstance(value, torch.Tensor):
        return value._version
    if isinstance(value, np.ndarray):
        return hash(value.tobytes())
    if isinstance(value, list | tuple):
        return [(id(item), _version(item)) for item in value]
    if isinstance(value, dict):
        return [(id(k), id(v), _version(v)) for k, v in value.items()]
    return None


def _plain(operation: Callable) -> Callable:
    return lambda _, *args: operation(*args)


def _call(_: Student, function: Callable, args: list, kwargs: dict) -> Any:
    return function(*args, **kwargs)


def _call_each(_: Student, function: Callable, rows: list[dict]) -> list:
    """The answers of as many calls as go well, and what the next one raised, if any."""
    answers = []
    for row in rows:
        try:
            answers.append(function(**row))
        except OvertimeError:
            raise
        except BaseException as error:
            return [answers, _described(error)]
    return [answers, None]


def _look_own(student: Student, name: str) -> Any:
    value = student.namespace[name]
    if isinstance(value, types.ModuleType):
        raise KeyError(name)
    student.shown[name] = value
    return value


def _next(_: Student, iterator: Iterator) -> list:
    try:
        return [next(iterator)]
    except StopIteration:
        return []


def _backward(student: Student, output: int, gradient: torch.Tensor, inputs: list[int]) -> list:
    kept = [student.objects[number] for number in inputs]
    for each in kept:
        each.grad = None
    torch.autograd.backward([student.objects[output]], [gradient], retain_graph=True)
    gradients = [each.grad for each in kept]
    for each in kept:
        each.grad = None
    return gradients


def _seed(_: Student, which: str, value: int) -> None:
    {"torch": torch.manual_seed, "random": random.seed, "numpy": np.random.seed}[which](value)


def _signature(_: Student, function: Callable) -> list:
    found = inspect.signature(function).parameters.values()
    rows = []
    for p in found:
        default = [] if p.default is p.empty else [p.default]
        rows.append([p.name, int(p.kind), default])
    return rows


def _write(_: Student, tensor: torch.Tensor, value: torch.Tensor) -> None:
    with torch.no_grad():
        tensor.data.copy_(value)


def _parameters(_: Student, module: torch.nn.Module, what: str, args: list, kwargs: dict) -> list:
    return list(getattr(module, what)(*args, **kwargs))


OPERATIONS: dict[str, Callable] = {
    "run": Student.run,
    "look": _look_own,
    "call": _call,
    "call_each": _call_each,
    "next": _next,
    "backward": _backward,
    "seed": _seed,
    "signature": _signature,
    "write": _write,
    "listed": _parameters,
    "attr": lambda _, value, name: getattr(value, name),
    "set": lambda _, value, name, new: setattr(value, name, new),
    "put": lambda student, name, new: operator.setitem(student.namespace, name, new),
    "isinstance": lambda _, value, kind: isinstance(value, kind),
    "eval": lambda student, source: eval(source, {**student.namespace, "torch": torch}),
    "enter": lambda _, value: value.__enter__(),
    "exit": lambda _, value: bool(value.__exit__(None, None, None)),
    "contains": lambda _, value, item: item in value,
    "delitem": lambda _, value, key: operator.delitem(value, key),
    "setitem": lambda _, value, key, new: operator.setitem(value, key, new),
    **{
        name: _plain(operation)
        for name, operation in {
            "getitem": operator.getitem, "len": len, "iter": iter, "str": str, "repr": repr,
            "float": float, "int": int, "index": operator.index, "bool": bool, "hash": hash,
            "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le,
            "gt": operator.gt, "ge": operator.ge, "add": operator.add, "sub": operator.sub,
            "mul": operator.mul, "truediv": operator.truediv, "floordiv": operator.floordiv,
            "mod": operator.mod, "pow": operator.pow, "matmul": operator.matmul,
            "neg": operator.neg, "abs": abs, "dir": dir,
        }.items()
    },
}  # fmt: skip


def main(channel: socket.socket, job: int) -> None:
    """The whole life of the process."""
    with os.fdopen(job, "rb") as file:
        cells = json.load(file)["cells"]
    student = Student(channel, cells)
    with contextlib.suppress(EOFError, OSError, wire.WireError):
        student.serve()
