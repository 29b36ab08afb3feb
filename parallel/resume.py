"""Saves and restores a training run: weights, optimizer, counters and random states, through DeepSpeed's partitions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from parallel import checkpoint, deepspeed_compat
from parallel import pieces as store
from parallel.checkpoint_writer import Writer
from parallel.errors import CheckpointError
from parallel.pieces import Piece
from parallel.snapshot import Sharded, cut, describe, random_pieces, read_values, restore_random
from parallel.topology import Topology, seed_anew


@dataclass
class TrainingState:
    """A module in the hands of DeepSpeed. trained: its trainable parameters, with their names."""

    module: torch.nn.Module
    trained: Mapping[torch.nn.Parameter, str]
    optimizer: torch.optim.Optimizer

    def entries(self) -> tuple[list[Sharded], list[Sharded]]:
        """(trained, others). Raises CheckpointError when the module leaves a trained parameter out."""
        entries = describe(self.module)
        trained = [entry for entry in entries if entry.data in self.trained]
        described = {entry.data for entry in trained}
        for param, name in self.trained.items():
            if param not in described:
                raise CheckpointError(f"{name} is trained but not in the module's sharded_state_dict().")
        return trained, [entry for entry in entries if entry.data not in self.trained]


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
    trained, others = state.entries()
    pieces = random_pieces()
    for entry in others:
        pieces += list(cut(entry, entry.data, "model."))
    for name in (None, *deepspeed_compat.state_names(state.optimizer)):
        for entry in trained:
            value = deepspeed_compat.gather(
                entry.data, name
            )  # whole on every data rank; only the writer keeps it
            pieces += [_kept(piece) for piece in cut(entry, value, _prefix(name)) if piece.first]
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
    trained, others = state.entries()
    for entry, value in read_values(folder, others, "model."):
        with torch.no_grad():
            entry.data.copy_(value)
    stored = store.contents(folder).keys()
    for name in (None, *deepspeed_compat.state_names(state.optimizer)):
        prefix = _prefix(name)
        known = [
            entry for entry in trained if all(piece.key in stored for piece in cut(entry, entry.data, prefix))
        ]
        wanted = known if name is not None and not strict else trained
        for entry, value in read_values(folder, wanted, prefix):
            deepspeed_compat.scatter(entry.data, name, value)
    deepspeed_compat.set_update_count(state.optimizer, facts["updates"])
    if facts["topology"] != asdict(topology) or not restore_random(folder):
        seed_anew(facts["step"])
    return facts


def _prefix(name: str | None) -> str:
    return "model." if name is None else f"optimizer.{name}."


def _kept(piece: Piece) -> Piece:
    """A piece on the host: the device need not hold three copies of the model while files are written."""
    piece.tensor = piece.tensor.cpu()
    return piece
