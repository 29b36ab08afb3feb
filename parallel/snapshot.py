"""What a checkpoint of a model and its optimizer consists of, under names that know no layout.

    model.<key>              the weight: the fp32 master of a trained parameter, a frozen one or a buffer as it is
    optimizer.<state>.<key>  exp_avg and the like of a trained parameter, fp32
    random.<rank>.<name>     states of the random generators of one rank

`<key>` and the place of a rank's part in the global tensor come from the module's own `sharded_state_dict()`, which
megatron-core's layers describe for tensor, pipeline and expert parallelism.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import (
    ShardedObject,
    ShardedTensor,
    ShardedTensorFactory,
    is_main_replica,
)
from megatron.core.tensor_parallel import get_cuda_rng_tracker

from parallel import checkpoint
from parallel import pieces as store
from parallel.base import base_of
from parallel.errors import CheckpointError
from parallel.layers import transforms_in
from parallel.pieces import Piece

Sharded: TypeAlias = ShardedTensor | ShardedTensorFactory
HELPERS = "helpers."  # keys of what one stage trained beside the model: a module that has none does without them


@dataclass(frozen=True)
class LoadReport:
    """What came of loading a module.

    missing: keys of the module that the checkpoint has not. unexpected: keys of the checkpoint that the module has not.
    """

    folder: Path
    step: int
    extra: dict[str, Any]
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{len(keys)} {name} ({_by_prefix(keys)})" for name, keys in
                 (("missing", self.missing), ("unexpected", self.unexpected)) if keys]  # fmt: skip
        return f"{self.folder}: " + ("; ".join(parts) or "every weight loaded")


def load_module(path: Path, module: torch.nn.Module, strict: bool = True) -> LoadReport:
    """Gives a module without an engine the weights of a checkpoint folder, or of the newest valid one of a run or root.

    With `strict` a missing or unexpected key raises CheckpointError; without, the report lists them and the module keeps
    its own values there. Process groups must exist; all ranks call it.
    """
    folder = checkpoint.require(Path(path))
    entries = describe(module)
    state = checkpoint.facts(folder)
    holders = _holders(folder, base_of(folder, state))
    known = holders.keys()
    wanted = _of_all_ranks({piece.key for entry in entries for piece in cut(entry, entry.data, "")})
    strangers = {key for key in known - wanted if not key.startswith(HELPERS)}
    report = LoadReport(folder, state["step"], state["extra"], sorted(wanted - known), sorted(strangers))
    if strict and (report.missing or report.unexpected):
        raise CheckpointError(
            f"The checkpoint does not fit the model: {report}. Is it of another model configuration?"
        )
    found = [entry for entry in entries if all(piece.key in known for piece in cut(entry, entry.data, ""))]
    for source in dict.fromkeys(holders.values()):
        own = [entry for entry in found if holders[entry.key] == source]
        for entry, value in read_values(source, own, "model."):
            with torch.no_grad():
                entry.data.copy_(value)
    for transform in transforms_in(module):
        transform.weights_replaced()
    return report


def _holders(folder: Path, base: Path | None) -> dict[str, Path]:
    """Which of both holds a weight, by its key; the checkpoint itself where both do."""
    return {
        key.removeprefix("model."): place
        for place in ((base, folder) if base else (folder,))
        for key in store.contents(place)
        if key.startswith("model.")
    }


def describe(module: torch.nn.Module) -> list[Sharded]:
    """The entries of `module.sharded_state_dict()`; `.data` of each is the parameter or buffer itself."""
    found: list[Sharded] = []
    for entry in nested_values(module.sharded_state_dict()):  # type: ignore[operator]
        if isinstance(entry, (ShardedTensor, ShardedTensorFactory)):
            found.append(entry)
        elif not (isinstance(entry, ShardedObject) and entry.data is None):
            raise CheckpointError(
                f"{getattr(entry, 'key', entry)} is not a tensor: only tensors are checkpointed."
            )
    return found


def cut(entry: Sharded, value: torch.Tensor, prefix: str) -> Iterator[Piece]:
    """`value`, of the shape of this rank's `entry.data`, as pieces of global tensors named `prefix` + key."""
    key = prefix + entry.key
    if isinstance(entry, ShardedTensor):
        first = is_main_replica(entry.replica_id)
        yield Piece(key, value, tuple(entry.global_shape), tuple(entry.global_offset), first)
        return
    # A factory splits one parameter into several global tensors, such as gate and up of a SwiGLU.
    for part in nested_values(dataclasses.replace(entry, key=key, data=value).build()):
        if part.data.untyped_storage().data_ptr() != value.untyped_storage().data_ptr():
            raise CheckpointError(f"{key}: its parts are copies, so that loading into them would be lost.")
        first = is_main_replica(part.replica_id)
        yield Piece(part.key, part.data, tuple(part.global_shape), tuple(part.global_offset), first)


def read_values(folder: Path, entries: list[Sharded], prefix: str) -> list[tuple[Sharded, torch.Tensor]]:
    """Each entry with the value stored for it under `prefix`, on the CPU and of the stored type; all ranks call it."""
    stored = store.contents(folder)
    values, parts = [], []
    for entry in entries:
        names = [piece.key for piece in cut(entry, entry.data, prefix)]
        lost = [name for name in names if name not in stored]
        if lost:
            raise CheckpointError(f"{folder} has no {lost[0]}.")
        values.append(torch.empty(entry.data.shape, dtype=stored[names[0]].properties.dtype))
        parts += list(cut(entry, values[-1], prefix))
    store.read(folder, parts)
    return list(zip(entries, values))


def random_pieces() -> list[Piece]:
    """This rank's random generator states: torch's on CPU and CUDA, and megatron-core's tracker."""
    prefix = f"random.{dist.get_rank()}."
    return [Piece.whole(prefix + name, state) for name, state in _random_states().items()]


def restore_random(folder: Path) -> bool:
    """Puts this rank's generators where this rank of the saved run had them, which must have had the same layout.

    False, and nothing is changed, when the checkpoint lacks one of them: it was written on another kind of device.
    """
    stored, prefix = store.contents(folder), f"random.{dist.get_rank()}."
    states = {name: torch.empty_like(state) for name, state in _random_states().items()}
    if any(
        prefix + name not in stored or stored[prefix + name].size != states[name].shape for name in states
    ):
        return False
    store.read(folder, [Piece.whole(prefix + name, state) for name, state in states.items()], alone=True)
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
    torch.set_rng_state(states["cpu"])
    tracked = {
        name.removeprefix("tracker."): value for name, value in states.items() if name.startswith("tracker.")
    }
    get_cuda_rng_tracker().set_states(tracked)
    return True


def _random_states() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    for name, state in get_cuda_rng_tracker().get_states().items():
        states[f"tracker.{name}"] = state
    return states


def _of_all_ranks(keys: set[str]) -> set[str]:
    found: list[set[str]] = [set() for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, keys)
    return set().union(*found)


def _by_prefix(keys: list[str]) -> str:
    """Keys counted by their first two parts: "encoder.window 31, decoder.layers 4"."""
    counts: dict[str, int] = {}
    for key in keys:
        prefix = ".".join(key.split(".")[:2])
        counts[prefix] = counts.get(prefix, 0) + 1
    return ", ".join(f"{prefix} {count}" for prefix, count in counts.items())
