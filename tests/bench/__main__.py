"""`make bench`: ratios on this machine, each table from one race in which the rivals take turns.

Not part of `make test`: the figures depend on the machine and on who else is using it.
"""

from math import exp, log
from statistics import median, stdev

import torch
from torch.nn.functional import linear

from lib.memory import traffic
from lib.memory.contention import Operation, race
from lib.memory.cost import Cost
from lib.memory.machine import compute_device, processor_name
from lib.memory.measure import (
    measure_device,
    operation_overhead,
    predict_and_measure,
    rotate,
    strided_read,
)
from tests.bench import attention, generation, models, objectives, training
from tests.bench.racing import mark, show

MIB = 2**20
WIDTHS = [(384, 1536), (768, 3072), (1024, 1024)]
ROWS = [1, 8, 64, 512, 2048]


def main() -> None:
    threads = torch.get_num_threads()
    print(f"{processor_name()}, {threads} threads. A time is the median of the clean samples;")
    print("one marked * had no clean sample, and is the best of all.\n")
    matrix, flops = 2**21 * 32 * 4, 2 * 1024**3
    show(
        "Sums of the 32 columns of 2,097,152 float32, by how they are stored",
        strided_read(2**21, 32),
        {"contiguous": matrix, "strided": matrix},
    )
    show(
        "Product of two 1,024 x 1,024 matrices",
        race(products(1024)),
        {"float32": flops, "bfloat16": flops},
        "GFLOP/s",
    )
    show("256 MiB", race(streams(256 * MIB)), {"read": 256 * MIB, "copy": 512 * MIB})
    show_roofline()
    attention.main()
    models.main()
    generation.main()
    objectives.main()
    training.main()


def products(size: int) -> dict[str, Operation]:
    left, right = torch.randn(2, size, size, device=compute_device())
    low_left, low_right = left.bfloat16(), right.bfloat16()
    return {"float32": lambda: left @ right, "bfloat16": lambda: low_left @ low_right}


def streams(num_bytes: int) -> dict[str, Operation]:
    source = torch.ones(num_bytes // 4, device=compute_device())
    target = torch.empty_like(source)
    return {"read": source.sum, "copy": lambda: target.copy_(source)}


def show_roofline() -> None:
    """The roofline's prediction over the measured time, for linear maps of many shapes."""
    device, overhead = measure_device(), operation_overhead()
    shapes = [(rows, *width) for width in WIDTHS for rows in ROWS]
    rivals = {"{} x {} -> {}".format(*shape): linear_map(*shape) for shape in shapes}
    print("Linear maps in float32, operands from memory: predicted over measured time")
    rows = predict_and_measure(rivals, device=device, overhead=overhead)
    for row in rows:
        time = f"{row.measured_seconds * 1e6:10.1f} us{mark(row.clean)}"
        print(f"  {row.name:22}{time} {row.ratio:8.2f}")
    ratios = [row.ratio for row in rows]
    print(f"  median {median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}, ", end="")
    print(f"geometric standard deviation {exp(stdev(map(log, ratios))):.2f}")


def linear_map(rows: int, d_in: int, d_out: int) -> tuple[Cost, Operation]:
    """The cost of a linear map, and the map on operands that no cache holds."""
    cost = traffic.linear(rows=rows, d_in=d_in, d_out=d_out, bytes_per_element=4)

    def make() -> Operation:
        inputs = torch.randn(rows, d_in, device=compute_device())
        weight = torch.randn(d_out, d_in, device=compute_device())
        return lambda: linear(inputs, weight)

    return cost, rotate(make, cost.bytes)


if __name__ == "__main__":
    main()
