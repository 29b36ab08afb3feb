"""Whole tensors for rules that need them, from the flat parts that ZeRO-1 and 2 leave to a data rank.

A flat part is a contiguous stretch of all parameters of a group, so most matrices lie in one part whole, and their rank
alone works on them: the work is shared out as the states are. Only a matrix on a border between parts has its pieces sent
to all that hold some of it; each of them then computes the same and keeps its own stretch. A matrix that is split over
tensor ranks is gathered from those. Which tensor is whole is what a checkpoint says: gate and up of a SwiGLU are one
matrix in any layout, and an expert of a stack stands for itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from parallel.pieces import Piece
from parallel.snapshot import Sharded, cut


@dataclass(frozen=True)
class Segment:
    """What a data rank holds of a trained parameter: `size` elements from `start` on, which stand in `flat` from `place`
    on. `group`: the ranks that share the flat of which every one has a part; `first`: place of the parameter in it."""

    flat: torch.Tensor
    place: int
    start: int
    size: int
    first: int
    group: dist.ProcessGroup

    def held_by(self, rank: int, count: int) -> tuple[int, int]:
        """(start, stop) among the `count` elements of the parameter that a rank of the group holds."""
        each = self.flat.numel()
        return max(0, rank * each - self.first), min(count, (rank + 1) * each - self.first)


class Whole:
    """One parameter that this rank holds some of, and how it becomes whole."""

    def __init__(self, entry: Sharded, segment: Segment) -> None:
        """`entry`: describes this rank's part of the model; its values are not looked at. All tensor ranks call it."""
        self.segment, self.shape = segment, entry.data.shape
        self._entry = entry
        local = self._pieces(torch.empty(self.shape, device="meta"))
        self.name, self.global_shape = local[0].key, local[0].shape
        self.is_stack = len(self.global_shape) == 3 and ".experts." in self.name
        self._lead = local[0].offset[: self._split_from]
        own = sum(piece.tensor.numel() for piece in local)
        whole = torch.Size((*local[0].view().shape[: self._split_from], *self.global_shape[self._split_from :]))
        self._is_split = own < whole.numel()
        self.tensor_shape = whole  # of what `gathered` gives
        self._boxes = [[piece.offset[self._split_from :] for piece in local]]
        if self._is_split:
            self._boxes = [[] for _ in range(parallel_state.get_tensor_model_parallel_world_size())]
            mine = [piece.offset[self._split_from :] for piece in local]
            dist.all_gather_object(self._boxes, mine, group=parallel_state.get_tensor_model_parallel_group())

    @property
    def _split_from(self) -> int:
        """The first axis that tensor ranks may share out: those before it count matrices of a stack."""
        return 1 if self.is_stack else 0

    def _pieces(self, local: torch.Tensor) -> list[Piece]:
        return list(cut(self._entry, local, ""))

    def is_shared(self) -> bool:
        """Whether other data ranks hold some of it too."""
        return self.segment.size < self.shape.numel()

    def locally(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The parameter of this rank's part of the model, from each of the flat tensors."""
        segment, count = self.segment, self.shape.numel()
        own = [value.narrow(0, segment.place, segment.size) for value in values]
        if not self.is_shared():
            return [value.view(self.shape) for value in own]
        sent = torch.stack(own)
        found, operations = sent.new_empty(len(values), count), []
        found[:, segment.start : segment.start + segment.size] = sent
        received: list[tuple[int, int, torch.Tensor]] = []
        for rank in range(segment.group.size()):
            start, stop = segment.held_by(rank, count)
            if rank == segment.group.rank() or start >= stop:
                continue
            received.append((start, stop, sent.new_empty(len(values), stop - start)))
            peer = dist.get_global_rank(segment.group, rank)
            operations.append(dist.P2POp(dist.isend, sent, peer, segment.group))
            operations.append(dist.P2POp(dist.irecv, received[-1][2], peer, segment.group))
        for work in dist.batch_isend_irecv(operations):
            work.wait()
        for start, stop, part in received:
            found[:, start:stop] = part
        return [value.view(self.shape) for value in found]

    def gathered(self, local: torch.Tensor) -> torch.Tensor:
        """The whole tensor, of which `local` is what this tensor rank has; all tensor ranks call it."""
        if not self._is_split:
            return local
        parts = [torch.empty_like(local) for _ in self._boxes]
        dist.all_gather(parts, local.contiguous(), group=parallel_state.get_tensor_model_parallel_group())
        whole = local.new_empty(self.tensor_shape)
        for part, offsets in zip(parts, self._boxes):
            for piece, offset in zip(self._pieces(part), offsets):
                _box(whole, offset, piece.view()).copy_(piece.view())
        return whole

    def own_stretch(self, whole: torch.Tensor) -> torch.Tensor:
        """What of a whole tensor this rank's flat part holds, flat."""
        local = whole
        if self._is_split:
            local = whole.new_empty(self.shape)
            for piece in self._pieces(local):
                piece.view().copy_(_box(whole, piece.offset[self._split_from :], piece.view()))
        return local.reshape(-1).narrow(0, self.segment.start, self.segment.size)

    def state_piece(self, prefix: str, state: torch.Tensor) -> Piece:
        """What is kept of the whole tensor, as a piece of a checkpoint that no layout shows in."""
        lead = len(self._lead)
        shape = (*self.global_shape[:lead], *state.shape[lead:])
        offset = (*self._lead, *(0 for _ in state.shape[lead:]))
        first = self.segment.start == 0
        if lead == 0:  # tensor ranks have copies; where experts lie on several of them, they are data ranks of theirs
            first = first and parallel_state.get_tensor_model_parallel_rank() == 0
        return Piece(f"{prefix}{self.name}", state, shape, offset, first)


class Wholes:
    """All parameters that this rank holds some of, by the flat part that they lie in."""

    def __init__(self, wholes: Iterator[Whole]) -> None:
        self._by_flat: dict[torch.Tensor, list[Whole]] = {}
        for whole in wholes:
            self._by_flat.setdefault(whole.segment.flat, []).append(whole)

    def of(self, flat: torch.Tensor) -> list[Whole]:
        """Those in one flat part."""
        return self._by_flat.get(flat, [])

    def apply(
        self,
        flat: torch.Tensor,
        values: Sequence[torch.Tensor],
        function: Callable[..., torch.Tensor],
    ) -> torch.Tensor:
        """`function(whole, *tensors)` for every tensor of which `flat` holds some: this rank's stretches of the results.

        values: of the flat's shape; the function gets each as a whole tensor and gives one of that shape. Elements that
        belong to no parameter are zero. Ranks that share the parameters call it together.
        """
        results = torch.zeros_like(flat)
        for whole in self.of(flat):
            tensors = [whole.gathered(local) for local in whole.locally(values)]
            segment = whole.segment
            stretch = whole.own_stretch(function(whole, *tensors))
            results.narrow(0, segment.place, segment.size).copy_(stretch)
        return results


def _box(whole: torch.Tensor, offset: Sequence[int], part: torch.Tensor) -> torch.Tensor:
    """The place of `part` in a whole tensor; `offset` is of its last axes."""
    lead = whole.ndim - len(offset)
    for axis, start in enumerate(offset):
        whole = whole.narrow(lead + axis, start, part.shape[lead + axis])
    return whole
