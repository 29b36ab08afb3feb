"""What ranks add up around a step: counts before it, the loss and its sums after it; and which gradients are missing."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from parallel import pipeline
from parallel.device import device
from parallel.errors import MissingGradient, ParallelError
from parallel.topology import Topology


class Batch(pipeline.Batch, Protocol):
    """One micro-batch of this rank. The engine knows only its shape and how much it weighs."""

    def weights(self) -> dict[str, float]:
        """Counts that sums are divided by, by name, such as {"tokens": 512.0}. The same names on every rank."""


def before(
    batches: Sequence[Batch], counts: Mapping[str, float], topology: Topology
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """(weights over all ranks, normalizers for the objective, counts over all ranks); one small all-reduce before
    the forward.
    """
    if not batches:
        raise ParallelError("A rank got no micro-batch: every rank needs at least one in every step.")
    local: dict[str, float] = {}
    for batch in batches:
        for name, value in batch.weights().items():
            local[name] = local.get(name, 0.0) + value
    count = len(batches)
    values = [count, count**2, *local.values(), *counts.values()]
    vector = torch.tensor(values, dtype=torch.float64, device=device())
    dist.all_reduce(vector, group=parallel_state.get_data_parallel_group())
    total, squares, *sums = vector.tolist()
    if squares * topology.data != total**2:
        raise ParallelError(
            f"Ranks have different numbers of micro-batches ({count} here): give each the same."
        )
    weights, added = dict(zip(local, sums)), dict(zip(counts, sums[len(local) :]))
    return weights, {name: (value or total) / total for name, value in weights.items()}, added


def after(
    loss: torch.Tensor, missing: int, sums: Mapping[str, torch.Tensor], topology: Topology
) -> tuple[float, int, dict[str, float]]:
    """(loss of the global batch, missing gradients on all ranks, sums over data ranks and stages)."""
    lacking = torch.tensor(float(missing), dtype=torch.float64, device=loss.device)
    vector = torch.cat([torch.stack([loss, lacking]), pipeline.in_one(sums)])
    pipeline.over_data_and_stages(vector)
    if topology.tensor > 1:  # these ranks count the same, but for what is missing, and for faults of a machine
        vector[0] /= topology.tensor
        dist.all_reduce(vector[:2], group=parallel_state.get_tensor_model_parallel_group())
    total, lost, *values = vector.tolist()
    return total / topology.data, int(lost), pipeline.named(sums, values)


def refuse_missing(here: Sequence[str]) -> None:
    """Raises MissingGradient, on every rank, with the first name of any. here: parameters of this rank without a gradient."""
    found: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, list(here))
    rank, names = next((rank, names) for rank, names in enumerate(found) if names)
    raise MissingGradient(
        f"{names[0]} got no gradient on rank {rank}"
        + (f" (and {len(names) - 1} more parameters)" if len(names) > 1 else "")
        + ": every trainable parameter must take part in every step, with a zero gradient if it is idle; freeze it "
        "with stage.frozen=[...] if it is not meant to learn."
    )
