"""The progress of a run on a line of its own: how far, the loss, the rate, the time left."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lib.training.loss_curve import StepRecord

WIDTH = 20


@dataclass
class ProgressLine:
    """Called after every step; writes its line anew, at most once in `every_seconds`.

    The time left is the steps left at the rate since the first call. `clock` and `write` can be
    replaced; the line goes to standard error, so that results can be piped.
    """

    every_seconds: float = 0.5
    clock: Callable[[], float] = time.monotonic
    write: Callable[[str], object] = lambda text: print(text, end="", file=sys.stderr, flush=True)
    _first: tuple[int, float] | None = field(default=None, init=False)
    _shown: float = field(default=float("-inf"), init=False)

    def __call__(self, record: StepRecord, steps: int) -> None:
        """Show this step, of `steps` in all, if it is time to, and the last one always."""
        now, done = self.clock(), record.step
        if self._first is None:
            self._first = (done, now)
        if done < steps and now - self._shown < self.every_seconds:
            return
        self._shown = now
        before, began = self._first
        rate = (done - before) / (now - began) if now > began else 0.0
        end = "\n" if done >= steps else ""
        self.write(f"\r{progress_line(record, steps, rate):<100}{end}")


def progress_line(record: StepRecord, steps: int, rate: float) -> str:
    """`step 30/100 [######..............] loss 2.310, lr 3.0e-04, 12.5 steps/s, 0:06 left`.

    `rate` is in steps a second, and 0 while it is unknown.
    """
    filled = WIDTH * record.step // steps
    bar = "#" * filled + "." * (WIDTH - filled)
    parts = [f"loss {record.loss:.3f}", f"lr {record.learning_rate:.1e}"]
    if rate > 0:
        left = round((steps - record.step) / rate)
        hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
        clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        parts += [f"{rate:.3g} steps/s", f"{clock} left"]
    return f"step {record.step:,}/{steps:,} [{bar}] {', '.join(parts)}"
