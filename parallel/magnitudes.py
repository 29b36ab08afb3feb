"""How large gradients, updates and weights are, by group of parameters: sums of squares of one step of the optimizer, in which each
number of the model counts once, whatever the layout and the ZeRO stage.

They are taken where gradients are whole and reduced and about to be used: in hooks around the optimizer's own step, which
DeepSpeed calls with the flat parts of a rank. What they cost beside a pass or two over those is a copy of the parts that are
being stepped, when activations are gone.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from parallel import deepspeed_compat
from parallel.device import device
from parallel.optimizer import FusedOptimizer

GRADIENT, UPDATE, WEIGHT = range(3)  # columns of what `close` gives
_ROW = 512  # numbers that are added up in fp32, and their sums in fp64: exact to 1e-9, at the speed of memory


def can_measure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether there is a step with all gradients: not where weights are stepped in the backward."""
    return not isinstance(optimizer, FusedOptimizer)


class Magnitudes:
    """`open` before a step, `close` after it."""

    def __init__(self, optimizer: torch.optim.Optimizer, groups: Mapping[torch.nn.Parameter, int], count: int) -> None:
        """groups: of each trained parameter on this rank its group, below `count`. optimizer: of the engine that has them."""
        self._optimizer, self._groups, self._count = optimizer, groups, count
        self._sums = torch.zeros(count, 3, dtype=torch.float64, device=device())
        self._hooks: list[Any] = []
        self._parts: dict[int, _Parts] = {}  # of each flat part, by where it lies
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []  # flat parts that are being stepped, as they are and were

    def open(self) -> None:
        """The optimizer's next step is measured."""
        self.drop()
        self._sums.zero_()
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
        self._before = []

    @torch.no_grad()
    def _begin(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for flat in (flat for group in optimizer.param_groups for flat in group["params"] if flat.grad is not None):
            before = flat.detach().clone()
            self._add(GRADIENT, flat, flat.grad)
            self._add(WEIGHT, flat, before)
            self._before.append((flat, before))

    @torch.no_grad()
    def _end(self, *_: Any) -> None:
        for flat, before in self._before:
            self._add(UPDATE, flat, before.sub_(flat))
        self._before = []

    def _add(self, column: int, flat: torch.Tensor, values: torch.Tensor) -> None:
        """values: one for each number of `flat`, in the same place."""
        if flat.data_ptr() not in self._parts:
            self._parts[flat.data_ptr()] = _parts_of(flat, self._groups.items(), self._count)
        found = sums_of_squares(values, self._parts[flat.data_ptr()], self._count)
        self._sums[:, column] += found.to(self._sums.device)


class _Parts(NamedTuple):
    """Which group the numbers of a flat part are of, `count` for none that counts here.

    rows: int64 [N // _ROW], of each row of them. edges, groups: int64 [E], those of rows that belong to several, one by one.
    """

    rows: torch.Tensor
    edges: torch.Tensor
    groups: torch.Tensor


def _parts_of(flat: torch.Tensor, params: Iterable[tuple[torch.nn.Parameter, int]], count: int) -> _Parts:
    rows, edges, groups = torch.full((flat.numel() // _ROW,), count), [torch.arange(0)], [torch.arange(0)]
    for param, group in params:
        own = deepspeed_compat.fragment(param, None)[0]
        start = (own.data_ptr() - flat.data_ptr()) // flat.element_size()
        if not own.numel() or not _one_memory(own, flat) or not 0 <= start < flat.numel():
            continue
        if not deepspeed_compat.counts_here(param):
            continue
        stop = start + own.numel()
        first, last = -(-start // _ROW), stop // _ROW  # its whole rows
        rows[first:last] = group
        ends = ((start, first * _ROW), (last * _ROW, stop)) if first < last else ((start, stop),)
        edges += [torch.arange(low, high) for low, high in ends]
        groups += [torch.full((high - low,), group) for low, high in ends]
    return _Parts(*(part.to(flat.device) for part in (rows, torch.cat(edges), torch.cat(groups))))


def sums_of_squares(values: torch.Tensor, parts: _Parts, count: int) -> torch.Tensor:
    """fp64 [count]: of each group. torch's own norm of many numbers in fp32 is wrong by 1e-3 on a CPU."""
    sums = torch.zeros(count + 1, dtype=torch.float64, device=values.device)
    rows = torch.linalg.vector_norm(values[: len(parts.rows) * _ROW].view(-1, _ROW), dim=1)
    sums.index_add_(0, parts.rows, rows.double().square_())
    sums.index_add_(0, parts.groups, values[parts.edges].double().square_())
    return sums[:count]


def _one_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
