"""Sums that tell whether two runs hold the same numbers, bit by bit, in whatever layout they hold them.

Every element counts with its bits times an odd number made from its place in the whole tensor, modulo 2^64. So the sums of
the parts of a tensor add up to the sum of the whole, however it was cut, and one changed bit, or two elements that changed
places, give another sum. Beside it stands the sum of squares, for layouts that round differently.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import prod

import torch
import torch.distributed as dist

from parallel.pieces import Piece

_BLOCK = 1 << 22  # elements looked at together: they take 16 bytes more each
Sums = dict[str, tuple[int, float]]  # key -> (sum of bits modulo 2^64, sum of squares)


@torch.no_grad()
def bits_and_squares(
    values: torch.Tensor, shape: Sequence[int] = (), offset: Sequence[int] = ()
) -> torch.Tensor:
    """[2] int64: both sums of a part, the second one the bits of an fp64. shape, offset: of the whole tensor, and of the part
    in it, with as many axes as the part; without them the part is the whole. Nothing waits for the device."""
    shape, offset = tuple(shape) or tuple(values.shape), tuple(offset) or (0,) * values.ndim
    if values.ndim == 0:
        values, shape, offset = values.view(1), (1,), (0,)
    total = torch.zeros((), dtype=torch.int64, device=values.device)
    squares = torch.zeros((), dtype=torch.float64, device=values.device)
    rows = max(1, _BLOCK // max(1, prod(values.shape[1:])))
    for first in range(0, values.shape[0], rows):
        block = values[first : first + rows]
        total += (_bits(block) * (2 * _places(block, shape, (offset[0] + first, *offset[1:])) + 1)).sum()
        squares += block.double().square().sum()
    return torch.stack([total, squares.view(torch.int64)])


def sums_of_pieces(pieces: Iterable[Piece], order: Iterable[str] = ()) -> Sums:
    """Of all tensors that the pieces of all ranks make, by key; all ranks call it. order: this rank's parameters in the order of
    the model, of which it need not hold any part: what belongs to them comes first, in this order, rank by rank.
    """
    mine: dict[str, list[torch.Tensor]] = {}
    for piece in pieces:
        here = mine.setdefault(piece.key, [])
        if piece.first and piece.tensor.numel():
            here.append(bits_and_squares(piece.view(), piece.shape, piece.offset).cpu())
    found = over_ranks(mine)
    orders: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(orders, list(order))
    places = {
        name: place for place, name in enumerate(dict.fromkeys(name for names in orders for name in names))
    }
    return dict(sorted(found.items(), key=lambda item: places.get(_parameter_of(item[0]), len(places))))


def _parameter_of(key: str) -> str:
    """The parameter that "model.NAME" or "optimizer.STATE.NAME" belongs to."""
    parts = key.split(".", 1 if key.startswith("model.") else 2)
    return parts[-1]


def over_ranks(mine: Mapping[str, Sequence[torch.Tensor]], from_last: bool = False) -> Sums:
    """What `bits_and_squares` gave on all ranks, added up; all ranks call it. The keys stand in the order of the first rank,
    then those that only later ones have, or the other way round (`from_last`)."""
    added = {key: _added(map(_numbers, parts)) for key, parts in mine.items()}
    found: list[Sums] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, added)
    ranks = found[::-1] if from_last else found
    keys = dict.fromkeys(key for sums in ranks for key in sums)
    return {key: _added(sums[key] for sums in ranks if key in sums) for key in keys}


def _numbers(pair: torch.Tensor) -> tuple[int, float]:
    bits, squares = pair.cpu()
    return int(bits), float(squares.view(torch.float64))


def _added(sums: Iterable[tuple[int, float]]) -> tuple[int, float]:
    pairs = list(sums)
    return sum(bits for bits, _ in pairs) % 2**64, sum(squares for _, squares in pairs)


def _bits(block: torch.Tensor) -> torch.Tensor:
    """The bits as int64: of fp32, in which lower formats are exact, and of fp64 and integers as they are."""
    if block.dtype == torch.float64:
        return block.contiguous().view(torch.int64)
    return block.float().contiguous().view(torch.int32).long() if block.is_floating_point() else block.long()


def _places(block: torch.Tensor, shape: Sequence[int], offset: Sequence[int]) -> torch.Tensor:
    """The place of every element among those of the whole tensor, in row-major order; of a shape that broadcasts to it."""
    places = torch.zeros((), dtype=torch.int64, device=block.device)
    for axis, (size, start) in enumerate(zip(block.shape, offset)):
        along = torch.arange(start, start + size, device=block.device) * prod(shape[axis + 1 :])
        places = places + along.view(-1, *(1,) * (block.ndim - 1 - axis))
    return places
