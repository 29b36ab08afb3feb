"""The output layer with its loss: cross-entropy at the positions that carry a label, without the logits of all positions;
beside it, where there is a teacher, the divergence from its predictions.

Logits are the largest tensor of a step. Here they exist for one block of labelled positions at a time: a block's gradients
are made together with its loss, before the next block, and wait for backward, which only scales them.

Shapes: N labelled positions, D width, T vocabulary of this tensor-parallel rank.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from megatron.core.tensor_parallel import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
)

from parallel import cpu_settings
from parallel.layers.divergence import Teaching
from parallel.layers.linear import TransformableColumn

NO_LABEL = -100
_BLOCK = 2**25  # logits
_TAUGHT = 4  # times as many tensors of their size exist beside those of a teacher
_FEWEST, _MOST = 64, 4096  # positions in a block, but for the last few


@dataclass(frozen=True)
class Asked:
    """What is wanted of the positions that `labels` [B, L] mark: their loss, with a teacher's part in it or without; the
    `rows` that the output matrix multiplies there; and the cross-entropy of `each`.
    """

    labels: torch.Tensor
    loss: bool = True
    teaching: Teaching | None = None
    rows: bool = False
    each: bool = False


class Labelled(NamedTuple):
    """What `Asked` asks for. loss: scalar, with its gradient: the summed cross-entropy, or `Teaching`'s mixture. nats, divergence:
    the two sums of which it consists. rows: [N, D] in the order of the rows of labels, whole and the same on every tensor rank,
    which all must make the same loss of them. each: fp32 [B, L], of every position the nats that add up to `nats`, without a
    gradient; 0 where there is no label.
    """

    loss: torch.Tensor | None = None
    nats: torch.Tensor | None = None
    divergence: torch.Tensor | None = None
    rows: torch.Tensor | None = None
    each: torch.Tensor | None = None


class OutputLayer(TransformableColumn):
    """megatron-core's output layer; with `labels` it returns the summed loss in the place of the logits."""

    def forward(
        self,
        input_: torch.Tensor,
        weight: torch.Tensor | None = None,
        runtime_gather_output: bool | None = None,
        labels: torch.Tensor | Asked | None = None,
    ) -> tuple[torch.Tensor | Labelled, None]:
        """[L, B, D] (this rank's positions under sequence parallelism) -> logits [L, B, T]; or with labels [B, L], -100
        for none, their summed cross-entropy in nats, a scalar in fp32; or whatever else is `Asked`.
        """
        if labels is None:
            return super().forward(input_, weight, runtime_gather_output)
        weight = self.used() if weight is None else weight
        if isinstance(labels, Asked):
            return self._answer(input_, weight, labels), None
        return self._losses(input_, weight, labels, None)[0], None

    def _answer(self, input_: torch.Tensor, weight: torch.Tensor, asked: Asked) -> Labelled:
        rows = None
        if asked.rows:
            whole = input_
            if self.sequence_parallel:  # every rank makes the same of all positions, so each takes its part of the gradient
                whole = gather_from_sequence_parallel_region(input_, tensor_parallel_output_grad=False)
            rows = whole.flatten(0, 1).index_select(0, _in_order_of_rows(asked.labels))
        if not asked.loss:
            return Labelled(rows=rows)
        loss, sums, each_N, places_N = self._losses(input_, weight, asked.labels, asked.teaching)
        each = _put_back(each_N, places_N, asked.labels) if asked.each else None
        return Labelled(loss, sums[0], sums[1], rows, each)

    def _losses(
        self, input_: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, teaching: Teaching | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """What `_SummedLosses` gives, and the places in [L, B] of its rows."""
        if self.sequence_parallel:
            input_ = gather_from_sequence_parallel_region(input_, tensor_parallel_output_grad=True)
        elif self.tp_group.size() > 1:
            input_ = copy_to_tensor_model_parallel_region(input_)
        labels_LB = labels.t().flatten()
        places_N = (labels_LB != NO_LABEL).nonzero()[:, 0] if teaching is None else _in_order_of_rows(labels)
        rows_ND = input_.flatten(0, 1).index_select(0, places_N)
        learning = torch.is_grad_enabled()
        found = _SummedLosses.apply(rows_ND, weight, labels_LB[places_N], self.tp_group, learning, teaching)
        return *found, places_N


def _in_order_of_rows(labels: torch.Tensor) -> torch.Tensor:
    """Of labels [B, L] the labelled places in [L, B], row by row: the order in which any other layout of the same samples has
    them, too.
    """
    rows, length = labels.shape
    places = (labels != NO_LABEL).flatten().nonzero()[:, 0]
    return places % length * rows + places // length


def _put_back(each_N: torch.Tensor, places_N: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[B, L], zero but for the labelled places, which are those in [L, B]."""
    rows, length = labels.shape
    return each_N.new_zeros(length * rows).index_copy_(0, places_N, each_N).view(length, rows).t()


class _SummedLosses(torch.autograd.Function):
    """(the loss, the sums of which it consists: cross-entropy and divergence; the cross-entropy of each row)."""

    @staticmethod
    def forward(
        ctx: Any,
        rows_ND: torch.Tensor,
        weight_TD: torch.Tensor,
        labels_N: torch.Tensor,
        group: dist.ProcessGroup,
        learning: bool,
        teaching: Teaching | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with_rows, with_weight = (learning and needed for needed in ctx.needs_input_grad[:2])
        g_rows = torch.empty_like(rows_ND) if with_rows else None
        exact = torch.promote_types(rows_ND.dtype, torch.float32)
        g_weight = torch.zeros_like(weight_TD, dtype=exact) if with_weight else None
        total, diverging = rows_ND.new_zeros((), dtype=exact), rows_ND.new_zeros((), dtype=exact)
        each_N = rows_ND.new_empty(len(rows_ND), dtype=exact)
        for block in _blocks(len(rows_ND), len(weight_TD) * (1 if teaching is None else _TAUGHT)):
            with cpu_settings.products_of_any_shape() if block.stop - block.start < _FEWEST else cpu_settings.as_they_are():
                rows = rows_ND[block]
                logits = torch.mm(rows, weight_TD.t()).to(exact)
                taught = None if teaching is None else teaching.of_block(logits, block, group)
                nats, g_logits = _block(logits, labels_N[block], group)
                if teaching is not None and taught is not None:
                    g_logits.mul_(teaching.next_token).add_(taught[1], alpha=teaching.weight)
                    diverging += taught[0]
                total += nats.sum()
                each_N[block] = nats
                g_logits = g_logits.to(rows.dtype)
                if g_rows is not None:
                    torch.mm(g_logits, weight_TD, out=g_rows[block])
                if g_weight is not None and g_weight.dtype == rows.dtype:
                    g_weight.addmm_(g_logits.t(), rows)
                elif g_weight is not None:
                    g_weight += torch.mm(g_logits.t(), rows)
        ctx.gradients, ctx.weight_dtype = (g_rows, g_weight), weight_TD.dtype
        sums = torch.stack([total, diverging])
        ctx.mark_non_differentiable(sums, each_N)
        if teaching is None:
            return total, sums, each_N
        return teaching.next_token * total + teaching.weight * diverging, sums, each_N

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        g_rows, g_weight = (None if made is None else made.mul_(gradient) for made in ctx.gradients)
        ctx.gradients = (None, None)  # their memory is that of gradients now
        return g_rows, None if g_weight is None else g_weight.to(ctx.weight_dtype), None, None, None, None


def _block(
    logits: torch.Tensor, labels: torch.Tensor, group: dist.ProcessGroup
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nats of each row of a block of logits, which are used up, and the gradient in them. Ranks of `group` hold other
    parts of the vocabulary.
    """
    several = group.size() > 1
    size = logits.shape[1]
    own = labels - group.rank() * size if several else labels
    here = (own >= 0) & (own < size)
    places = own.clamp(0, size - 1).unsqueeze(1)
    peak = logits.amax(1, keepdim=True)
    if several:
        dist.all_reduce(peak, op=dist.ReduceOp.MAX, group=group)
    logits.sub_(peak)
    wanted = logits.gather(1, places).squeeze(1) * here
    total = logits.exp_().sum(1)
    if several:
        both = torch.stack([wanted, total])
        dist.all_reduce(both, group=group)
        wanted, total = both
    logits.div_(total.unsqueeze(1))
    logits.scatter_add_(1, places, -here.to(logits.dtype).unsqueeze(1))
    return total.log() - wanted, logits


def _blocks(count: int, vocabulary: int) -> Iterator[slice]:
    """Of as many positions as the vocabulary allows, a power of two; then smaller ones."""
    rows, first = _MOST, 0
    while rows > _FEWEST and rows * vocabulary > _BLOCK:
        rows //= 2
    while first < count:
        while rows > count - first and rows > _FEWEST:
            rows //= 2
        yield slice(first, min(first + rows, count))
        first += rows
