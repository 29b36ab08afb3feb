"""Containers whose `sharded_state_dict()` reaches every child."""

from typing import Any

import torch
from megatron.core.transformer.module import MegatronModule as Module
from megatron.core.transformer.utils import sharded_state_dict_default

__all__ = ["Module", "ModuleList"]


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
