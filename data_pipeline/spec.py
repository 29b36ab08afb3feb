"""What a model takes: the modes in which it sees pages, and how long a row may be."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from data_pipeline.resolution import Mode, grid_of, mode_of, positions, vision_tokens


@dataclass(frozen=True)
class BatchSpec:
    """Pages in one of `modes` each (`resolution.mode_of`), cut into patches of `patch` pixels; rows of at most
    `max_length` positions.

    glyphs: with the glyph maps of the views. texts: with the tokens of what each page says, for models that compress
    texts in place of pages. Rows are filled up to a multiple of `row_multiple` positions, as far as `max_length`
    allows: tensor ranks that share out the positions need as many each. every_size: a micro-batch has a view of every
    size, a zero one where no page needs it: ZeRO-3 wants the same modules to run on all ranks. reserved: positions before
    each sample that hold no token of it and carry no loss: the model has something of its own for them.
    """

    modes: Sequence[str]
    patch: int
    max_length: int
    glyphs: bool = False
    texts: bool = False
    row_multiple: int = 8
    every_size: bool = False
    reserved: int = 0

    @cached_property
    def parsed(self) -> tuple[Mode, ...]:
        """`modes`, parsed. Raises DataError for one that does not exist."""
        return tuple(map(mode_of, self.modes))

    def mode_of(self, key: str) -> Mode:
        """The mode of the pages of the record `key`: drawn by its key, the same in every epoch and layout."""
        return self.parsed[zlib.crc32(key.encode()) % len(self.parsed)]

    def positions(self, height: int, width: int, mode: Mode) -> int:
        """Positions that a page of these pixels takes in a row."""
        return positions(mode, self.patch, grid_of(width, height, mode))

    def vision_tokens(self, height: int, width: int, mode: Mode) -> int:
        """Vision tokens that it becomes, as the paper counts them."""
        return vision_tokens(mode, self.patch, grid_of(width, height, mode))

    @property
    def sizes(self) -> list[int]:
        """Pixels a side of all views that there may be, ascending."""
        return sorted({size for mode in self.parsed for size in mode.sizes})
