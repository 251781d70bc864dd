"""The decoder under atheris, which goes on from messages that reach code no other has reached.

    pip install atheris==3.0.0
    python -m tests.grading.fuzz_guided --messages 1000000 --json guided.json

A slow run, whose package is not among the locked ones: `fuzz_wire` needs none, and CI runs that. An
exception that is none of those a message may lead to, one message of SECONDS, or memory beyond
MOST_MIB ends the run, and the message is printed.
"""

import argparse
import io
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS, MOST_MIB, LONGEST = 5, 2048, 4096
DONE = re.compile(r"^Done (\d+) runs in (\d+) second", re.MULTILINE)
COVERAGE = re.compile(r"cov: (\d+)")
LATE = "=== Timeout"  # after which atheris may go on


def main(arguments: list[str] | None = None) -> int:
    """Fuzz in a process of its own; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="tests.grading.fuzz_guided", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.corpus:
        fuzz(options.corpus, options.messages, options.seed)
    about = summary(options.messages, options.seed)
    print(json.dumps(about, indent=1))
    if options.json:
        options.json.write_text(json.dumps(about, indent=1) + "\n")
    return 1 if about["found"] else 0


def summary(messages: int, seed: int) -> dict:
    """What came of a run."""
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name, "corpus")
        corpus.mkdir()
        own = [sys.executable, "-m", "tests.grading.fuzz_guided", "--corpus", str(corpus)]
        numbers = ["--messages", str(messages), "--seed", str(seed)]
        together = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run([*own, *numbers], check=False, **together)
        ended, reached = DONE.search(done.stdout), COVERAGE.findall(done.stdout)
        well = ended and done.returncode == 0 and LATE not in done.stdout
        kept = len(list(corpus.iterdir()))
    return {
        "messages": int(ended[1]) if ended else 0, "seed": seed,
        "seconds": int(ended[2]) if ended else 0,
        "found": [] if well else done.stdout[-4000:].splitlines(),
        "reached_first": int(reached[0]) if reached else 0,
        "reached": int(reached[-1]) if reached else 0, "kept": kept,
    }  # fmt: skip


def fuzz(corpus: Path, messages: int, seed: int) -> None:
    """Run atheris in this process, which it ends."""
    import atheris

    with atheris.instrument_imports(include=["grading.wire", "grading.trusted"]):
        import grading.trusted  # noqa: F401
    from tests.grading.fuzz_wire import mutated, received, seeds

    for number, (header, buffers) in enumerate(seeds()):
        (corpus / f"seed{number}").write_bytes(packed(header, buffers))

    def one_message(data: bytes) -> None:
        received(data)

    def changed(data: bytes, most: int, number: int) -> bytes:
        """Half of the time as a message that holds together otherwise, else byte by byte."""
        draw = random.Random(number)
        if draw.random() < 0.5:
            try:
                return mutated(draw, *unpacked(data))[:most]
            except ValueError:
                pass
        return atheris.Mutate(data, most)

    limits = [f"-runs={messages}", f"-seed={seed}", f"-timeout={SECONDS}", f"-max_len={LONGEST}"]
    places = [f"-rss_limit_mb={MOST_MIB}", f"-artifact_prefix={corpus.parent}/", str(corpus)]
    atheris.Setup([sys.argv[0], *limits, *places], one_message, custom_mutator=changed)
    atheris.Fuzz()


class Tape(io.BytesIO):
    """A channel that keeps what is sent, or has it already."""

    sendall, recv_into = io.BytesIO.write, io.BytesIO.readinto


def packed(header: dict, buffers: list[bytes]) -> bytes:
    """A message as it is sent."""
    from grading import wire

    tape = Tape()
    wire.send(tape, header, buffers)
    return tape.getvalue()


def unpacked(data: bytes) -> tuple[dict, list[bytes]]:
    """The way back. Raises `ValueError` for what is no message."""
    from grading import wire

    try:
        return wire.receive(Tape(data))
    except (wire.WireError, EOFError) as error:
        raise ValueError("no message") from error


if __name__ == "__main__":
    sys.exit(main())
