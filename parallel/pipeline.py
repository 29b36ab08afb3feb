"""Runs the parts of a model that were placed on this rank: megatron-core's schedules move micro-batches through stages.

One stage (no pipeline), several (1F1B), or several with more than one piece each (interleaved 1F1B) differ here only in
what megatron-core is told. One tensor crosses each boundary. A loss that arises before the last stage, such as that of a
head on the encoder's features, is hung onto the tensor that leaves its stage and takes part in that stage's backward.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler

from parallel.errors import ParallelError
from parallel.layers import chunks_of

__all__ = ["Batch", "StageOutput", "evaluating", "forward_only", "in_one", "named", "over_data_and_stages", "run"]


class Batch(Protocol):
    """One micro-batch. Every stage of a pipeline gets the same ones."""

    def shape(self) -> tuple[int, int]:
        """(rows, length) of its token rows."""

    def padded(self, length: int) -> Self:
        """The same rows, filled up to `length`; nothing else changes."""


@dataclass
class StageOutput:
    """What one piece of the model makes of one micro-batch.

    hidden: what the next piece takes, 3-D; None on the last. loss: scalar, what this piece adds to the objective.
    sums: for the log by name, the same names on every piece (zero where another one counts): scalars, or vectors, each of
    whose numbers is a sum of its own (`named`).
    """

    hidden: torch.Tensor | None
    loss: torch.Tensor
    sums: dict[str, torch.Tensor]


def run(
    module: torch.nn.Module,
    batches: Sequence[Any],
    function: Callable[[torch.nn.Module, Any], StageOutput],
    forward_only: bool,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(loss, sums) of this rank's pieces, fp64: the loss is the mean over micro-batches, the sums are added up.

    Runs forward, and unless `forward_only` backward, of every micro-batch. All ranks of a pipeline call it together.
    """
    chunks, count = chunks_of(module), len(batches)
    batches = _of_one_shape(batches) if len(chunks) > 1 else batches
    done: list[StageOutput] = []

    def forward_step(batches: Iterator[Any], chunk: torch.nn.Module) -> tuple[torch.Tensor, Callable | None]:
        output = function(chunk, next(batches))
        done.append(_for_the_log(output))
        if output.hidden is None:
            return output.loss, lambda loss: (loss, {})
        return _carrying(output.hidden, output.loss), None

    rows, length = batches[0].shape()
    iterators = [iter(batches) for _ in chunks]
    get_forward_backward_func()(
        forward_step_func=forward_step,
        data_iterator=iterators if len(chunks) > 1 else iterators[0],
        model=chunks if len(chunks) > 1 else chunks[0],
        num_microbatches=count,
        seq_length=length,  # of the tensors between stages, where they are all alike; else each is sent with its shape
        micro_batch_size=rows,
        forward_only=forward_only,
    )
    names = _same_names([output.sums for output in done])
    sums = {name: torch.stack([output.sums[name] for output in done]).sum(0) for name in names}
    return torch.stack([output.loss for output in done]).sum() / count, sums


@torch.no_grad()
def forward_only(
    module: torch.nn.Module,
    batches: Sequence[Any],
    function: Callable[[torch.nn.Module, Any], StageOutput],
) -> dict[str, float]:
    """The sums of `function` over all micro-batches, pieces and data ranks, in evaluation mode.

    All ranks call it with equally many micro-batches: experts may be spread over them.
    """
    with evaluating(module):
        _, sums = run(module, batches, function, forward_only=True)
    vector = in_one(sums)
    over_data_and_stages(vector)
    return named(sums, vector.tolist())


def in_one(sums: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """All their numbers, one after the other."""
    return torch.cat([value.flatten() for value in sums.values()])


def named(sums: Mapping[str, torch.Tensor], values: Sequence[float]) -> dict[str, float]:
    """The numbers of `in_one`, by name; those of a vector as "name.0", "name.1", …."""
    names = [
        name if value.ndim == 0 else f"{name}.{number}"
        for name, value in sums.items()
        for number in range(value.numel())
    ]
    return dict(zip(names, values, strict=True))


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the former mode again afterwards."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def over_data_and_stages(vector: torch.Tensor) -> None:
    """Adds up, in place, what each data rank and each pipeline stage counted; tensor ranks count the same."""
    dist.all_reduce(vector, group=parallel_state.get_data_parallel_group())
    if parallel_state.get_pipeline_model_parallel_world_size() > 1:
        dist.all_reduce(vector, group=parallel_state.get_pipeline_model_parallel_group())


def _same_names(sums: Sequence[dict[str, torch.Tensor]]) -> tuple[str, ...]:
    """The names of all of them. Raises ParallelError when they differ: ranks would add up different things."""
    names = tuple(sums[0])
    for other in sums:
        if tuple(other) != names:
            raise ParallelError(
                f"The sums changed from {names} to {tuple(other)}: always give all of them, zero where there is nothing."
            )
    return names


def _of_one_shape(batches: Sequence[Any]) -> list[Any]:
    """The interleaved schedule agrees on the shape of its messages once: rows are filled up to the longest.

    Raises ParallelError when micro-batches have different numbers of rows.
    """
    shapes = [batch.shape() for batch in batches]
    if len({rows for rows, _ in shapes}) > 1:
        raise ParallelError(
            f"Micro-batches of {sorted({rows for rows, _ in shapes})} rows in one step: parallel.virtual > 1 needs equal ones. "
            "Choose parallel.virtual=1."
        )
    longest = max(length for _, length in shapes)
    return [batch.padded(longest) for batch in batches]


def _for_the_log(output: StageOutput) -> StageOutput:
    """Copies, as the schedule scales the loss in place."""
    sums = {name: value.detach().double() for name, value in output.sums.items()}
    return StageOutput(None, output.loss.detach().to(torch.float64, copy=True), sums)


def _carrying(hidden: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
    """`hidden`, whose backward also starts that of `loss`, scaled as the schedule scales the last stage's."""
    return MoEAuxLossAutoScaler.apply(hidden, loss) if loss.requires_grad else hidden
