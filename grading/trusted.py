"""The test's side: runs the locked cells of the source, and calls the student's work by proxy.

Every value from the student's side is a claim: plain data, rebuilt here, or a handle. An object
that is no plain value cannot decide a comparison with one that is.
"""

import ast
import builtins
import collections
import contextlib
import functools
import importlib
import inspect
import io
import json
import linecache
import os
import random
import signal
import socket
import struct
import sys
import time
import types
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from grading import wire

VERDICTS = 1
MAX_MESSAGE = 4_000
MAX_OUTPUT = 20_000
MAX_CALLBACKS = 20_000
MAX_CALLBACK_DEPTH = 40
GRACE_SECONDS = 1.0
REHEARSAL_SECONDS, MAX_NAMES = 60, 60_000
TOGETHER = 64
BEGIN_HIDDEN, END_HIDDEN = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"


class StudentLostError(BaseException):
    """The student's process has ended, or says what cannot be understood."""


class StudentTimeoutError(BaseException):
    """A cell or a call of the student's took too long."""


class TestTimeoutError(BaseException):
    """The test as a whole took too long."""

    __test__ = False


class Link:
    """The channel to the student's process, and what lives on either side of it."""

    def __init__(self, channel: socket.socket, seconds: float) -> None:
        self._channel, self.seconds = channel, seconds
        self._incoming, self._patience = wire.ReadAhead(channel), 0.0
        self.alive, self.output, self._depth = True, io.StringIO(), 0
        self.broken = False
        self.applies_changes = False
        self._callbacks: dict[int, Callable] = {}
        self._calls = self._count = 0
        self._free: list[int] = []
        self._proxies: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
        self.errors: dict[tuple, type] = {}
        self.looked_up: dict[str, Any] = {}
        self._said_error: BaseException | None = None

    def new_test(self) -> None:
        """Callbacks of an earlier test are no longer answered."""
        self._callbacks.clear()
        self._calls, self._depth, self.broken = 0, 0, False
        self.applies_changes = False
        self.output = io.StringIO()

    def ask(self, do: str, *arguments: Any) -> Any:
        """Have the student's process do something; returns or raises what it says."""
        if not self.alive:
            raise StudentLostError("the student's process has ended")
        inputs: list[torch.Tensor] = []
        watched: dict[int, Any] = {}
        try:
            watches = do == "call" and self.applies_changes
            node, data = self._encode(list(arguments), inputs, watched if watches else None)
        except wire.WireError as error:
            raise ValueError(f"cannot be passed to the student's process: {error}") from None
        free, self._free = self._free, []
        request = {"do": do, "args": node, "seconds": self.seconds, "free": free}
        try:
            self._be_patient()
            wire.send(self._channel, request, data)
            return self._wait(inputs, watched)
        except (wire.WireError, EOFError, OSError) as error:
            if error is self._said_error:  # the student's own, such as FileNotFoundError
                raise
            self.lose()
            late = isinstance(error, TimeoutError | BlockingIOError)
            kind = StudentTimeoutError if late else StudentLostError
            said = "took too long, and did not stop" if late else "the student's process ended"
            raise kind(
                said if late or not isinstance(error, wire.WireError) else str(error)
            ) from None

    def look(self, name: str) -> Any:
        """What a name of the student's stands for.

        Functions and classes are kept until it is said that the name stands for something else.
        """
        if self.alive and name in self.looked_up:
            return self.looked_up[name]
        value = self.ask("look", name)
        self.keep({name: value})
        return value

    def keep(self, values: dict) -> None:
        """Remember those that are functions and classes."""
        for name, value in values.items():
            if isinstance(value, StudentFunction | StudentClass | type):
                self.looked_up[name] = value

    def lose(self) -> None:
        """No word more with this student's process."""
        self.alive, self.broken = False, True
        self._channel.close()

    def _be_patient(self) -> None:
        """Have the kernel end a wait: cheaper than to ask, before each, how long it may be."""
        if self._patience != self.seconds:
            self._patience = self.seconds
            microseconds = int(1e6 * (self.seconds + GRACE_SECONDS))
            span = struct.pack("@ll", *divmod(microseconds, 1_000_000))
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self._channel.setsockopt(socket.SOL_SOCKET, option, span)

    def _wait(self, inputs: list[torch.Tensor], watched: dict[int, Any]) -> Any:
        until = time.monotonic() + self.seconds + GRACE_SECONDS
        while True:
            self._incoming.until = until
            header, data = wire.receive(self._incoming)
            self._note(header.get("out"))
            for name in _names_in(header.get("moved")):
                self.looked_up.pop(name, None)
            decode = functools.partial(self._decode, data=data, inputs=inputs)
            if "callback" in header:
                self._call_back(header, decode)
            elif "raise" in header:
                self._said_error = self._error(header["raise"])
                raise self._said_error
            elif "ok" in header:
                if self.applies_changes and "changed" in header:
                    self._apply(decode(header["changed"]), watched)
                return decode(header["ok"])
            else:
                raise wire.WireError("an answer that is none")

    def _note(self, text: Any) -> None:
        if type(text) is str and text:
            if sys.stdout is not sys.__stdout__:
                sys.stdout.write(text[:MAX_OUTPUT])
            self.output.write(text[: max(MAX_OUTPUT - self.output.tell(), 0)])

    def _call_back(self, header: dict, decode: Callable) -> None:
        self._calls += 1
        function = (
            self._callbacks.get(header["callback"]) if type(header["callback"]) is int else None
        )
        if function is None or self._calls > MAX_CALLBACKS or self._depth >= MAX_CALLBACK_DEPTH:
            raise wire.WireError("called a function of the test that is not there, or too often")
        self._depth += 1
        try:
            args, kwargs = decode(header.get("args"))
            answer = {"answer": function(*args, **kwargs)}
        except (wire.WireError, StudentLostError, StudentTimeoutError):
            raise
        except Exception as error:
            names = [t.__name__ for t in type(error).__mro__[:-2]]
            answer = {"answer": None, "raise": {"types": names, "text": str(error)[:2000]}}
        finally:
            self._depth -= 1
        node, data = self._encode(answer["answer"], [], None)
        wire.send(self._channel, {**answer, "answer": node}, data)

    # --- values -----------------------------------------------------------------------------

    def _encode(self, value: Any, inputs: list, watched: dict | None) -> tuple[Any, list[bytes]]:
        def tensor(given: torch.Tensor) -> dict | list | None:
            if isinstance(given, Mirror):
                return ["h", given.handle]
            marks: dict = {"p": 1} if isinstance(given, torch.nn.Parameter) else {}
            if given.requires_grad:
                self._count += 1
                marks["rg"] = -self._count
                inputs.append((-self._count, given))
            return marks

        def other(given: Any) -> list:
            if type(given) is StudentClass or isinstance(given, StudentObject | StudentModule):
                return ["h", object.__getattribute__(given, "_handle")]
            if isinstance(given, type) and "_handle" in vars(given):
                return ["h", given._handle]
            if isinstance(given, torch.Generator):
                state = encoder.tensor(given.get_state(), {})
                torch.rand(1, generator=given)
                return ["gen", state]
            if isinstance(given, type) and getattr(builtins, given.__name__, None) is given:
                return ["builtin", given.__name__]
            if callable(given):
                return [
                    "r",
                    self._callback(given),
                    str(getattr(given, "__name__", "callback"))[:80],
                ]
            raise ValueError(f"a {type(given).__name__} cannot be passed to the student's process")

        encoder = wire.Encoder(other, tensor)
        if watched is None:
            return encoder(value), encoder.buffers
        function, args, kwargs = value
        parts = [[self._watched(encoder, v, watched) for v in vs] for vs in (args, kwargs.values())]
        node = ["l", [encoder(function), ["l", parts[0]], ["d", list(kwargs), parts[1]]]]
        return node, encoder.buffers

    def _watched(self, encoder: wire.Encoder, value: Any, watched: dict) -> Any:
        """Mark what the student could change in place, so that a change is told."""
        if isinstance(value, torch.Tensor | np.ndarray | list | dict) and not isinstance(
            value, Mirror
        ):
            watched[len(watched)] = value
            return ["watch", len(watched) - 1, encoder(value)]
        return encoder(value)

    def _callback(self, function: Callable) -> int:
        self._count += 1
        self._callbacks[self._count] = function
        return self._count

    def _decode(self, node: Any, data: list[bytes], inputs: list) -> Any:
        def tensor(plain: torch.Tensor, marks: dict) -> torch.Tensor:
            if type(marks.get("g")) is not int or not plain.is_floating_point():
                return plain
            hook = torch.zeros((), requires_grad=True)
            return _Remote.apply(self, marks["g"], plain, [n for n, _ in inputs], hook,
                                 *[t for _, t in inputs])  # fmt: skip

        def other(tagged: list) -> Any:
            tag, rest = tagged[0], tagged[1:]
            if tag == "h":
                return self._proxy(*rest)
            if tag == "r" and type(rest[0]) is int and rest[0] in self._callbacks:
                return self._callbacks[rest[0]]
            if tag in ("P", "L"):
                return self._mirror(tag, rest[0], rest[1], decoder(rest[2]))
            if tag == "nt":
                return _named_tuple(rest[0], rest[1])(*[decoder(item) for item in rest[2]])
            raise wire.WireError("an unknown tag")

        decoder = wire.MessageDecoder(data, other, tensor)
        return decoder(node)

    def _mirror(self, tag: str, handle: int, requires_grad: bool, plain: torch.Tensor) -> "Mirror":
        if type(handle) is not int or not isinstance(plain, torch.Tensor):
            raise wire.WireError("a parameter that is none")
        rises = bool(requires_grad) and plain.is_floating_point()
        base = MirrorParameter if tag == "P" else Mirror
        mirror = torch.Tensor._make_subclass(base, plain.detach(), rises)
        mirror.link, mirror.handle = self, handle
        return mirror

    def _proxy(self, handle: int, kind: str, name: str, of: str) -> Any:
        if type(handle) is not int or {type(kind), type(name), type(of)} != {str}:
            raise wire.WireError("a handle that is none")
        if kind == "exception":
            return self._class_of(tuple(name.split("|")))
        if kind == "module":
            return StudentModule(self, handle, of)
        if kind == "moduletype":
            return _module_class(self, handle, name)
        kinds = {"class": StudentClass, "iterator": StudentIterator, "function": StudentFunction}
        proxy = kinds.get(kind, StudentObject)(self, handle, name if kind != "object" else of)
        weakref.finalize(proxy, self._free.append, handle).atexit = False
        return proxy

    def _class_of(self, names: tuple[str, ...]) -> type:
        """A builtin exception by its name; a class of the student's below the nearest builtin."""
        first = _builtin_error(names[0])
        if first:
            return first
        base = next(filter(None, map(_builtin_error, names[1:])), Exception)
        key = (names[0], base)
        if key not in self.errors:
            self.errors[key] = type(str(names[0])[:80], (base,), {})
        return self.errors[key]

    def _error(self, given: Any) -> BaseException:
        if type(given) is not dict or type(given.get("types")) is not list:
            raise wire.WireError("an exception that is none")
        names, text = [str(n) for n in given["types"][:16]], str(given.get("text"))[:2000]
        if given.get("late"):
            self.broken = True
            return StudentTimeoutError("took too long")
        if not names:
            raise wire.WireError("an exception that is none")
        kind = self._class_of(tuple(names))
        try:
            return kind(text)
        except TypeError:
            return RuntimeError(f"{names[0]}: {text}")

    def _apply(self, changes: Any, watched: dict[int, Any]) -> None:
        for key, new in changes if type(changes) is list else ():
            old = watched.get(key) if type(key) is int else None
            if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
                with torch.no_grad():
                    old.copy_(new.reshape(old.shape).to(old.dtype))
            elif isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
                old[...] = new
            elif type(old) is list and type(new) is list:
                old[:] = new
            elif type(old) is dict and type(new) is dict:
                old.clear()
                old.update(new)


