"""Batches without end, which know where they stand: what it takes to resume bit for bit."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch


class BatchStream:
    """Pass after pass over the data, each made by `make_pass(generator)`.

    All that is random in a pass (order, masks, noise) has to be drawn from that generator. Then its
    state at the beginning of the pass and the number of batches since are enough to come back to
    the same place: the pass is made again, and the batches before it are thrown away.

    Raises `ValueError` for a pass without batches.
    """

    def __init__(
        self, make_pass: Callable[[torch.Generator], Iterable[Any]], generator: torch.Generator
    ) -> None:
        self.make_pass, self.generator = make_pass, generator
        self._begin()

    def _begin(self) -> None:
        self._start, self.taken = self.generator.get_state(), 0
        self._batches = iter(self.make_pass(self.generator))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        for batch in self._batches:
            self.taken += 1
            return batch
        if self.taken == 0:
            raise ValueError("a pass over the data must give at least one batch, got none")
        self._begin()
        return next(self)

    def state_dict(self) -> dict[str, Any]:
        """The place in the stream: which pass, and how many of its batches have been taken."""
        return {"start": self._start.clone(), "taken": self.taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Return to a place that `state_dict` gave. Raises `ValueError` if there is none such."""
        self.generator.set_state(state["start"])
        self._begin()
        for batch_number in range(state["taken"]):
            if next(self._batches, None) is None:
                raise ValueError(
                    f"a pass over this data ends after {batch_number} batches, "
                    f"but {state['taken']} had been taken: the data have changed"
                )
            self.taken += 1
