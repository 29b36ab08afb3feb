"""Rules that keep something of whole matrices, where AdamW keeps two numbers a weight."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch

from parallel.optimizer import EngineOptimizer
from parallel.pieces import Piece
from parallel.whole import Wholes


class KeepsOfWholes(EngineOptimizer):
    """Its states, of zero at the beginning, for every tensor that lies in the flat parts, and in the checkpoint."""

    looks_at_wholes = True

    def __init__(self, groups: list[dict[str, Any]], defaults: dict[str, Any]) -> None:
        super().__init__(groups, defaults)
        self._wholes = Wholes(iter(()))
        self._kept: dict[str, dict[str, torch.Tensor]] = {}
        self._pieces: list[Piece] = []

    @abstractmethod
    def shapes(self, shape: torch.Size) -> dict[str, tuple[int, ...]]:
        """Name and shape of what is kept of a tensor of `shape`."""

    def create_states(self) -> None:
        """The count."""
        for group in self.param_groups:
            for flat in group["params"]:
                self.state[flat]["step"] = torch.tensor(0.0)

    def bind(self, wholes: Wholes) -> None:
        """Zeros for every tensor that lies in the flat parts."""
        self._wholes = wholes
        for flat in [flat for group in self.param_groups for flat in group["params"]]:
            for whole in wholes.of(flat):
                kept = {
                    name: flat.new_zeros(shape) for name, shape in self.shapes(whole.tensor_shape).items()
                }
                self._kept[whole.name] = kept
                self._pieces += [
                    whole.state_piece(f"optimizer.{name}.", value) for name, value in kept.items()
                ]

    def whole_states(self) -> Iterator[Piece]:
        """What is kept."""
        return iter(self._pieces)
