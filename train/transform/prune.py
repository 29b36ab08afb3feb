"""Weights that are held at zero: a mask between the stored weight and the used one. What it hides gets no gradient.

Of each output's weights those with the lowest scores go: the magnitude |w|, or Wanda's |w| ‖x‖ (arXiv 2306.11695), with the
norm of what that weight was multiplied with, over the positions of some micro-batches; of experts, over those that came to
each. Pattern "2:4": of any four neighbouring inputs the two lowest (what sparse tensor cores multiply).

A row is complete before its lowest scores are looked for: where tensor ranks share out the inputs, they gather the scores.
Which weights went is part of a checkpoint; a run that goes on has its mask from there.

Shapes: the axes of a weight's matrix ("outputs", "inputs"), and for experts one more axis before.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from parallel.device import device
from parallel.layers import Site, WeightTransform, transforms_in
from parallel.pipeline import StageOutput, forward_only

PATTERN = "2:4"


class Mask(WeightTransform):
    """Holds a part of one weight at zero."""

    def __init__(self, site: Site, sparsity: float, pattern: str = "free") -> None:
        """Everything stays until `choose`. sparsity: share of each output's weights that goes, where the pattern is free."""
        super().__init__()
        self.site, self.sparsity, self.pattern = site, sparsity, pattern
        matrix = site.matrix(site.weight)
        self.kept: torch.Tensor
        self.register_buffer("kept", torch.ones(matrix.shape, dtype=torch.bool, device=matrix.device))
        self.axes = {"kept": ("outputs", "inputs")}
        self._squares: torch.Tensor | None = None  # [inputs], of what the weight was multiplied with

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight with zeros."""
        return self.site.like_weight(self.site.matrix(weight) * self.kept)

    @property
    def looks_at_inputs(self) -> bool:  # type: ignore[override]
        """While it collects norms."""
        return self._squares is not None

    @torch.no_grad()
    def inputs(self, x: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """As it is; its squares are added up while the mask collects."""
        if self._squares is None:
            return x
        squares = x.flatten(0, -2).float().square()
        if counts is None:
            self._squares += squares.sum(0)
        else:
            experts = torch.repeat_interleave(torch.arange(len(counts), device=x.device), counts)
            self._squares.index_add_(0, experts, squares)
        return x

    def collect(self) -> None:
        """From now on looks at what the weight is multiplied with."""
        shape = self.kept.shape
        self._squares = torch.zeros(*shape[:-2], shape[-1], device=self.kept.device)

    @torch.no_grad()
    def settle(self) -> None:
        """Chooses by what was collected on all data ranks. All ranks call it."""
        assert self._squares is not None
        squares, self._squares = self._squares, None
        if self.site.kind == "experts":
            dist.all_reduce(squares, group=self.site.owner.replica_group)
        else:
            dist.all_reduce(squares, group=parallel_state.get_data_parallel_group())
            if self.site.sequence:
                dist.all_reduce(squares, group=parallel_state.get_tensor_model_parallel_group())
        self.choose(squares.sqrt())

    @torch.no_grad()
    def choose(self, norms: torch.Tensor | None = None) -> None:
        """Takes away the lowest of |w|, or of |w| ‖x‖ with `norms` [inputs], of the weight as it is before the mask."""
        scores = self.site.matrix(self._weight()).abs().float()
        if norms is not None:
            scores = scores * norms.unsqueeze(-2)
        whole = self.site.of_all_inputs(scores)
        self.kept.copy_(self.site.own_inputs(highest(whole, self.sparsity, self.pattern)))

    def _weight(self) -> torch.Tensor:
        """What the mask is applied to: the chain up to it."""
        weight: torch.Tensor = self.site.weight
        chain = self.site.owner.chain(self.site.parameter)
        for link in chain.links().values() if chain is not None else ():
            if link is self:
                break
            weight = link(weight)
        return weight


def highest(scores: torch.Tensor, sparsity: float, pattern: str) -> torch.Tensor:
    """Which of each row stay, as bool; of equal scores the later ones."""
    rows = scores.unflatten(-1, (-1, 4)) if pattern == PATTERN else scores
    lost = 2 if pattern == PATTERN else round(sparsity * scores.shape[-1])
    lowest = rows.argsort(dim=-1, stable=True)[..., :lost]
    return torch.ones_like(rows, dtype=torch.bool).scatter_(-1, lowest, False).view(scores.shape)


def masks_in(model: torch.nn.Module) -> list[Mask]:
    """Every mask of this rank's part of the model."""
    return [found for found in transforms_in(model) if isinstance(found, Mask)]


def settle(model: torch.nn.Module, batches: Sequence[Any]) -> None:
    """Makes Wanda's masks from this data rank's micro-batches: as they are read, padding among them. All ranks call it, with
    equally many, before an engine has the model.
    """
    masks = masks_in(model)
    for mask in masks:
        mask.collect()

    def read(piece: torch.nn.Module, batch: Any) -> StageOutput:
        output = piece(batch)
        nothing = torch.zeros((), dtype=torch.float64, device=device())
        return StageOutput(output.hidden, nothing, {"read": nothing})

    forward_only(model, [batch.to(device()) for batch in batches], read)
    for mask in masks:
        mask.settle()