def _names_in(given: Any) -> list[str]:
    return [name for name in given if type(name) is str] if type(given) is list else []


class _Remote(torch.autograd.Function):
    """A tensor that the student's process computed; its gradient is computed there too."""

    @staticmethod
    def forward(
        ctx: Any, link: Link, handle: int, value: torch.Tensor, numbers: list, *_: Any
    ) -> Any:
        ctx.link, ctx.handle, ctx.numbers = link, handle, numbers
        return value

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple:
        given = ctx.link.ask("backward", ctx.handle, gradient, ctx.numbers)
        if type(given) is not list or len(given) != len(ctx.numbers):
            raise StudentLostError("gradients that are none")
        plain = [g.detach() if isinstance(g, torch.Tensor) else None for g in given]
        return (None, None, None, None, None, *plain)


def _builtin_error(name: str) -> type | None:
    kind = getattr(builtins, name, None)
    fine = isinstance(kind, type) and issubclass(kind, Exception)
    return kind if fine and kind not in (StudentLostError, StudentTimeoutError) else None


@functools.lru_cache(maxsize=64)
def _named_fields(name: str, fields: tuple[str, ...]) -> type:
    return collections.namedtuple(name, fields)


def _named_tuple(name: Any, fields: Any) -> type:
    if type(name) is not str or type(fields) is not list or len(fields) > 64:
        raise wire.WireError("a named tuple that is none")
    if not all(type(f) is str and f.isidentifier() and len(f) < 80 for f in [name, *fields]):
        raise wire.WireError("a named tuple with a bad name")
    return _named_fields(name, tuple(fields))


