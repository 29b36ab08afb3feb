"""Records become micro-batches: token rows, labels, views of pages, and which row each view belongs to.

A row is `[bos] image positions of its pages, prompt, target [eos]`; loss is on the target and its end only.
Pages stay uint8 (the model normalises them on its device), and a grey page's three channels share memory.

Every rank must run the encoder in every step, or ranks disagree on collectives: a micro-batch without any
page holds one zero view that belongs to no row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_pipeline.errors import DataError
from data_pipeline.record import IGNORE_GLYPH, Record
from data_pipeline.resolution import Mode, mode_for, resample_glyphs, sequence_length, view
from data_pipeline.tokenizer import Tokenizer

NO_LOSS = -100
HOLE = "hole"  # kind of the record that stands where a sample could not be used


@dataclass
class MicroBatch:
    """B rows of L positions and V views of S x S pixels.

    tokens, labels, positions: int64 [B, L]; labels[t] is tokens[t + 1] where loss is wanted, else -100.
    padding: bool [B, L], True where a row has ended. views: uint8 [V, 3, S, S]. view_of: int64 [V], the row
    of each view, in the order of the rows' image tokens; -1 for the zero view of a micro-batch without pages.
    glyphs: uint8 [V, G, G] classes (255: unknown), or None. keys, sources: of each row.
    """

    tokens: Tensor
    labels: Tensor
    positions: Tensor
    padding: Tensor
    views: Tensor
    view_of: Tensor
    glyphs: Tensor | None
    keys: list[str]
    sources: list[str]

    def weights(self) -> dict[str, float]:
        """What losses are averaged over: "tokens" with a label, "cells" of real views with a known class."""
        tokens = float((self.labels != NO_LOSS).sum())
        if self.glyphs is None:
            return {"tokens": tokens, "cells": 0.0}
        known = (self.glyphs != IGNORE_GLYPH) & (self.view_of >= 0)[:, None, None]
        return {"tokens": tokens, "cells": float(known.sum())}

    def shape(self) -> tuple[int, int]:
        """(rows, length)."""
        return self.tokens.shape[0], self.tokens.shape[1]

    def padded(self, length: int) -> "MicroBatch":
        """The same rows, filled up to `length` positions."""
        more = length - self.tokens.shape[1]
        if not more:
            return self
        return replace(
            self,
            tokens=F.pad(self.tokens, (0, more)),
            labels=F.pad(self.labels, (0, more), value=NO_LOSS),
            positions=torch.arange(length, device=self.tokens.device).expand(len(self.tokens), -1),
            padding=F.pad(self.padding, (0, more), value=True),
        )

    def to(self, device: torch.device | str) -> "MicroBatch":
        """The micro-batch on a device; grey views travel as one channel."""
        grey = self.views.stride(1) == 0
        views = self.views[:, :1].to(device).expand(-1, 3, -1, -1) if grey else self.views.to(device)
        return replace(
            self,
            tokens=self.tokens.to(device),
            labels=self.labels.to(device),
            positions=self.positions.to(device),
            padding=self.padding.to(device),
            views=views,
            view_of=self.view_of.to(device),
            glyphs=None if self.glyphs is None else self.glyphs.to(device),
        )


@dataclass(frozen=True)
class BatchSpec:
    """What the model takes: views of `image_size` pixels cut into patches of `patch`, rows of at most
    `max_length` positions, glyph maps of `glyph_cells` cells a side (None: no glyph maps).

    Rows are filled up to a multiple of `row_multiple` positions, as far as `max_length` allows: tensor ranks
    that share out the positions need as many each.
    """

    image_size: int
    patch: int
    max_length: int
    glyph_cells: int | None = None
    row_multiple: int = 8

    @property
    def mode(self) -> Mode:
        """How pages become views."""
        return mode_for(self.image_size)

    @property
    def image_positions(self) -> int:
        """Positions that one page takes in a row."""
        return sequence_length(self.image_size, self.patch)


class Collator:
    """Makes a micro-batch of records. A pure function of its arguments: a row does not depend on its
    neighbours.
    """

    def __init__(self, tokenizer: Tokenizer, spec: BatchSpec) -> None:
        self.tokenizer = tokenizer
        self.spec = spec
        self._image = [tokenizer.image] * spec.image_positions

    def __call__(self, records: Sequence[Record], sources: Sequence[str]) -> MicroBatch:
        """One row a record, in order; `sources` are their names. DataError when a row does not fit."""
        rows = [self._row(record) for record in records]
        longest = max(len(ids) for ids, _ in rows)
        multiple = self.spec.row_multiple
        length = min(-(-longest // multiple) * multiple, self.spec.max_length)
        pages = [(row, record, page) for row, record in enumerate(records) for page in record.pages]
        return MicroBatch(
            **_token_tensors(rows, length, self.tokenizer.pad),
            views=_stack_views([page for _, _, page in pages], self.spec),
            view_of=torch.tensor([row for row, _, _ in pages] or [-1]),
            glyphs=self._glyphs(records),
            keys=[record.key for record in records],
            sources=list(sources),
        )

    def _row(self, record: Record) -> tuple[list[int], int]:
        """A row's ids, and the number of the first one that carries loss (all of them, for a hole: none)."""
        prompt = [self.tokenizer.bos] + self._image * len(record.pages) + self.tokenizer.encode(record.prompt)
        ids = [*prompt, *self.tokenizer.encode(record.target), self.tokenizer.eos]
        if len(ids) > self.spec.max_length:
            raise DataError(
                f"record {record.key!r} ({record.source}) takes {len(ids)} positions, more than "
                f"data.max_length={self.spec.max_length}; set data.max_length={len(ids)} or shorten pages"
            )
        return ids, len(ids) if record.kind == HOLE else len(prompt)

    def _glyphs(self, records: Sequence[Record]) -> Tensor | None:
        """Glyph maps of all views, uint8 [V, G, G]; unknown for views that have none (a second page, a zero
        view).
        """
        cells = self.spec.glyph_cells
        if cells is None:
            return None
        count = max(sum(len(record.pages) for record in records), 1)
        maps = np.full((count, cells, cells), IGNORE_GLYPH, dtype=np.uint8)
        first = 0
        for record in records:
            if record.glyphs is not None:
                shape = record.pages[0].shape[:2]
                maps[first] = resample_glyphs(
                    record.glyphs, record.glyph_cell, shape, self.spec.image_size, cells
                )
            first += len(record.pages)
        return torch.from_numpy(maps)


