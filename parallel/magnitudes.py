"""How large gradients, updates and weights are, by group of parameters: sums of squares of one step of the optimizer, in which each
number of the model counts once, whatever the layout and the ZeRO stage.

They are taken where gradients are whole and reduced and about to be used: in hooks around the optimizer's own step, which
DeepSpeed calls with the flat parts of a rank. What they cost beside a pass or two over those is a copy of the parts that are
being stepped, when activations are gone.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from parallel import deepspeed_compat
from parallel.device import device
from parallel.optimizer import FusedOptimizer

GRADIENT, UPDATE, WEIGHT = range(3)  # columns of what `close` gives
_ROW = 512  # numbers that are added up in fp32; their sums are in fp64: exact to 1e-9, at the speed of memory


def can_measure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether there is a step with all gradients: not where weights are stepped in the backward."""
    return not isinstance(optimizer, FusedOptimizer)


class Magnitudes:
    """`open` before a step, `close` after it."""

    def __init__(self, optimizer: torch.optim.Optimizer, groups: Mapping[torch.nn.Parameter, int], count: int) -> None:
        """groups: of each trained parameter on this rank its group, below `count`. optimizer: of the engine that has them."""
        self._optimizer, self._groups = optimizer, groups
        self._sums = torch.zeros(count, 3, dtype=torch.float64, device=device())
        self._hooks: list[Any] = []
        self._parts: list[tuple[torch.Tensor, int]] = []  # of the flat parts: stretches that count here, and their groups
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []  # flat parts that are being stepped, as they are and were

    def open(self) -> None:
        """The optimizer's next step is measured."""
        self.drop()
        self._sums.zero_()
        self._parts = self._stretches()
        self._hooks = [
            self._optimizer.register_step_pre_hook(self._begin),
            self._optimizer.register_step_post_hook(self._end),
        ]

    def close(self) -> torch.Tensor:
        """fp64 [groups, 3], sums of squares over all ranks: gradients as they were stepped with, which is after clipping, updates,
        and weights before them. Zeros where no step was made. All ranks call it.
        """
        self.drop()
        dist.all_reduce(self._sums)
        return self._sums

    def drop(self) -> None:
        """Measures no more."""
        while self._hooks:
            self._hooks.pop().remove()
        self._parts, self._before = [], []

    def _stretches(self) -> list[tuple[torch.Tensor, int]]:
        """Neighbours of one group together: a model has hundreds of parameters."""
        found: list[tuple[torch.Tensor, int]] = []
        for param, group in self._groups.items():
            own = deepspeed_compat.fragment(param, None)[0].detach()
            if not own.numel() or not deepspeed_compat.counts_here(param):
                continue
            last, last_group = found[-1] if found else (own, -1)
            if group == last_group and last.data_ptr() + last.nbytes == own.data_ptr() and _one_memory(last, own):
                found[-1] = (last.as_strided((last.numel() + own.numel(),), (1,)), group)
            else:
                found.append((own, group))
        return found

    @torch.no_grad()
    def _begin(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        flats = [flat for group in optimizer.param_groups for flat in group["params"] if flat.grad is not None]
        self._before = [(flat, flat.detach().clone()) for flat in flats]
        for flat, before in self._before:
            self._add(GRADIENT, flat, flat.grad)
            self._add(WEIGHT, flat, before)

    @torch.no_grad()
    def _end(self, *_: Any) -> None:
        for flat, before in self._before:
            self._add(UPDATE, flat, before.sub_(flat))
        self._before = []

    def _add(self, column: int, flat: torch.Tensor, values: torch.Tensor) -> None:
        """values: of the same places as `flat`, one for each of its numbers."""
        first, found, groups = flat.data_ptr(), [], []
        for stretch, group in self._parts:
            at = (stretch.data_ptr() - first) // flat.element_size()
            if _one_memory(stretch, flat) and 0 <= at < flat.numel():
                found.append(squares(values.narrow(0, at, stretch.numel())))
                groups.append(group)
        if found:
            places = torch.tensor(groups, device=self._sums.device)
            self._sums[:, column].index_add_(0, places, torch.stack(found).to(self._sums.device))


def squares(values: torch.Tensor) -> torch.Tensor:
    """fp64: the sum of the squares of a flat tensor. torch's own norm of a long one in fp32 is wrong by 1e-3 on a CPU."""
    whole = values.numel() // _ROW * _ROW
    rows = torch.linalg.vector_norm(values[:whole].view(-1, _ROW), dim=1)
    rest = torch.linalg.vector_norm(values[whole:])
    return rows.double().square().sum() + rest.double().square()


def _one_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
