"""Containers whose `sharded_state_dict()` reaches every child."""

from collections.abc import Sequence
from typing import Any

import torch
from megatron.core.transformer.module import MegatronModule as Module
from megatron.core.transformer.utils import sharded_state_dict_default

__all__ = ["Chunks", "Module", "ModuleList", "chunks_of"]


class ModuleList(torch.nn.ModuleList):
    """`torch.nn.ModuleList` that describes its children to checkpoints one by one.

    megatron-core's default takes a plain list for one replicated block of tensors, wrong as soon as a
    child is split over ranks.
    """

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Shards of all children, keyed `prefix` + index + child's key."""
        shards: dict[str, Any] = {}
        for name, child in self.named_children():
            shards.update(sharded_state_dict_default(child, f"{prefix}{name}.", sharded_offsets, metadata))
        return shards


class Chunks(Module):
    """The pieces of a model that one rank of an interleaved pipeline holds, in model order. Never called as a whole."""

    def __init__(self, pieces: Sequence[Module]) -> None:
        super().__init__(pieces[0].config)
        self.pieces = ModuleList(pieces)

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Shards of each piece as it describes them itself: global names have no pieces in them."""
        return {
            f"{index}.{name}": shard
            for index, piece in enumerate(self.pieces)
            for name, shard in piece.sharded_state_dict(prefix, sharded_offsets, metadata).items()  # type: ignore[operator]
        }


def chunks_of(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The pieces of the model on this rank, in model order."""
    return list(module.pieces) if isinstance(module, Chunks) else [module]
