"""A flat part of a tensor, as ZeRO leaves it to a data rank, in the boxes that a checkpoint is made of.

So each rank writes and reads what it owns, straight from and into the optimizer's memory, and nobody gathers anything.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from math import prod

import torch

from parallel.errors import CheckpointError
from parallel.pieces import Piece
from parallel.snapshot import Sharded, cut

Box = tuple[tuple[int, ...], tuple[int, ...]]  # offset and size on each axis


def boxes(shape: Sequence[int], start: int, stop: int) -> Iterator[Box]:
    """Elements start to stop of a row-major tensor, in order, as boxes: at most 2n - 1 of them for n axes."""
    if start >= stop:
        return
    if len(shape) <= 1:
        yield ((start,), (stop - start,)) if shape else ((), ())
        return
    row, rest = prod(shape[1:]), shape[1:]
    first, last = start // row, (stop - 1) // row
    if first == last and stop - start < row:
        for offset, size in boxes(rest, start - first * row, stop - first * row):
            yield (first, *offset), (1, *size)
        return
    begin, end = -(-start // row), stop // row  # the whole rows
    yield from boxes(shape, start, begin * row)
    if begin < end:
        yield (begin, *(0 for _ in rest)), (end - begin, *rest)
    yield from boxes(shape, end * row, stop)


def fragment_pieces(entry: Sharded, flat: torch.Tensor, start: int, prefix: str) -> Iterator[Piece]:
    """`flat`, elements from `start` on of a tensor that `entry` describes, as pieces that share its memory.

    entry: of the whole local tensor, whose values are not looked at. The data ranks own different parts of it, so each
    is the one to write its own; among other copies (of tensor ranks) one is chosen as ever.
    """
    owned = dataclasses.replace(
        entry, replica_id=(*entry.replica_id[:-1], 0)
    )  # the last says which data rank
    for part in cut(owned, torch.empty_like(entry.data, device="meta"), prefix):
        if not part.tensor.is_contiguous():
            raise CheckpointError(f"{part.key} does not lie in one piece: no flat part of it can be stored.")
        begin, shape = int(part.tensor.storage_offset()), part.view().shape
        low, high = max(start, begin), min(start + flat.numel(), begin + part.tensor.numel())
        at = low - start
        for offset, size in boxes(shape, low - begin, high - begin):
            values = flat.narrow(0, at, prod(size)).view(size)
            at += prod(size)
            place = tuple(a + b for a, b in zip(part.offset, offset))
            yield Piece(part.key, values, part.shape, place, part.first)
