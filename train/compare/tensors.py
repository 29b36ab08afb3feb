"""What differs between two runs' checkpoints of the same step, whatever layouts wrote them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from parallel import checkpoint, integrity
from parallel import pieces as store
from parallel.pieces import Piece

BLOCK = 1 << 28  # bytes of tensors that are read at a time, of each of both
PREFIXES = {"weight": "model.", "optimizer tensor": "optimizer.", "random state": "random."}
FACTS = ("extra.cursor", "extra.curriculum", "updates", "optimizer", "optimizer_counters", "base")


@dataclass(frozen=True)
class Difference:
    """Of one kind of tensors. name: the first that differs, in the model's order; elements of its `size` that do, and by how
    much at most. count: tensors of `total` that differ."""

    kind: str
    name: str
    elements: int
    size: int
    largest: float
    count: int
    total: int


@dataclass(frozen=True)
class PartedCheckpoint:
    """A step that both have a checkpoint of. facts: what differs beside the tensors, such as the place in the data. alone:
    tensors that only one of them has. damaged: what is not as it was written, where nothing else can be said."""

    step: int
    differences: tuple[Difference, ...] = ()
    facts: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.differences or self.facts or self.alone or self.damaged)


def compare_checkpoints(first: Path, second: Path, rtol: float = 0.0) -> Iterator[PartedCheckpoint]:
    """Of each step that both folders of checkpoints have, oldest first. rtol: how far elements may be apart, as a part of the
    largest of their tensor. Raises CheckpointError for a checkpoint that cannot be read."""
    one, two = (
        {checkpoint.step_of(folder): folder for folder in checkpoint.folders(root)}
        for root in (first, second)
    )
    for step in sorted(one.keys() & two.keys()):
        yield _compared(step, one[step], two[step], rtol)


def _compared(step: int, first: Path, second: Path, rtol: float) -> PartedCheckpoint:
    damaged = [
        f"{folder}: {problems[0]}" for folder in (first, second) if (problems := integrity.verify(folder))
    ]
    if damaged:
        return PartedCheckpoint(step, damaged=tuple(damaged))
    one, two = store.contents(first), store.contents(second)
    facts = _facts(checkpoint.facts(first)), _facts(checkpoint.facts(second))
    same_layout = facts[0].pop("topology") == facts[1].pop("topology")
    kinds = PREFIXES if same_layout else {kind: PREFIXES[kind] for kind in list(PREFIXES)[:2]}
    differences, alone = [], []
    for kind, prefix in kinds.items():
        names = [name for name in one if name.startswith(prefix)]
        others = {name for name in two if name.startswith(prefix)}
        alone += sorted(others.symmetric_difference(names))
        both = [name for name in names if name in others]
        found = list(_differing(first, second, both, rtol))
        if found:
            name, elements, size, largest = found[0]
            differences.append(
                Difference(kind, name.removeprefix(prefix), elements, size, largest, len(found), len(both))
            )
    changed = [name for name in facts[0] if facts[0][name] != facts[1].get(name)]
    return PartedCheckpoint(step, tuple(differences), tuple(changed), tuple(alone))


def _facts(found: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a run computes with, and its layout."""
    flat = {**found, **{f"extra.{name}": value for name, value in found.get("extra", {}).items()}}
    return {"topology": found.get("topology")} | {name: flat.get(name) for name in FACTS}


def _differing(
    first: Path, second: Path, names: Sequence[str], rtol: float
) -> Iterator[tuple[str, int, int, float]]:
    """(name, elements that differ, size, largest difference) of each tensor that differs."""
    for block in _blocks(first, names):
        for name, one, two in zip(block, _read(first, block), _read(second, block)):
            if one.shape != two.shape:
                yield name, one.numel(), one.numel(), float("inf")
                continue
            apart = (one.double() - two.double()).abs()
            allowed = (
                rtol * max(float(one.double().abs().max()), float(two.double().abs().max()))
                if rtol and one.numel()
                else 0.0
            )
            differ = ~((one == two) | (one.isnan() & two.isnan()) | (apart <= allowed))
            if differ.any():
                yield name, int(differ.sum()), one.numel(), float(apart[differ].max())


def _blocks(folder: Path, names: Sequence[str]) -> Iterator[list[str]]:
    """The names in groups of about BLOCK bytes."""
    stored, block, size = store.contents(folder), list[str](), 0
    for name in names:
        block.append(name)
        size += stored[name].size.numel() * stored[name].properties.dtype.itemsize
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _read(folder: Path, names: Sequence[str]) -> list[torch.Tensor]:
    stored = store.contents(folder)
    tensors = [torch.empty(stored[name].size, dtype=stored[name].properties.dtype) for name in names]
    store.read(folder, [Piece.whole(name, tensor) for name, tensor in zip(names, tensors)], alone=True)
    return tensors
