"""Saves and restores a training run: weights, optimizer, counters and random states, through DeepSpeed's partitions."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from parallel import checkpoint, deepspeed_compat, optimizer_pieces
from parallel import pieces as store
from parallel.base import Base, base_of
from parallel.checkpoint_writer import Writer
from parallel.errors import CheckpointError
from parallel.optimizer import FusedOptimizer
from parallel.optimizer_pieces import Place
from parallel.pieces import Piece
from parallel.snapshot import Sharded, cut, describe, random_pieces, read_values, restore_random
from parallel.topology import Topology, seed_anew


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
        if isinstance(optimizer, FusedOptimizer):  # the weights are all there is, whole on every data rank
            self.trained, self._others = [], self.trained + self._others
        self._moving = {id(param) for param in trained}
        self._buffers = {
            id(buffer): (owner, name)
            for owner in module.modules()
            for name, buffer in owner.named_buffers(recurse=False)
        }

    def others(self) -> list[Place]:
        """Frozen parameters and buffers. DeepSpeed makes new buffers when it changes the module's precision."""
        return [Place(place.entry, self._today(place.tensor)) for place in self._others]

    def trains(self, place: Place) -> bool:
        """Whether a tensor changes from step to step."""
        return id(place.tensor) in self._moving

    def keys(self) -> dict[torch.Tensor, str]:
        """The parameters that change from step to step, with what they are called in checkpoints."""
        places = (*self.trained, *self._others)
        return {place.tensor: place.entry.key for place in places if self.trains(place)}

    def _today(self, tensor: torch.Tensor) -> torch.Tensor:
        owner, name = self._buffers.get(id(tensor), (None, ""))
        return tensor if owner is None else getattr(owner, name)


def _place(entry: Sharded) -> Place:
    return Place(replace(entry, data=torch.empty_like(entry.data, device="meta")), entry.data)


def save(
    writer: Writer,
    root: Path,
    step: int,
    state: TrainingState,
    facts: dict[str, Any],
    keep: int,
    background: bool = False,
    base: Base | None = None,
) -> Path:
    """Writes a checkpoint of everything, or with `base` of what that does not hold already; all ranks call it. `facts` must be
    JSON.
    """
    known = store.contents(base.folder).keys() if base else ()
    pieces = random_pieces() + list(pieces_of(state, known))
    counted = {"step": step, **optimizer_pieces.counts(state.optimizer), **facts}
    counted |= base.facts(root) if base else {}
    return writer.save(root, step, pieces, counted, keep, background)


def pieces_of(state: TrainingState, known: Collection[str] = ()) -> Iterator[Piece]:
    """Weights and optimizer tensors as they are now; all ranks call it. known: keys of frozen weights that are left out."""
    for place in state.others():
        if f"model.{place.entry.key}" in known and not state.trains(place):
            continue
        value = deepspeed_compat.whole(place.tensor)
        yield from (_kept(piece) for piece in cut(place.entry, value, "model.") if piece.first)
    for place in state.trained:
        yield from optimizer_pieces.stored(place, state.optimizer)
    yield from optimizer_pieces.of_others(state.optimizer)


def load(path: Path, state: TrainingState, topology: Topology, strict: bool) -> dict[str, Any] | None:
    """The facts of a checkpoint after restoring it; None when there is none. The caller refreshes the weights.

    `topology`: of this run. In the same one the random generators go on where they were; in another, where no rank is
    the rank it was, they are seeded by (seed, step). `strict`: every trained weight must have its optimizer tensors.
    """
    folder = checkpoint.newest(path)
    if folder is None:
        return None
    facts = checkpoint.facts(folder)
    stored = store.contents(folder).keys()
    for source, places in _sources(folder, facts, state.others()):
        for tensor, value in _stored(source, places, "model."):
            deepspeed_compat.put_whole(tensor, value)
    optimizer_pieces.refuse_other(facts, state.optimizer, topology)
    owned: list[Piece] = []
    for place in state.trained:
        for name, parts in optimizer_pieces.stepped(place, state.optimizer):
            if name is None or strict or all(part.key in stored for part in parts):
                owned += parts
    others = optimizer_pieces.of_others(state.optimizer)
    owned += [piece for piece in others if strict or piece.key in stored]
    store.read(folder, owned)
    optimizer_pieces.set_counts(state.optimizer, facts)
    if facts["topology"] != asdict(topology) or not restore_random(folder):
        seed_anew(facts["step"])
    return facts


def _sources(folder: Path, facts: Mapping[str, Any], places: list[Place]) -> Iterator[tuple[Path, list[Place]]]:
    """Which checkpoint holds which of the tensors that do not train: this one, or the base that it was added to."""
    base = base_of(folder, facts)
    if base is None:
        yield folder, places
        return
    stored = store.contents(folder).keys()
    yield folder, [place for place in places if f"model.{place.entry.key}" in stored]
    yield base, [place for place in places if f"model.{place.entry.key}" not in stored]


def _stored(folder: Path, places: list[Place], prefix: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    tensors = {id(place.entry): place.tensor for place in places}
    for entry, value in read_values(folder, [place.entry for place in places], prefix):
        yield tensors[id(entry)], value


def _kept(piece: Piece) -> Piece:
    """A piece on the host: the device need not hold all that ZeRO-3 puts together while files are written."""
    piece.tensor = piece.tensor.cpu()
    return piece
