"""`python -m tests.bench.attention`: attention in tiles, in windows and in linear time.

Each table is one race in which the rivals take turns. Speeds are in GFLOP/s of the products that
the exact form needs; memory is what a process of its own held at most beyond q, k, v.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention

from lib import masks
from lib.attention import dot_product
from lib.attention.linear import causal_linear_attention, elu_plus_one
from lib.attention.local import local_attention
from lib.attention.tiled import tiled_attention
from lib.memory.contention import race
from tests.bench.racing import show

HEADS, HEAD_DIM, WINDOW = 4, 64, 256
MIB = 2**20
ROOT = Path(__file__).parents[2]


def operands(seq_len: int) -> tuple[torch.Tensor, ...]:
    return torch.randn(3, 1, HEADS, seq_len, HEAD_DIM).unbind()


def explicit(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """All scores in memory."""
    return dot_product.scaled_dot_product_attention(q, k, v, masks.causal(q.shape[-2]))


def fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return scaled_dot_product_attention(q, k, v, is_causal=True)


def tiled(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return tiled_attention(q, k, v, is_causal=True)


def linear(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return causal_linear_attention(elu_plus_one(q), elu_plus_one(k), v)


def window(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return local_attention(q, k, v, window=WINDOW)


KINDS: dict[str, Callable[..., torch.Tensor]] = {
    "explicit": explicit,
    "fused": fused,
    "tiled": tiled,
    "linear": linear,
    "window": window,
}


def compare(title: str, seq_len: int, rivals: dict[str, Callable[..., torch.Tensor]]) -> None:
    q, k, v = operands(seq_len)
    runs = {name: lambda kind=kind: kind(q, k, v) for name, kind in rivals.items()}
    flops = 4 * HEADS * HEAD_DIM * seq_len * (seq_len + 1) // 2
    show(f"{title}, {seq_len:,} tokens", race(runs), dict.fromkeys(rivals, flops), "GFLOP/s")


def masked_window(seq_len: int) -> Callable[..., torch.Tensor]:
    mask = masks.sliding_window(seq_len, window=WINDOW)
    return lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=mask)


def extra_memory(name: str, seq_len: int) -> int:
    """Bytes at the peak of one call, in a new process."""
    command = [sys.executable, "-m", "tests.bench.attention", "--memory", name, str(seq_len)]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def measure_memory(name: str, seq_len: int) -> int:
    """How far this process's resident memory rises during one call (Linux)."""
    q, k, v = operands(seq_len)
    KINDS[name](*operands(512))
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    KINDS[name](q, k, v)
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def main() -> None:
    print(f"Causal attention in float32, {HEADS} heads of {HEAD_DIM}")
    compare("All keys", 2048, {"fused": fused, "tiled": tiled, "explicit": explicit})
    for seq_len in (8192, 16384):
        compare("All keys", seq_len, {"fused": fused, "tiled": tiled})
    long = 16384
    compare("Linear", long, {"fused": fused, "linear": linear})
    compare(f"Window of {WINDOW}", long, {"masked": masked_window(long), "window": window})
    print(f"Memory at its peak beyond q, k and v, {long:,} tokens")
    peaks = {name: extra_memory(name, long) for name in ("explicit", "fused", "tiled")}
    for name, peak in peaks.items():
        print(f"  {name:12}{peak / MIB:10,.1f} MiB {peak / peaks['explicit']:10.5f} of explicit")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print(measure_memory(sys.argv[2], int(sys.argv[3])))
    else:
        main()
