"""Keys and values of what a model has read so far: room for every row made once, in one of three formats.

Shapes: B rows, N heads of this rank, Q new positions of each row, L positions that are read, H head width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch

FORMATS = {"bf16": torch.bfloat16, "int8": torch.int8}


class Store(Protocol):
    """Room for one number format: [B * N, positions, H], written at places and read from the start."""

    def write(self, new_BNQH: torch.Tensor, places: "Places") -> None:
        """Keeps what belongs at `places`."""

    def read(self, end: int) -> torch.Tensor:
        """[B * N, end, H], in the weights' format."""

    def keep(self, rows: torch.Tensor, end: int) -> None:
        """Only these rows from now on, int64 [fewer], ascending; of each the first `end` positions."""


@dataclass(frozen=True)
class Places:
    """Where the next Q positions of every row stand: from `starts` on, all at one place in the usual case."""

    starts: tuple[int, ...]
    width: int
    device: torch.device

    @property
    def end(self) -> int:
        """Positions that are read, those of the row that is furthest."""
        return max(self.starts) + self.width

    @property
    def together(self) -> bool:
        """Whether every row stands at the same place."""
        return min(self.starts) == max(self.starts)

    @cached_property
    def rows(self) -> torch.Tensor:
        """int64 [B, 1]."""
        return torch.arange(len(self.starts), device=self.device)[:, None]

    @cached_property
    def positions(self) -> torch.Tensor:
        """int64 [B, Q]; [1, Q] where all rows stand together."""
        starts = torch.tensor(self.starts[:1] if self.together else self.starts, device=self.device)
        return starts[:, None] + torch.arange(self.width, device=self.device)

    def hidden(self, dtype: torch.dtype, heads: int) -> torch.Tensor | None:
        """What is added to the scores, [B * N, Q, L]: -inf where a position lies ahead; None where none does."""
        if self.width == 1 and self.together:
            return None
        ahead = torch.arange(self.end, device=self.device) > self.positions[..., None]
        scores = torch.zeros(ahead.shape, dtype=dtype, device=self.device).masked_fill_(ahead, float("-inf"))
        return scores[:, None].expand(len(self.starts), heads, -1, -1).flatten(0, 1)


