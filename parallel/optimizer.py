"""What an optimizer may tell the engine beside torch's own interface.

DeepSpeed gives an optimizer a flat part of each parameter group, a data rank's share. Rules that treat every weight by
itself need no more than that, and torch's own optimizers are taken as they are. This class is for the others: those that
look at whole matrices, keep states of another shape than the weights, or train other weights than they are read with.
"""

from collections.abc import Iterator
from typing import Any

import torch

from parallel.pieces import Piece
from parallel.whole import Wholes


class EngineOptimizer(torch.optim.Optimizer):
    """An optimizer that knows it works on flat parts. Every method has an answer for the rules that need nothing."""

    label = ""  # the rule's name: a checkpoint of another one is refused
    looks_at_wholes = False  # it is given `Wholes` before its first step
    keeps_rank_states = False  # `rank_states` gives some: a checkpoint is of one layout
    averages = False  # what it steps and what is read in evaluation are two things: see `average`

    def create_states(self) -> None:
        """Makes all states exist, as they are before the first step, for the flat parts in `param_groups`."""
        raise NotImplementedError

    def bind(self, wholes: Wholes) -> None:
        """Hands over the way from flat parts to whole tensors, once, after `create_states`."""

    def whole_states(self) -> Iterator[Piece]:
        """What is kept of a whole tensor and not of each weight, as pieces of a checkpoint (`Whole.state_piece`)."""
        return iter(())

    def rank_states(self) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, tensor) of what means something only on this rank in this layout."""
        return iter(())

    def counters(self) -> list[dict[str, float]]:
        """Numbers of each parameter group that change from step to step, beside the count of updates."""
        return []

    def set_counters(self, counters: list[dict[str, float]]) -> None:
        """The reverse of `counters`."""

    def average(self, stepped: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The weights that are read in evaluation and stored, from those that are stepped and their state `z`."""
        raise NotImplementedError


class FusedOptimizer(EngineOptimizer):
    """One that steps each weight as soon as its gradient is there, in the backward (`parallel.fused`), and keeps no states."""

    def create_states(self) -> None:
        """There are none."""

    def update(self, param: torch.nn.Parameter, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        """Steps one weight in place. gradient: fp32, of the whole global batch."""
        raise NotImplementedError


def create_states(optimizer: torch.optim.Optimizer) -> None:
    """Makes an optimizer's states exist before its first step. Learning rates, decays and gradients must be zero: a step
    then creates torch's own without moving a weight, and its count is taken back.
    """
    if isinstance(optimizer, EngineOptimizer):
        optimizer.create_states()
        return
    optimizer.step()
    for group in optimizer.param_groups:
        for flat in group["params"]:
            if "step" in optimizer.state[flat]:
                optimizer.state[flat]["step"].zero_()


class Split(EngineOptimizer):
    """Two optimizers as one: each takes the parameter groups that are its own and steps them by its own rule."""

    def __init__(self, label: str, children: list[torch.optim.Optimizer]) -> None:
        """The children have their groups; their settings and states stay one with this optimizer's."""
        self.children, self.label = children, label
        super().__init__([group for child in children for group in child.param_groups], {})
        for number, child in enumerate(children):
            child.state = self.state
            for group in child.param_groups:
                group["child"] = number

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Steps the groups that are here: DeepSpeed puts one at a time into `param_groups`."""
        for child in self._having_groups():
            child.step()

    def create_states(self) -> None:
        """Of both."""
        for child in self._having_groups():
            create_states(child)

    @property
    def looks_at_wholes(self) -> bool:  # type: ignore[override]
        """Whether one of them does."""
        return any(getattr(child, "looks_at_wholes", False) for child in self.children)

    def bind(self, wholes: Wholes) -> None:
        """Handed on."""
        for child in self._having_groups():
            if isinstance(child, EngineOptimizer):
                child.bind(wholes)

    def whole_states(self) -> Iterator[Piece]:
        """Of both."""
        for child in self.children:
            if isinstance(child, EngineOptimizer):
                yield from child.whole_states()

    def _having_groups(self) -> Iterator[torch.optim.Optimizer]:
        for number, child in enumerate(self.children):
            child.param_groups = [group for group in self.param_groups if group["child"] == number]
            if child.param_groups:
                yield child