def hole(key: str, source: str) -> Record:
    """A row without page and loss, in the place of a sample that cannot be used: every rank stays aligned."""
    return Record(key, HOLE, "", "", "", "", source or HOLE, HOLE, 0)


def prompt_batch(
    pages: Sequence[np.ndarray], prompt: str, tokenizer: Tokenizer, spec: BatchSpec
) -> MicroBatch:
    """One row a page that ends after the prompt, all of one length, for generation; DataError if it does not
    fit.

    pages: uint8 [height, width] or [height, width, 3], at least one.
    """
    ids = [tokenizer.bos] + [tokenizer.image] * spec.image_positions + tokenizer.encode(prompt)
    if len(ids) >= spec.max_length:
        raise DataError(f"page and prompt take {len(ids)} positions: set data.max_length= above that")
    rows = [(ids, len(ids)) for _ in pages]
    names = [str(number) for number in range(len(pages))]
    return MicroBatch(
        **_token_tensors(rows, len(ids), tokenizer.pad),
        views=_stack_views(pages, spec),
        view_of=torch.arange(len(pages)),
        glyphs=None,
        keys=names,
        sources=[""] * len(pages),
    )


def _token_tensors(rows: Sequence[tuple[list[int], int]], length: int, pad: int) -> dict[str, Tensor]:
    """tokens, labels, positions and padding, [B, length], of rows given as (ids, number of the first with
    loss).
    """
    tokens = np.full((len(rows), length), pad, dtype=np.int64)
    labels = np.full((len(rows), length), NO_LOSS, dtype=np.int64)
    padding = np.ones((len(rows), length), dtype=bool)
    for row, (ids, first) in enumerate(rows):
        tokens[row, : len(ids)] = ids
        padding[row, : len(ids)] = False
        labels[row, first - 1 : len(ids) - 1] = ids[first:]
    positions = np.tile(np.arange(length, dtype=np.int64), (len(rows), 1))
    arrays = {"tokens": tokens, "labels": labels, "positions": positions, "padding": padding}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _stack_views(pages: Sequence[np.ndarray], spec: BatchSpec) -> Tensor:
    """Views of all pages, uint8 [V, 3, S, S]; one zero view when there are none."""
    if not pages:
        return torch.zeros(1, 1, spec.image_size, spec.image_size, dtype=torch.uint8).expand(-1, 3, -1, -1)
    views = [view(page, spec.mode) for page in pages]
    if all(page.ndim == 2 for page in pages):
        return torch.from_numpy(np.stack([channels[0] for channels in views]))[:, None].expand(-1, 3, -1, -1)
    return torch.from_numpy(np.stack(views))
