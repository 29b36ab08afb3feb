"""Which samples, parameters and ranks are behind a step that went wrong. Asked only then: it computes the step once more."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist
from megatron.core import parallel_state

from data_pipeline.batch import MicroBatch
from parallel.engine import Engine
from parallel.topology import environment

NAMED = 8  # parameters of a rank: the nearest to the loss; a backward carries it on to all that come after them


@dataclass
class Culprits:
    """What all ranks found.

    samples: "source/key" of each sample in a micro-batch that is to blame, with the ranks that say so. parameters: of each rank
    with gradients that are not finite the names of some of them, the nearest to the loss first, and how many there are. ranks:
    those where it went wrong. again: whether it went wrong once more; None where that was not asked.
    """

    samples: dict[str, list[int]] = field(default_factory=dict)
    parameters: dict[int, tuple[list[str], int]] = field(default_factory=dict)
    ranks: list[int] = field(default_factory=list)
    again: bool | None = None

    def row(self) -> dict[str, Any]:
        """For bad_steps.jsonl."""
        return {
            "again": self.again,
            "ranks": self.ranks,
            "samples": [{"sample": sample, "ranks": ranks} for sample, ranks in self.samples.items()],
            "parameters": [{"rank": rank, "count": count, "first": names} for rank, (names, count) in self.parameters.items()],
        }


def behind_loss(engine: Engine, batches: Sequence[MicroBatch]) -> Culprits:
    """Of a loss that is not finite. All ranks call it together."""
    first = _not_finite(engine.own_losses())
    second = _not_finite(engine.rerun(batches, gradients=False).losses)
    return _joined(batches, first, bool(second))


def behind_gradient(engine: Engine, batches: Sequence[MicroBatch]) -> Culprits:
    """Of a gradient that is not finite while the loss is: ranks have only sums of it, so that it is computed once more."""
    found = engine.rerun(batches, gradients=True).gradients
    names = list(dict.fromkeys(name for _, name in found))
    return _joined(batches, sorted({number for number, _ in found}), bool(found), names)


def behind_spike(engine: Engine, batches: Sequence[MicroBatch]) -> Culprits:
    """Of a loss or a norm that stands out: the micro-batch with the largest part of the loss, over all ranks."""
    losses = engine.own_losses()
    largest = max(losses)
    found = [0.0] * dist.get_world_size()
    dist.all_gather_object(found, largest)
    here = [losses.index(largest)] if largest == max(found) else []
    return _joined(batches, here, None)


def _not_finite(losses: Sequence[float]) -> list[int]:
    return [number for number, loss in enumerate(losses) if not math.isfinite(loss)]


def _joined(
    batches: Sequence[MicroBatch], numbers: Sequence[int], again: bool | None, parameters: Sequence[str] = ()
) -> Culprits:
    """What every rank found, the same on all of them. numbers: of this rank's micro-batches that are to blame."""
    found: list[Any] = [None] * dist.get_world_size()
    stage = parallel_state.get_pipeline_model_parallel_rank()
    here = (-stage, environment()[0], [_samples(batches[number]) for number in numbers], again, list(parameters))
    dist.all_gather_object(found, here)
    joined = Culprits()
    for _, rank, groups, wrong, names in sorted(found):  # the stage of a pipeline that is nearest to the loss comes first
        if groups:
            joined.ranks.append(rank)
        for sample in [sample for group in groups for sample in group]:
            joined.samples.setdefault(sample, []).append(rank)
        if names:
            joined.parameters[rank] = names[:NAMED], len(names)
        if wrong is not None:
            joined.again = bool(joined.again) or wrong
    for ranks in (joined.ranks, *joined.samples.values()):
        ranks.sort()
    return joined


def _samples(batch: MicroBatch) -> list[str]:
    """ "source/key" of each sample; packed rows hold several."""
    pairs = zip(" ".join(batch.sources).split(), " ".join(batch.keys).split())
    return [f"{source}/{key}" for source, key in pairs]