class Cache:
    """Keys and values of every layer. `lengths`: positions that each row holds; what stands behind them is written over.

    Positions are appended for all rows together and taken back row by row (`truncate`): so the padding of a shorter
    prompt goes, and what was proposed in vain. Raises ValueError when `length` positions are not enough.

    prefixes: of each layer the keys and values [N, P, H] that stand before all positions of every row; they do not count
    in `length` and `lengths`. Empty for none.
    """

    def __init__(
        self,
        layers: int,
        rows: int,
        heads: int,
        length: int,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
        kept_as: str = "auto",
        prefixes: Sequence[tuple[torch.Tensor, torch.Tensor]] = (),
    ) -> None:
        self.lengths = [0] * rows
        self.before = prefixes[0][0].shape[1] if prefixes else 0
        self.room, self.heads, self.device = length, heads, device
        shape = (rows, heads, self.before + length, width)

        def store() -> Store:
            if kept_as == "int8":
                return Int8(shape, dtype, device)
            return Exact(shape, FORMATS.get(kept_as, dtype), dtype, device)

        self.keys = [store() for _ in range(layers)]
        self.values = [store() for _ in range(layers)]
        start = Places((0,) * rows, self.before, device)
        for layer, pair in enumerate(prefixes):
            keys, values = (part.expand(rows, -1, -1, -1) for part in pair)
            self.append(layer, keys, values, start)

    def next_places(self, width: int) -> Places:
        """The `width` positions after those that each row holds, which are counted as held from now on."""
        places = Places(tuple(self.before + length for length in self.lengths), width, self.device)
        if places.end > self.before + self.room:
            needed = places.end - self.before
            raise ValueError(f"a cache of {self.room} positions cannot hold {needed}: make it longer")
        self.lengths = [length + width for length in self.lengths]
        return places

    def append(self, layer: int, key_BNQH: torch.Tensor, value_BNQH: torch.Tensor, places: Places) -> None:
        """Keeps what layer `layer` made of the positions at `places`."""
        self.keys[layer].write(key_BNQH, places)
        self.values[layer].write(value_BNQH, places)

    def read(self, layer: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, [B * N, end, H] each, in the weights' format; behind a row's end stands what was before."""
        return self.keys[layer].read(end), self.values[layer].read(end)

    def truncate(self, lengths: Sequence[int]) -> None:
        """Each row holds only its first positions from now on, at most as many as it did."""
        assert all(new <= old for new, old in zip(lengths, self.lengths, strict=True))
        self.lengths = list(lengths)

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows from now on, given in ascending order: nothing is computed for rows that have ended."""
        index = torch.tensor(rows, device=self.device)
        self.lengths = [self.lengths[row] for row in rows]
        for store in (*self.keys, *self.values):
            store.keep(index, self.before + max(self.lengths))


class Exact:
    """Numbers as they are, or rounded to another float format."""

    def __init__(
        self, shape: tuple[int, int, int, int], kept: torch.dtype, dtype: torch.dtype, device: torch.device
    ) -> None:
        # Zeros: what lies ahead is read with weight zero, which does not hide a NaN.
        self.kept_BNLH = torch.zeros(shape, dtype=kept, device=device)
        self.dtype = dtype

    def write(self, new_BNQH: torch.Tensor, places: Places) -> None:
        """See `Store`."""
        put(self.kept_BNLH, new_BNQH, places)

    def read(self, end: int) -> torch.Tensor:
        """See `Store`. No copy where the format is the weights' own."""
        return self.kept_BNLH.flatten(0, 1)[:, :end].to(self.dtype)

    def keep(self, rows: torch.Tensor, end: int) -> None:
        """See `Store`."""
        self.kept_BNLH = kept_rows(self.kept_BNLH, rows, end)


class Int8:
    """Numbers in 256 steps from the largest magnitude of their position and head to its negative: a quarter of fp32's
    room, and 4 bytes for the step of each position and head.
    """

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.kept_BNLH = torch.zeros(shape, dtype=torch.int8, device=device)
        self.steps_BNL1 = torch.zeros((*shape[:3], 1), dtype=torch.float32, device=device)
        self.dtype = dtype

    def write(self, new_BNQH: torch.Tensor, places: Places) -> None:
        """See `Store`."""
        steps = new_BNQH.abs().amax(-1, keepdim=True).float().div_(127).clamp_(min=1e-30)
        put(self.kept_BNLH, (new_BNQH / steps).round_().to(torch.int8), places)
        put(self.steps_BNL1, steps, places)

    def read(self, end: int) -> torch.Tensor:
        """See `Store`. One layer at a time is as large as it would be in the weights' format."""
        kept, steps = self.kept_BNLH.flatten(0, 1)[:, :end], self.steps_BNL1.flatten(0, 1)[:, :end]
        return torch.mul(kept, steps).to(self.dtype)

    def keep(self, rows: torch.Tensor, end: int) -> None:
        """See `Store`."""
        self.kept_BNLH = kept_rows(self.kept_BNLH, rows, end)
        self.steps_BNL1 = kept_rows(self.steps_BNL1, rows, end)


def put(kept_BNLH: torch.Tensor, new_BNQH: torch.Tensor, places: Places) -> None:
    """Writes each row's new positions where they stand."""
    if places.together:
        kept_BNLH.narrow(2, places.starts[0], places.width).copy_(new_BNQH)
        return
    kept_BNLH[places.rows, :, places.positions] = new_BNQH.transpose(1, 2).to(kept_BNLH.dtype)


def kept_rows(kept_BNLH: torch.Tensor, rows: torch.Tensor, end: int) -> torch.Tensor:
    """The first rows of the same room, after the rows to keep were moved there."""
    fewer = kept_BNLH[: len(rows)]
    fewer[:, :, :end] = kept_BNLH[rows, :, :end]
    return fewer
