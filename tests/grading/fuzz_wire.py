# ruff: noqa: E501
"""Mutated messages against the decoder of what comes from students' processes.

    python -m tests.grading.fuzz_wire --messages 1000000 --json fuzz.json

Good messages are broken in all the ways that bytes and JSON can be broken, and read as the test's
side reads them. Anything but a value, a `WireError`, an error that the message itself speaks of, or
the end of the channel is a finding, and so is a message that takes SECONDS of computing.
"""

import argparse
import json
import os
import random
import resource
import socket
import struct
import sys
import time
import tracemalloc
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grading import wire
from grading.trusted import Link, StudentLostError, StudentTimeoutError

SECONDS = 2.0
GROWN_MIB = 1024
"""At most this much more memory at the peak, of which the messages themselves take most: some are
over 100 MB before they are cut to what a channel lets through."""
VALUES = [
    {"flops": 14, "bound": "memory"}, [1, 2.5, None, True, "text"], (1, (2, {3}), frozenset({4})),
    torch.arange(6.0).view(2, 3), torch.tensor([True, False]), torch.ones(2, dtype=torch.bfloat16),
    np.arange(4, dtype="int16"), np.float32(2.5), b"bytes", bytearray(b"x"), 2**300, 1 + 2j,
    OrderedDict(a=1), range(1, 9, 2), slice(1, None), ..., torch.float16, torch.Size([2, 3]),
    {(1, "x"): [torch.zeros(0), {}]}, [{"flops": n, "at": {"x": 0.5}} for n in range(3)],
    [(1, "a", torch.ones(1)), (2, "b", torch.ones(2))],
]  # fmt: skip
ODD = [None, True, -1, 0, 1, 2**31, 2**63, 1e308, "", "T", "l", "h", "r", "P", "L", "nt", [], {}, [[]],
       ["h", 1, "function", "f", "g"], ["h", 1, "module", "x", "y"], ["r", 1], ["nt", "A", ["b"], [1]],
       ["h", 1, "exception", "ValueError|Exception", "x"], ["T", "float32", [2], 0, {}],
       ["T", "float32", [1 << 40], 0, {}], ["P", 1, True, ["T", "float32", [1], 0, {"g": 1}]],
       ["rd", ["l", "x"], [["l", [1, 2]], ["l", ["a", "b"]]]], ["rt", [["l", [1]], ["l", []]]], ["rd", [], []],
       ["h", 2, "class", "x" * 500, "y"], ["nt", "__import__", ["os"], []], "__class__", "../../x"]  # fmt: skip


def seeds() -> list[tuple[dict, list[bytes]]]:
    """Good messages of every kind that the test's side receives."""

    def handle(value: object) -> list:
        return ["h", 7, "object", "x", type(value).__name__]

    messages: list[tuple[dict, list[bytes]]] = []
    for value in VALUES:
        encoder = wire.Encoder(handle)
        node = encoder(value)
        messages.append(({"ok": node, "out": "printed"}, encoder.buffers))
        messages.append(({"ok": node, "changed": ["l", [["t", [0, node]]]]}, encoder.buffers))
        messages.append(
            ({"callback": 1, "args": ["l", [["l", [node]], ["d", [], []]]]}, encoder.buffers)
        )
    answers = ["l", [["l", [1, ["l", [2]], "x"]], None]]
    messages.append(({"ok": answers, "out": "", "moved": ["f", "answer"]}, []))
    messages.append(
        ({"raise": {"types": ["ValueError", "Exception"], "text": "no"}, "out": ""}, [])
    )
    messages.append(({"raise": {"types": ["TimeoutError"], "text": "", "late": True}}, []))
    return messages


def mutated(draw: random.Random, header: dict, buffers: list[bytes]) -> bytes:
    """A message broken in its values, its JSON, its buffers, its lengths or its bytes."""
    header = json.loads(json.dumps(header))
    for _ in range(draw.choice([1, 1, 2, 5])):
        header = _changed(draw, header)
    text = json.dumps(header).encode()
    way = draw.random()
    if way < 0.15:
        text = _bytes(draw, text)
    if way > 0.85:
        buffers = [_bytes(draw, b) for b in buffers] + [os.urandom(0)] * draw.randrange(3)
    lengths = [len(b) for b in buffers]
    prefix = [wire.MAGIC, len(text), len(buffers)]
    if draw.random() < 0.05:
        prefix[draw.randrange(1, 3)] = draw.choice([0, 1, 255, 256, 65535])
    if lengths and draw.random() < 0.05:
        lengths[draw.randrange(len(lengths))] = draw.choice([0, 1, 2**31, 2**32 - 1])
    packed = b"".join(struct.pack("!I", length) for length in lengths)
    data = struct.pack("!4sIH", *prefix) + packed + text + b"".join(buffers)
    return _bytes(draw, data) if draw.random() < 0.1 else data


