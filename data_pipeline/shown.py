"""The views of a micro-batch's pages, collected in stacks of one size each, and where their tokens stand."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_pipeline.record import IGNORE_GLYPH, Record
from data_pipeline.resolution import (
    GLYPH_CELLS_PER_PATCH,
    Grid,
    Mode,
    laid_out,
    positions,
    token_side,
)
from data_pipeline.spec import BatchSpec
from data_pipeline.views import placements, resample_glyphs, views


@dataclass(frozen=True)
class Shown:
    """A page in a micro-batch: its row, its `count` places in `MicroBatch.layout` from `first` on, and how it is cut.

    overview: (size, number in the stack of that size); tiles likewise, in order.
    """

    row: int
    first: int
    count: int
    mode: str
    grid: Grid
    overview: tuple[int, int]
    tiles: tuple[tuple[int, int], ...]


@dataclass
class _Stack:
    """Views of one size under construction: pixels [3, S, S], glyph maps [G, G], what the page says."""

    pixels: list[np.ndarray] = field(default_factory=list)
    glyphs: list[np.ndarray] = field(default_factory=list)
    texts: list[Sequence[int]] = field(default_factory=list)


class ViewStacks:
    """Collects pages; `finish` gives the fields of MicroBatch that they make."""

    def __init__(self, spec: BatchSpec) -> None:
        self.spec = spec
        self._stacks: dict[int, _Stack] = {}
        self._shown: list[Shown] = []
        self._modes: list[Mode] = []

    def add(
        self, row: int, page: np.ndarray, mode: Mode, record: Record | None, text: Sequence[int] = ()
    ) -> int:
        """Adds a page of `row`; returns how many `<image>` tokens it needs. record: whose glyph map is the page's, if
        it has one (that of its first page); None: unknown. text: what the page says, where `spec.texts`.
        """
        shown = views(page, mode)
        maps = self._glyph_maps(page, mode, record)
        numbers = [
            self._put(pixels, maps[index], text)
            for index, pixels in enumerate((shown.overview, *shown.tiles))
        ]
        count = positions(mode, self.spec.patch, shown.grid)
        first = self._shown[-1].first + self._shown[-1].count if self._shown else 0
        self._shown.append(Shown(row, first, count, mode.name, shown.grid, numbers[0], tuple(numbers[1:])))
        self._modes.append(mode)
        return count

    def finish(self) -> dict[str, Any]:
        """views, layout, shown, glyphs and texts of the micro-batch."""
        needed = self.spec.sizes if self.spec.every_size else [] if self._stacks else self.spec.sizes[:1]
        for size in needed:
            if size not in self._stacks:
                zero = np.broadcast_to(np.zeros((size, size), np.uint8), (3, size, size))
                self._put(zero, self._unknown(size), ())
        stacks = [self._stacks[size] for size in sorted(self._stacks)]
        glyphs = tuple(torch.from_numpy(np.stack(stack.glyphs)) for stack in stacks)
        return {
            "views": tuple(_stacked(stack.pixels) for stack in stacks),
            "layout": torch.from_numpy(self._layout()),
            "shown": tuple(self._shown),
            "glyphs": glyphs if self.spec.glyphs else None,
            "texts": _texts([text for stack in stacks for text in stack.texts]) if self.spec.texts else None,
        }

    def _put(self, pixels: np.ndarray, glyphs: np.ndarray, text: Sequence[int]) -> tuple[int, int]:
        size = pixels.shape[-1]
        stack = self._stacks.setdefault(size, _Stack())
        stack.pixels.append(pixels)
        stack.glyphs.append(glyphs)
        stack.texts.append(text)
        return size, len(stack.pixels) - 1

    def _glyph_maps(self, page: np.ndarray, mode: Mode, record: Record | None) -> list[np.ndarray]:
        """Of the overview, then of each tile, uint8 [G, G]."""
        shape = page.shape[:2]
        places = placements(shape, mode)
        if not self.spec.glyphs or record is None or record.glyphs is None:
            return [self._unknown(place.size) for place in places]
        return [
            resample_glyphs(record.glyphs, record.glyph_cell, shape, place, self._cells(place.size))
            for place in places
        ]

    def _cells(self, size: int) -> int:
        return GLYPH_CELLS_PER_PATCH * size // self.spec.patch

    def _unknown(self, size: int) -> np.ndarray:
        cells = self._cells(size) if self.spec.glyphs else 0
        return np.full((cells, cells), IGNORE_GLYPH, dtype=np.uint8)

    def _layout(self) -> np.ndarray:
        """MicroBatch.layout, int64."""
        patch, begin, end = self.spec.patch, {}, 0
        for size in sorted(self._stacks):
            begin[size] = end
            end += len(self._stacks[size].pixels) * token_side(size, patch) ** 2
        parts = [np.zeros(0, np.int64)]
        for page, mode in zip(self._shown, self._modes, strict=True):
            overview, *tiles = (
                begin[size] + number * token_side(size, patch) ** 2
                for size, number in (page.overview, *page.tiles[:1])
            )
            parts.append(laid_out(mode, patch, page.grid, overview, tiles[0] if tiles else 0, end, end + 1))
        return np.concatenate(parts)


def _stacked(pixels: Sequence[np.ndarray]) -> Tensor:
    """uint8 [V, 3, S, S]; one channel in memory where all are grey."""
    if all(view.strides[0] == 0 for view in pixels):
        return torch.from_numpy(np.stack([view[0] for view in pixels]))[:, None].expand(-1, 3, -1, -1)
    return torch.from_numpy(np.stack(pixels))


def _texts(texts: Sequence[Sequence[int]]) -> Tensor:
    """int64 [views, T], -1 beyond a text's end; T is at least 1."""
    longest = max(1, max(map(len, texts)))
    return torch.tensor([[*text, *[-1] * (longest - len(text))] for text in texts])
