"""Optimizers that step other weights than those that are read in evaluation and stored (schedule-free ones)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from parallel import deepspeed_compat
from parallel.optimizer import EngineOptimizer


class Average:
    """Puts the stored weights into the module for a while, or for good; does nothing where they are the stepped ones."""

    def __init__(self, engine: Any, optimizer: torch.optim.Optimizer, told: Callable[[], None]) -> None:
        """`engine`: DeepSpeed's. told: called when the module has got other weights."""
        self._engine, self._told, self._is_shown = engine, told, False
        self._optimizer = optimizer if isinstance(optimizer, EngineOptimizer) and optimizer.averages else None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The module has the stored weights inside; then the stepped ones, to the last bit. All ranks call it."""
        if self._is_shown or self._optimizer is None:
            yield
            return
        kept, self._is_shown = [flat.detach().clone() for flat in self._flats()], True
        self.keep()
        try:
            yield
        finally:
            self._put(kept)
            self._is_shown = False

    @torch.no_grad()
    def keep(self) -> None:
        """The module has the stored weights from now on."""
        if self._optimizer is not None:
            state, average = self._optimizer.state, self._optimizer.average
            self._put([average(flat, state[flat]["z"]) for flat in self._flats()])

    def _flats(self) -> list[torch.Tensor]:
        assert self._optimizer is not None
        return [flat for flats in deepspeed_compat.partitions_of(self._engine, self._optimizer) for flat in flats]

    @torch.no_grad()
    def _put(self, values: list[torch.Tensor]) -> None:
        for flat, value in zip(self._flats(), values):
            flat.copy_(value)
        deepspeed_compat.refresh(self._engine)
        self._told()