def _changed(draw: random.Random, node: Any) -> Any:
    """The same JSON with one part exchanged, dropped, doubled or wrapped."""
    if isinstance(node, dict) and node and draw.random() < 0.85:
        key = draw.choice(list(node))
        return {**node, key: _changed(draw, node[key])}
    if isinstance(node, list) and node and draw.random() < 0.8:
        place = draw.randrange(len(node))
        way = draw.randrange(5)
        if way == 0:
            return node[:place] + node[place + 1 :]
        if way == 1:
            return node[:place] + [node[place]] * draw.choice([2, 3, 300]) + node[place:]
        return [*node[:place], _changed(draw, node[place]), *node[place + 1 :]]
    way = draw.random()
    if way < 0.1:
        for _ in range(draw.choice([1, 33, 60])):
            node = ["l", [node]]
        return node
    if way < 0.2:
        return draw.randint(-(10 ** draw.randrange(1, 400)), 10 ** draw.randrange(1, 400))
    return draw.choice(ODD)


def _bytes(draw: random.Random, data: bytes) -> bytes:
    """The same bytes with some flipped, cut, doubled or put in."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 3, 20])):
        place = draw.randrange(len(changed) + 1)
        way = draw.randrange(4)
        if way == 0 and place < len(changed):
            changed[place] = draw.randrange(256)
        elif way == 1:
            del changed[place : place + draw.randrange(9)]
        elif way == 2:
            changed[place:place] = bytes(draw.randrange(256) for _ in range(draw.randrange(5)))
        else:
            changed[place:place] = changed[place : place + draw.randrange(60)]
    return bytes(changed)


def received(data: bytes) -> str:
    """How the test's side takes a message: `value`, or the name of the error it raises."""
    near, far = socket.socketpair()
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        near.sendall(data[: 1 << 19])
        near.shutdown(socket.SHUT_WR)
        link = Link(far, SECONDS)
        link.seconds = 0.5
        link._callbacks[1] = lambda *_, **__: None
        try:
            link._wait([], {0: [1], 1: torch.zeros(2)})
        except (wire.WireError, EOFError, StudentLostError, StudentTimeoutError) as error:
            return type(error).__name__
        except OSError:
            return "end of the channel"
        except Exception as error:
            if getattr(error, "__traceback__", None) and _said_by_student(error):
                return "an error of the student's"
            raise
    return "value"


def _said_by_student(error: BaseException) -> bool:
    """Whether the test's side raised it on purpose: because the message said so."""
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_name == "_wait"


def run(messages: int, seed: int) -> Iterator[tuple[bytes, str, float]]:
    """Each message, how it was taken, and the seconds of computing."""
    draw, good = random.Random(seed), seeds()
    for _ in range(messages):
        data = mutated(draw, *draw.choice(good))
        started = time.process_time()
        try:
            said = received(data)
        except BaseException as error:
            said = f"FOUND {type(error).__name__}: {error}"
        yield data, said, time.process_time() - started


def summary(messages: int, seed: int) -> dict[str, Any]:
    """What came of a run; `found` has the messages that did what they must not."""
    kinds: Counter = Counter()
    found, slowest = [], 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data, said, seconds in run(messages, seed):
        kinds[said.split(":")[0]] += 1
        slowest = max(slowest, seconds)
        if said.startswith("FOUND") or seconds > SECONDS:
            found.append((said, round(seconds, 3), data[:300].hex()))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "messages": messages, "seed": seed, "found": found, "kinds": dict(kinds.most_common()),
        "slowest_milliseconds": round(1000 * slowest, 1), "memory_grown_mib": grown >> 10,
    }  # fmt: skip


def allocated(data: bytes) -> int:
    """The most that Python had allocated at once for one message, in bytes."""
    tracemalloc.start()
    try:
        received(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main(arguments: list[str] | None = None) -> int:
    """Fuzz; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="tests.grading.fuzz_wire", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    about = summary(options.messages, options.seed)
    print(json.dumps(about, indent=1))
    if options.json:
        options.json.write_text(json.dumps(about, indent=1) + "\n")
    return 1 if about["found"] or about["memory_grown_mib"] > GROWN_MIB else 0


if __name__ == "__main__":
    sys.exit(main())
