"""What ranks tell each other about themselves: a few numbers each, in one gather every `EVERY` steps.

Memory, waiting and computing differ from rank to rank, and a metric of rank 0 alone hides the one that matters.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist

from parallel.device import device
from train.observe.observer import Look

EVERY = 10  # steps between two gathers
Row = Sequence[float]  # one rank's numbers


class Part(Protocol):
    """One subject that ranks tell each other about."""

    def begin(self) -> None:
        """A step begins."""

    def see(self, look: Look) -> None:
        """A step is done; the first one of a process is not seen: kernels are chosen in it, and caches filled."""

    def values(self) -> list[float]:
        """This rank's numbers since the last call, always as many."""

    def judge(self, rows: Sequence[Row], step: int) -> Mapping[str, Any]:
        """Metrics of all ranks' numbers, by rank; every rank computes the same ones."""

    def close(self) -> None:
        """There are no more steps."""


class Ranks:
    """The observer that gathers for its `parts`."""

    def __init__(self, parts: Sequence[Part], every: int = EVERY) -> None:
        self._parts, self._every, self._warm = parts, every, False

    def before(self, step: int) -> None:
        """A step begins."""
        for part in self._parts:
            part.begin()

    def after(self, look: Look) -> Mapping[str, Any]:
        """The metrics of all parts in every `every`-th step."""
        if self._warm:
            for part in self._parts:
                part.see(look)
        self._warm = True
        return self._told(look.step) if look.step % self._every == 0 else {}

    def close(self) -> None:
        """There are no more steps."""
        for part in self._parts:
            part.close()

    def _told(self, step: int) -> Mapping[str, Any]:
        told = [part.values() for part in self._parts]
        rows = gathered([value for values in told for value in values])
        found: dict[str, Any] = {}
        begin = 0
        for part, values in zip(self._parts, told):
            found |= part.judge([row[begin : begin + len(values)] for row in rows], step)
            begin += len(values)
        return found


def gathered(values: Sequence[float]) -> list[list[float]]:
    """Every rank's `values`, by rank. All ranks call it with equally many."""
    own = torch.tensor(values, dtype=torch.float64, device=device())
    world = dist.get_world_size()
    if world == 1:
        return [list(values)]
    everyone = torch.empty(world * len(values), dtype=torch.float64, device=own.device)
    dist.all_gather_into_tensor(everyone, own)
    return everyone.view(world, len(values)).tolist()
