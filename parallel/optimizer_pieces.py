"""What a checkpoint keeps of an optimizer.

Tensors of every weight (exp_avg) and of whole matrices (factored moments, projections) go under names and in shapes that
know no layout. What means something in one layout alone, such as states of 8 bits with a scale for each block of a flat
part, is written for each rank, and taken again in the same layout only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist

from parallel import deepspeed_compat
from parallel.errors import CheckpointError
from parallel.fragments import fragment_pieces
from parallel.optimizer import EngineOptimizer
from parallel.pieces import Piece
from parallel.snapshot import Sharded
from parallel.topology import Topology

STEPPED = "stepped"  # weights of an optimizer that stores others


@dataclass(frozen=True)
class Place:
    """Where a tensor of this rank belongs. entry: without the tensor, but of its shape: ZeRO-3 empties parameters."""

    entry: Sharded
    tensor: torch.Tensor


def stepped(place: Place, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str | None, list[Piece]]]:
    """(name, pieces) of what this data rank holds of a trained parameter, in the optimizer's own memory: its master weight
    (None) and the optimizer's tensors."""
    for name in (None, *deepspeed_compat.state_names(optimizer)):
        flat, start = deepspeed_compat.fragment(place.tensor, name)
        prefix = "model." if name is None else f"optimizer.{name}."
        if name is None and _averages(optimizer):
            prefix = f"optimizer.{STEPPED}."
        yield name, list(fragment_pieces(place.entry, flat, start, prefix))


def stored(place: Place, optimizer: torch.optim.Optimizer) -> Iterator[Piece]:
    """Pieces of a trained parameter for a checkpoint: those of `stepped`, and the weights where they are others."""
    for _, pieces in stepped(place, optimizer):
        yield from pieces
    if _averages(optimizer):
        assert isinstance(optimizer, EngineOptimizer)
        flat, start = deepspeed_compat.fragment(place.tensor, None)
        average = optimizer.average(flat.detach(), deepspeed_compat.fragment(place.tensor, "z")[0])
        yield from fragment_pieces(place.entry, average, start, "model.")


def of_others(optimizer: torch.optim.Optimizer) -> list[Piece]:
    """What an optimizer keeps besides, in its own memory: of whole tensors, and of this rank."""
    if not isinstance(optimizer, EngineOptimizer):
        return []
    found = list(optimizer.whole_states())
    rank = f"optimizer_rank.{dist.get_rank()}."
    return found + [Piece.whole(rank + name, tensor) for name, tensor in optimizer.rank_states()]


def counts(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's name and numbers, as JSON."""
    own = optimizer.counters() if isinstance(optimizer, EngineOptimizer) else []
    return {
        "updates": deepspeed_compat.update_count(optimizer),
        "optimizer": _label(optimizer),
        "optimizer_counters": own,
    }


def set_counts(optimizer: torch.optim.Optimizer, facts: Mapping[str, Any]) -> None:
    """The reverse of `counts`."""
    deepspeed_compat.set_update_count(optimizer, facts["updates"])
    if isinstance(optimizer, EngineOptimizer):
        optimizer.set_counters(facts.get("optimizer_counters", []))


def refuse_other(facts: Mapping[str, Any], optimizer: torch.optim.Optimizer, topology: Topology) -> None:
    """Raises CheckpointError for a checkpoint of another optimizer, or of another layout where states know theirs."""
    own, before = _label(optimizer), facts.get("optimizer", _label(optimizer))
    if own != before:
        raise CheckpointError(
            f"The checkpoint is of another optimizer ({before}; this run's is {own}), whose states are others. Go on with "
            "the same optim=, or begin a stage with its weights alone: stage.start_from=… in place of resume=."
        )
    if not isinstance(optimizer, EngineOptimizer) or facts["topology"] == asdict(topology):
        return
    if optimizer.keeps_rank_states:
        raise CheckpointError(
            f"{own} keeps its states in blocks of each rank's own part, and the checkpoint was written in another layout. Go "
            "on in the layout of the checkpoint, or begin a stage with its weights alone: stage.start_from=…."
        )


def _averages(optimizer: torch.optim.Optimizer) -> bool:
    return isinstance(optimizer, EngineOptimizer) and optimizer.averages


def _label(optimizer: torch.optim.Optimizer) -> str:
    return (isinstance(optimizer, EngineOptimizer) and optimizer.label) or type(optimizer).__name__
