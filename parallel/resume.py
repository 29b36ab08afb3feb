"""Saves and restores a training run: weights, optimizer, counters and random states, through DeepSpeed's partitions."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from parallel import checkpoint, deepspeed_compat
from parallel import pieces as store
from parallel.checkpoint_writer import Writer
from parallel.errors import CheckpointError
from parallel.fragments import fragment_pieces
from parallel.pieces import Piece
from parallel.snapshot import Sharded, cut, describe, random_pieces, read_values, restore_random
from parallel.topology import Topology, seed_anew


@dataclass(frozen=True)
class _Place:
    """Where a tensor of this rank belongs. entry: without the tensor, but of its shape: ZeRO-3 empties parameters."""

    entry: Sharded
    tensor: torch.Tensor


class TrainingState:
    """A module and its optimizer. Build it before DeepSpeed takes them: it describes whole parameters.

    trained: the trainable parameters, with their names. Raises CheckpointError when the module leaves one of them out.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        trained: Mapping[torch.nn.Parameter, str],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.optimizer = optimizer
        described = describe(module)
        found = {entry.data for entry in described}
        for param, name in trained.items():
            if param not in found:
                raise CheckpointError(f"{name} is trained but not in the module's sharded_state_dict().")
        self.trained = [_place(entry) for entry in described if entry.data in trained]
        self._others = [_place(entry) for entry in described if entry.data not in trained]
        self._buffers = {
            id(buffer): (owner, name)
            for owner in module.modules()
            for name, buffer in owner.named_buffers(recurse=False)
        }

    def others(self) -> list[_Place]:
        """Frozen parameters and buffers. DeepSpeed makes new buffers when it changes the module's precision."""
        return [_Place(place.entry, self._today(place.tensor)) for place in self._others]

    def _today(self, tensor: torch.Tensor) -> torch.Tensor:
        owner, name = self._buffers.get(id(tensor), (None, ""))
        return tensor if owner is None else getattr(owner, name)


def _place(entry: Sharded) -> _Place:
    return _Place(replace(entry, data=torch.empty_like(entry.data, device="meta")), entry.data)


def save(
    writer: Writer,
    root: Path,
    step: int,
    state: TrainingState,
    facts: dict[str, Any],
    keep: int,
    background: bool = False,
) -> Path:
    """Writes a checkpoint of everything; all ranks call it. `facts` must be JSON."""
    pieces = random_pieces()
    for place in state.others():
        value = deepspeed_compat.whole(place.tensor)
        pieces += [_kept(piece) for piece in cut(place.entry, value, "model.") if piece.first]
    for name in _names(state):
        for place in state.trained:
            pieces += _owned(place, name)
    counted = {"step": step, "updates": deepspeed_compat.update_count(state.optimizer), **facts}
    return writer.save(root, step, pieces, counted, keep, background)


def load(path: Path, state: TrainingState, topology: Topology, strict: bool) -> dict[str, Any] | None:
    """The facts of a checkpoint after restoring it; None when there is none. The caller refreshes the weights.

    `topology`: of this run. In the same one the random generators go on where they were; in another, where no rank is
    the rank it was, they are seeded by (seed, step). `strict`: every trained weight must have its optimizer tensors.
    """
    folder = checkpoint.newest(path)
    if folder is None:
        return None
    facts = checkpoint.facts(folder)
    for tensor, value in _stored(folder, state.others(), "model."):
        deepspeed_compat.put_whole(tensor, value)
    stored = store.contents(folder).keys()
    owned: list[Piece] = []
    for name in _names(state):
        for place in state.trained:
            parts = _owned(place, name)
            if name is None or strict or all(part.key in stored for part in parts):
                owned += parts
    store.read(folder, owned)
    deepspeed_compat.set_update_count(state.optimizer, facts["updates"])
    if facts["topology"] != asdict(topology) or not restore_random(folder):
        seed_anew(facts["step"])
    return facts


def _stored(folder: Path, places: list[_Place], prefix: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    tensors = {id(place.entry): place.tensor for place in places}
    for entry, value in read_values(folder, [place.entry for place in places], prefix):
        yield tensors[id(entry)], value


def _names(state: TrainingState) -> list[str | None]:
    """What there is of every trained parameter: its master weight (None) and the optimizer's tensors."""
    return [None, *deepspeed_compat.state_names(state.optimizer)]


def _owned(place: _Place, name: str | None) -> list[Piece]:
    """What this data rank holds of a trained parameter, in the optimizer's own memory."""
    flat, start = deepspeed_compat.fragment(place.tensor, name)
    prefix = "model." if name is None else f"optimizer.{name}."
    return list(fragment_pieces(place.entry, flat, start, prefix))


def _kept(piece: Piece) -> Piece:
    """A piece on the host: the device need not hold all that ZeRO-3 puts together while files are written."""
    piece.tensor = piece.tensor.cpu()
    return piece