# --- proxies ---------------------------------------------------------------------------------


def _binary(name: str) -> Callable:
    def method(self: "StudentObject", other: Any) -> Any:
        if not isinstance(other, StudentObject):
            if self._made_by_test:
                return self._link.ask(name, self, other)
            raise TypeError(
                f"an object of type {self._name} was returned where a plain value was expected"
            )
        return self._link.ask(name, self, other)

    return method


class StudentObject:
    """An object that stays in the student's process."""

    def __init__(self, link: Link, handle: int, name: str, made_by_test: bool = False) -> None:
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_handle", handle)
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_made_by_test", made_by_test)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__doc__", "__dict__", "__wrapped__",
                                                  "__annotations__", "__defaults__"):  # fmt: skip
            raise AttributeError(name)
        if name == "__wrapped__":
            raise AttributeError(name)
        return self._link.ask("attr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._link.ask("set", self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._link.ask("call", self, args, kwargs)

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, StudentObject):
            return False
        return self._handle == other._handle or self._link.ask("eq", self, other) is True

    def __hash__(self) -> int:
        return hash(self._handle)

    def __repr__(self) -> str:
        return f"<an object of type {self._name}>"

    def __str__(self) -> str:
        return str(self._link.ask("str", self))

    def __float__(self) -> float:
        return float(self._link.ask("float", self))

    def __int__(self) -> int:
        return int(self._link.ask("int", self))

    def __len__(self) -> int:
        return int(self._link.ask("len", self))

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: Any) -> Any:
        return self._link.ask("getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._link.ask("setitem", self, key, value)

    def __delitem__(self, key: Any) -> None:
        self._link.ask("delitem", self, key)

    def __contains__(self, item: Any) -> bool:
        return self._link.ask("contains", self, item) is True

    def __iter__(self) -> Iterator:
        return iter(self._link.ask("iter", self))

    def __enter__(self) -> Any:
        return self._link.ask("enter", self)

    def __exit__(self, *_: Any) -> bool:
        return self._link.ask("exit", self) is True

    def __neg__(self) -> Any:
        return self._link.ask("neg", self)


for _name in "add sub mul truediv floordiv mod pow matmul lt le gt ge".split():  # noqa: SIM905
    setattr(StudentObject, f"__{_name}__", _binary(_name))


class StudentFunction(StudentObject):
    """A function of the student's."""

    @property
    def __signature__(self) -> inspect.Signature:
        rows = self._link.ask("signature", self)
        kinds = list(inspect._ParameterKind)
        return inspect.Signature([
            inspect.Parameter(name, kinds[kind], **({"default": rest[0]} if rest else {}))
            for name, kind, rest in rows
        ])  # fmt: skip

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self

    def call_each(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[Callable[[], Any]]:
        """For each row of keyword arguments, a function that gives or raises what the call did.

        The calls are made together, up to the first one that raises; it is the last here. What
        does not fit in one message is called when it is asked for.
        """
        for start in range(0, len(rows), TOGETHER):
            part = [dict(row) for row in rows[start : start + TOGETHER]]
            try:
                given = self._link.ask("call_each", self, part)
            except Exception:
                yield from (functools.partial(self, **row) for row in part)
                continue
            answers, failure = given if _is_list(given, 2) else (None, None)
            if not _is_list(answers, len(part)) and failure is None:
                raise StudentLostError("answers that are none")
            yield from (functools.partial(_given, answer) for answer in answers[: len(part)])
            if failure is not None:
                yield functools.partial(_raised, self._link, failure)
                return


def _is_list(value: Any, length: int) -> bool:
    return type(value) is list and len(value) == length


def _given(answer: Any) -> Any:
    return answer


def _raised(link: Link, failure: Any) -> None:
    raise link._error(failure)


class StudentIterator(StudentObject):
    """A generator of the student's."""

    def __iter__(self) -> "StudentIterator":
        return self

    def __next__(self) -> Any:
        given = self._link.ask("next", self)
        if type(given) is not list or len(given) != 1:
            raise StopIteration
        return given[0]


class StudentClass(StudentObject):
    """A class of the student's: calling it makes an object there."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        made = self._link.ask("call", self, args, kwargs)
        if isinstance(made, StudentObject):
            object.__setattr__(made, "_made_by_test", True)
        return made

    def __instancecheck__(self, value: Any) -> bool:
        known = isinstance(value, StudentObject | StudentModule)
        return known and self._link.ask("isinstance", value, self) is True


for _class in (StudentObject, StudentFunction, StudentIterator, StudentClass):
    _class.__doc__ = property(lambda self: self._link.ask("attr", self, "__doc__"))


class Mirror(torch.Tensor):
    """A copy of a tensor of the student's: what is done to it in place is done there too."""

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "")
        changes = (name.endswith("_") and not name.endswith("__")) or name == "__setitem__"
        if changes and args and isinstance(args[0], Mirror):
            args[0].link.ask("write", args[0], args[0].detach().as_subclass(torch.Tensor))
        return result

    @property
    def grad(self) -> torch.Tensor | None:
        """The gradient there, and the one that the test itself added here."""
        remote = self.link.ask("attr", self, "grad")
        here = torch.Tensor.grad.__get__(self)
        remote = remote.detach() if isinstance(remote, torch.Tensor) else None
        return remote if here is None else here if remote is None else remote + here

    @grad.setter
    def grad(self, value: torch.Tensor | None) -> None:
        torch.Tensor.grad.__set__(self, None)
        self.link.ask("set", self, "grad", value)

    def __deepcopy__(self, memo: dict) -> torch.Tensor:
        return self.detach().as_subclass(torch.Tensor).clone().requires_grad_(self.requires_grad)

    __hash__ = torch.Tensor.__hash__


class MirrorParameter(Mirror, torch.nn.Parameter):
    """A copy of a parameter of the student's model."""


class StudentModule(torch.nn.Module):
    """A model of the student's. Its parameters here are mirrors of those there."""

    def __init__(self, link: Link, handle: int, name: str) -> None:
        super().__init__()
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_handle", handle)
        object.__setattr__(self, "_of", name)
        object.__setattr__(self, "_mirrors", {})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._link.ask("call", self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in ("_link", "_handle") or (name.startswith("__") and name != "__doc__"):
            raise AttributeError(name)
        return self._link.ask("attr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("training",) or name.startswith("_") or not hasattr(self, "_link"):
            object.__setattr__(self, name, value)
        else:
            self._link.ask("set", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._link.ask("getitem", self, key)

    def __len__(self) -> int:
        return int(self._link.ask("len", self))

    def __iter__(self) -> Iterator:
        return iter(self.children())

    def __repr__(self) -> str:
        return f"<a model of type {self._of}>"

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, torch.Tensor]]:
        pairs = self._link.ask("listed", self, "named_parameters", args, kwargs)
        for name, fresh in pairs:
            mirror = self._mirrors.setdefault(name, fresh)
            if mirror is not fresh and mirror.shape == fresh.shape:
                torch.Tensor.detach(mirror).as_subclass(torch.Tensor).copy_(
                    fresh.detach().as_subclass(torch.Tensor))  # fmt: skip
                mirror.handle = fresh.handle
            else:
                self._mirrors[name] = mirror = fresh
            yield name, mirror

    def parameters(self, recurse: bool = True) -> Iterator[torch.Tensor]:
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        bound = self._link.ask("attr", self, "state_dict")
        return bound(*args, **kwargs)

    def load_state_dict(self, state: Any, strict: bool = True) -> Any:
        plain = {k: v.detach().as_subclass(torch.Tensor) for k, v in state.items()}
        return self._link.ask("attr", self, "load_state_dict")(plain, strict)

    def train(self, mode: bool = True) -> "StudentModule":
        self._link.ask("attr", self, "train")(mode)
        object.__setattr__(self, "training", mode)
        return self

    def __deepcopy__(self, memo: dict) -> Any:
        return self._link.ask("eval", "__import__('copy').deepcopy")(self)


def _listed(name: str) -> Callable:
    def method(self: StudentModule, *args: Any, **kwargs: Any) -> Iterator:
        return iter(self._link.ask("listed", self, name, args, kwargs))

    return method


def _passed_on(name: str) -> Callable:
    def method(self: StudentModule, *args: Any, **kwargs: Any) -> Any:
        given = self._link.ask("attr", self, name)(*args, **kwargs)
        return self if isinstance(given, StudentModule) else given

    return method


for _name in ["children", "named_children", "modules", "named_modules", "buffers", "named_buffers"]:
    setattr(StudentModule, _name, _listed(_name))
_PASSED_ON = """
forward zero_grad requires_grad_ to double float half apply register_forward_hook
register_forward_pre_hook get_parameter extra_repr
"""
for _name in _PASSED_ON.split():
    setattr(StudentModule, _name, _passed_on(_name))


def _module_class(link: Link, handle: int, name: str) -> type:
    """A stand-in for a student's model class: calling it makes the model there."""

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        made = link.ask("call", cls, args, kwargs)
        if isinstance(made, StudentModule):
            object.__setattr__(made, "__class__", cls)
        return made

    members = {"__new__": new, "__init__": lambda self, *a, **k: None, "_handle": handle}
    return type(str(name)[:80], (StudentModule,), members)


# --- the tests -------------------------------------------------------------------------------


class Names(dict):
    """Globals of the locked cells: their own names, builtins, and then the student's."""

    def __init__(self, link: Link, cells: list[str]) -> None:
        super().__init__(__name__="__test__", __builtins__=builtins)
        self._link, self._seen = link, {}
        self["inplace"] = functools.partial(_inplace, link)
        self["student_source"] = functools.partial(_student_source, cells)
        self["student_side"] = functools.partial(link.ask, "eval")
        self["student_set"] = functools.partial(link.ask, "put")

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            return getattr(builtins, name)
        try:
            return self._link.look(name)
        except KeyError:
            raise NameError(f"name {name!r} is not defined") from None


@contextlib.contextmanager
def _inplace(link: Link) -> Iterator[None]:
    """Within this block, what the student's function does to its arguments is done here too."""
    link.applies_changes = True
    try:
        yield
    finally:
        link.applies_changes = False


def _student_source(cells: list[str], name: Any) -> str:
    """The text of the last function or class of that name in the submission."""
    name = name if isinstance(name, str) else object.__getattribute__(name, "_name")
    found = ""
    for source in cells:
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
                    found = ast.get_source_segment(source, node) or ""
    if not found:
        raise AssertionError(f"no function or class named {name} was found in the submission")
    return found


def _with_seeds(link: Link) -> None:
    """What the test seeds here is seeded there too."""

    def following(here: Callable, which: str) -> Callable:
        def seed(value: int = 0) -> Any:
            result = here(value)
            if link.alive:
                link.ask("seed", which, value)
            return result

        return seed

    for module, name, which in ((torch, "manual_seed", "torch"), (random, "seed", "random"),
                                (np.random, "seed", "numpy")):  # fmt: skip
        setattr(module, name, following(getattr(module, name), which))


class Run:
    """All steps of a submission, in order; a verdict goes out after each test."""

    def __init__(self, link: Link, job: dict) -> None:
        self.link, self.job = link, job
        self.names = Names(link, [s["source"] for s in job["steps"] if s["kind"] == "student"])
        self._said: list[str] = []
        self._plots: list[str] = []
        self._place = 0

    def everything(self) -> None:
        """Run the steps; the imports of the source's cells come first."""
        for statement in self.job["imports"]:
            with contextlib.suppress(Exception):
                exec(statement, self.names)
        for step in self.job["steps"]:
            if step["kind"] == "test":
                self._test(step)
            else:
                self._cell(step)

    def _cell(self, step: dict) -> None:
        place, self._place = self._place, self._place + 1
        if self.link.alive:
            self.link.output, self.link.seconds = io.StringIO(), self.job["cell_seconds"]
            try:
                given = self.link.ask("run", place)
                if type(given) is dict:
                    self._keep(given)
            except (StudentLostError, StudentTimeoutError) as error:
                self._said.append(f"[{error}]\n")
            except Exception as error:
                self._said.append(f"[{type(error).__name__}]\n")
            self._said.append(self.link.output.getvalue())
        if step["kind"] == "locked":
            with contextlib.redirect_stdout(io.StringIO()):
                _execute(step["source"], "<locked cell>", self.names)

    def _keep(self, given: dict) -> None:
        if type(given.get("error")) is str and given["error"]:
            self._said.append(given["error"][:MAX_MESSAGE] + "\n")
        for plot in given.get("plots") or ():
            if type(plot) is bytes and plot.startswith(b"\x89PNG") and len(self._plots) < 8:
                self._plots.append(plot.hex())
        if type(given.get("defined")) is dict:
            self.link.keep(given["defined"])

    def _test(self, step: dict) -> None:
        started = time.monotonic()
        if not self.link.alive:
            self._tell(
                step, 0.0, "lost", "the student's process had ended before this test", started
            )
            return
        self.link.new_test()
        self.link.seconds = self.job["test_seconds"]
        points, status, message = 0.0, "error", ""
        signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, self.job["test_seconds"] + 2 * GRACE_SECONDS)
        try:
            points = _points(_execute(step["source"], step["grade_id"], self.names), step["points"])
            status = "passed"
            if self.link.broken:
                points, status, message = 0.0, "timeout", "a call of the student's took too long"
        except (TestTimeoutError, StudentTimeoutError) as error:
            status, message = "timeout", str(error) or "the test took too long"
        except StudentLostError as error:
            status, message = "lost", str(error)
        except BaseException as error:
            status = "failed" if isinstance(error, AssertionError) else "error"
            message = _message(error, step)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._tell(step, points, status, message, started)

    def _tell(self, step: dict, points: float, status: str, message: str, started: float) -> None:
        during = self.link.output.getvalue() if BEGIN_HIDDEN not in step["source"] else ""
        verdict = {
            "grade_id": step["grade_id"], "points": points, "status": status,
            "message": message[:MAX_MESSAGE], "seconds": time.monotonic() - started,
            "student_output": ("".join(self._said) + during)[:MAX_OUTPUT], "plots": self._plots,
        }  # fmt: skip
        self._said, self._plots = [], []
        self.link.output = io.StringIO()
        os.write(VERDICTS, b"")
        with open(VERDICTS, "wb", buffering=0, closefd=False) as file:
            data = json.dumps(verdict).encode() + b"\n"
            while data:
                data = data[file.write(data) :]


def _ring(*_: Any) -> None:
    raise TestTimeoutError


def _execute(source: str, name: str, names: dict) -> Any:
    """Run a test; the value of a last line that is a number or a name, for partial credit."""
    code, last = _compiled(source, name)
    exec(code, names)
    return eval(last, names) if last else None


@functools.lru_cache(maxsize=1024)
def _compiled(source: str, name: str) -> tuple[types.CodeType, types.CodeType | None]:
    """A test as code, its last line apart if that is plain; the parent makes it, for all forks."""
    tree = ast.parse(source)
    last = tree.body[-1] if tree.body else None
    plain = isinstance(last, ast.Expr) and not any(
        isinstance(node, ast.Call | ast.Attribute | ast.Await) for node in ast.walk(last)
    )
    if plain:
        tree.body.pop()
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    value = compile(ast.Expression(last.value), name, "eval") if plain else None
    return compile(tree, name, "exec"), value


def _points(value: Any, points: float) -> float:
    if type(value) in (int, float):
        return min(max(float(value), 0.0), points) if value == value else 0.0
    return points


def _message(error: BaseException, step: dict) -> str:
    """What went wrong, in words; never a line of a hidden test."""
    try:
        text = str(error)
    except Exception:
        text = ""
    if isinstance(error, AssertionError):
        return text or _failed_line(error, step)
    return f"{type(error).__name__}: {text}"


def _failed_line(error: BaseException, step: dict) -> str:
    numbers, trace = [], error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == step["grade_id"]:
            numbers.append(trace.tb_lineno)
        trace = trace.tb_next
    hidden = False
    for number, line in enumerate(step["source"].split("\n"), start=1):
        hidden = BEGIN_HIDDEN in line or (hidden and END_HIDDEN not in line)
        if numbers and number == numbers[-1]:
            return "a hidden test failed" if hidden else f"this does not hold: {line.strip()}"
    return "a test failed"


def main(channel: socket.socket, job: int) -> None:
    """The whole life of the process."""
    with os.fdopen(job, "rb") as file:
        given = json.load(file)
    os.environ["COURSE_SECRET"] = given["secret"]
    os.chdir("/tmp")
    link = Link(channel, given["test_seconds"])
    _with_seeds(link)
    Run(link, given).everything()


def rehearse(job: int) -> list[str]:
    """Run a source notebook, solutions and all, in the parent: what is computed once is kept.

    Only on the test's side, which sees no student's code. Returns the modules of installed
    packages that were loaded meanwhile: students' functions will want them too.
    """
    with os.fdopen(job, "rb") as file:
        given = json.load(file)
    before = set(sys.modules)
    os.environ["COURSE_SECRET"] = given["secret"]
    threaded = [step for step in given["cells"] if _may_start_threads(step["source"])]
    if threaded:
        for name in _loaded_by(given["cells"]):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    _play(given["cells"], without=threaded)
    del os.environ["COURSE_SECRET"]
    ours = ("exercises", "tests", "grading", "lib")
    return sorted(n for n in set(sys.modules) - before if n.partition(".")[0] not in ours)


def _may_start_threads(source: str) -> bool:
    """Gradients do, and threads do not survive a fork: such a test is not run in the parent."""
    return "grad" in source or "backward" in source


def _play(cells: list[dict], without: list[dict]) -> None:
    names: dict[str, Any] = {"__name__": "__test__"}
    for step in cells:
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            code, _ = _compiled(step["source"], step.get("grade_id", "<locked cell>"))
            if step not in without:
                exec(code, names)


def _loaded_by(cells: list[dict]) -> list[str]:
    """The modules that all these cells load, gradients included, found out in a fork."""
    before = set(sys.modules)
    end, start = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(REHEARSAL_SECONDS)
            _play(cells, without=[])
            os.write(start, "\n".join(set(sys.modules) - before).encode()[:MAX_NAMES])
        finally:
            os._exit(0)
    os.close(start)
    with os.fdopen(end, "rb") as file:
        names = file.read().decode().split("\n")
    os.waitpid(child, 0)
    return names
