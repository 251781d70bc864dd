"""Run a notebook from top to bottom in a new kernel, repeatably."""

import copy
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from tools import notebooks
from tools.notebooks import NotebookError, shown

# So that a notebook prints the same wherever it runs.
ENVIRONMENT = {
    "BOOK_STATIC": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "COLUMNS": "100",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}

CELL_TIMEOUT_SECONDS = 300
TIME_GOAL_SECONDS = 60
IGNORED = "nbval-ignore-output"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

Timings = Literal["stale", "all", "none"]


@dataclass(frozen=True)
class Run:
    """An executed notebook, the seconds it took, and the kernel's peak memory in bytes."""

    notebook: NotebookNode
    seconds: float
    peak_bytes: int | None

    def __str__(self) -> str:
        late = "" if self.seconds <= TIME_GOAL_SECONDS else f" (over {TIME_GOAL_SECONDS} s)"
        memory = "" if self.peak_bytes is None else f", peak {self.peak_bytes / 1e6:.0f} MB"
        return f"{len(self.notebook.cells)} cells, {self.seconds:.1f} s{late}{memory}"


class ThisPython(KernelSpecManager):
    """Every notebook runs under this interpreter, whatever kernels the user has installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def run(
    path: Path,
    timings: Timings = "stale",
    progress: Callable[[int, int], None] = lambda cell, cells: None,
) -> Run:
    """Execute a notebook file; the file itself is not changed.

    `timings` says which cells with ignored outputs get new ones: those whose source has changed
    since ("stale"), "all" or "none". `progress` is called with the number of each cell and of all.
    Raises NotebookError, naming file and cell, when a cell fails, hangs or shows a live widget.
    """
    notebook = notebooks.read(path)
    kept = {cell.id: copy.deepcopy(cell.outputs) for cell in _kept_timings(notebook, timings)}
    manager = AsyncKernelManager(kernel_spec_manager=ThisPython())
    client = NotebookClient(
        notebook,
        km=manager,
        resources={"metadata": {"path": str(path.absolute().parent)}},
        timeout=CELL_TIMEOUT_SECONDS,
        record_timing=False,
        shutdown_kernel="immediate",
        extra_arguments=["--log-level=ERROR"],
    )
    started = time.perf_counter()
    with client.setup_kernel(env=environment(), cleanup_kc=True):
        for number, cell in enumerate(notebook.cells, start=1):
            progress(number, len(notebook.cells))
            _run_cell(client, path, number, cell)
        peak = peak_memory(manager.provisioner.pid)
    seconds = time.perf_counter() - started
    for cell in filter(is_ignored, notebook.cells):
        if cell.id in kept:
            cell.outputs = kept[cell.id]
        else:
            cell.metadata["measured"] = fingerprint(cell.source)
    _refuse_widgets(notebook, path)
    return Run(notebooks.normalise(notebook), seconds, peak)


def environment() -> dict[str, str]:
    """What a chapter's kernel finds in its environment, under nbval too."""
    inherited = {**os.environ, **ENVIRONMENT}
    # With this set, ipykernel leaves out what C code and child processes print.
    inherited.pop("PYTEST_CURRENT_TEST", None)
    return inherited


def _run_cell(client: NotebookClient, path: Path, number: int, cell: NotebookNode) -> None:
    if cell.cell_type != "code":
        return
    cell.outputs, cell.execution_count = [], None
    where = f"{shown(path)}: cell {number}"
    try:
        client.execute_cell(cell, number - 1, execution_count=client.code_cells_executed + 1)
    except CellExecutionError as error:
        raise NotebookError(f"{where} failed\n{error}") from None
    except CellTimeoutError:
        late = f"ran for more than {CELL_TIMEOUT_SECONDS} s"
        raise NotebookError(f"{where} {late}:\n{cell.source}") from None
    except DeadKernelError:
        dead = "ended the kernel (out of memory, or a crash in compiled code)"
        raise NotebookError(f"{where} {dead}:\n{cell.source}") from None


def peak_memory(pid: int) -> int | None:
    """Peak resident bytes of a running process; None where the system does not tell (not Linux).

    Not `getrusage`: its figure survives exec, so a kernel would inherit its parent's peak.
    """
    status = Path(f"/proc/{pid}/status")
    found = status.exists() and re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    return int(found[1]) * 1024 if found else None


def is_ignored(cell: NotebookNode) -> bool:
    """Whether a cell's output holds timings, which nobody compares."""
    return cell.cell_type == "code" and IGNORED in cell.metadata.get("tags", [])


def fingerprint(source: str) -> str:
    """Tells which source an ignored output was measured with."""
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def _kept_timings(notebook: NotebookNode, timings: Timings) -> Iterator[NotebookNode]:
    for cell in filter(is_ignored, notebook.cells):
        current = cell.outputs and cell.metadata.get("measured") == fingerprint(cell.source)
        if timings == "none" or (timings == "stale" and current):
            yield cell


def _refuse_widgets(notebook: NotebookNode, path: Path) -> None:
    for number, cell in enumerate(notebook.cells, start=1):
        if any(WIDGET_VIEW in output.get("data", {}) for output in cell.get("outputs", [])):
            message = "shows a live widget, which is blank on the site: use lib.show.explore"
            raise NotebookError(f"{shown(path)}: cell {number} {message}")
