"""The processes of one call: groups of tensor ranks that share a model, each group with its part of the pages.

Of each group the first process, the leader, opens pages and writes results; the others compute along.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

ValueT = TypeVar("ValueT")
LONG = timedelta(days=30)  # a share of the pages may take any time; a process that dies is noticed at once


@dataclass(frozen=True)
class Team:
    """This process's place. Process groups must exist; made at the same time on all processes."""

    rank: int
    world: int
    tensor: int
    everyone: Any = None  # a group that waits for as long as it takes; None for one process

    @classmethod
    def of_world(cls, tensor: int) -> "Team":
        """The team of the processes that have met."""
        world = dist.get_world_size()
        everyone = dist.new_group(backend="gloo", timeout=LONG) if world > 1 else None
        return cls(dist.get_rank(), world, tensor, everyone)

    @property
    def first(self) -> bool:
        """Whether this process talks for all."""
        return self.rank == 0

    @property
    def leads(self) -> bool:
        """Whether this process is the leader of its group."""
        return self.rank % self.tensor == 0

    @property
    def group(self) -> int:
        """The number of this process's group."""
        return self.rank // self.tensor

    @property
    def groups(self) -> int:
        """How many there are."""
        return self.world // self.tensor

    def share(self, items: Sequence[ValueT]) -> list[ValueT]:
        """The part of `items` that this group works on: neighbours, as even as can be."""
        start, end = (len(items) * number // self.groups for number in (self.group, self.group + 1))
        return list(items[start:end])

    def from_first(self, make: Callable[[], ValueT]) -> ValueT:
        """What `make` gives on the first process, on all of them. An error there is raised on all of them."""
        box: list[Any] = [None]
        if self.first:
            try:
                box = [make()]
            except Exception as error:
                box = [error]
        if self.world > 1:
            dist.broadcast_object_list(box, src=0, group=self.everyone)
        if isinstance(box[0], Exception):
            raise box[0]
        return box[0]

    def gather(self, value: ValueT) -> list[ValueT]:
        """The values of all leaders, on all processes, when the last one is there."""
        values: list[Any] = [value]
        if self.world > 1:
            values = [None] * self.world
            dist.all_gather_object(values, value, group=self.everyone)
        return values[:: self.tensor]

    def tell_followers(self, message: Any) -> None:
        """From the leader to the others of its group."""
        if self.tensor > 1:
            self._within(message)

    def told(self) -> Any:
        """What the leader tells."""
        return self._within(None)

    def _within(self, message: Any) -> Any:
        from megatron.core import parallel_state

        box = [message]
        leader = self.rank - self.rank % self.tensor
        dist.broadcast_object_list(box, src=leader, group=parallel_state.get_tensor_model_parallel_group())
        return box[0]
