"""Records become micro-batches: token rows, labels, views of pages, and what stands at each `<image>` position.

A row is `[bos] image positions of its pages, prompt, target [eos]`; loss is on the target and its end only.
Pages stay uint8 (the model normalises them on its device), and a grey page's three channels share memory.

Every rank must run the encoder in every step, or ranks disagree on collectives: a micro-batch without any
page holds one zero view that stands nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_pipeline.errors import DataError
from data_pipeline.record import IGNORE_GLYPH, Record
from data_pipeline.shown import Shown, ViewStacks
from data_pipeline.spec import BatchSpec
from data_pipeline.tokenizer import Tokenizer

__all__ = ["BatchSpec", "Collator", "MicroBatch", "Shown", "hole", "prompt_batch"]

NO_LOSS = -100
HOLE = "hole"  # kind of the record that stands where a sample could not be used


@dataclass
class MicroBatch:
    """B rows of L positions, and the views of their pages in stacks of one size each.

    tokens, labels, positions: int64 [B, L]; labels[t] is tokens[t + 1] where loss is wanted, else -100.
    padding: bool [B, L], True where a row has ended. views: stacks uint8 [V, 3, S, S], S ascending. layout: int64, for
    each `<image>` token in the order of the rows the row of the table that stands there:

        [vision tokens of the first stack, view by view, row by row; of the second; …; newline; separator]

    shown: the pages, in the order in which `layout` has them. glyphs: for each stack uint8 [V, G, G] classes (255:
    unknown), or None. texts: int64 [views, T], what each page says, -1 beyond its end, in the order of the views;
    None unless `BatchSpec.texts`. keys, sources: of each row.
    """

    tokens: Tensor
    labels: Tensor
    positions: Tensor
    padding: Tensor
    views: tuple[Tensor, ...]
    layout: Tensor
    shown: tuple[Shown, ...]
    glyphs: tuple[Tensor, ...] | None
    keys: list[str]
    sources: list[str]
    texts: Tensor | None = None

    def weights(self) -> dict[str, float]:
        """What losses are averaged over: "tokens" with a label, "cells" of views with a known class."""
        tokens = float((self.labels != NO_LOSS).sum())
        cells = sum(float((maps != IGNORE_GLYPH).sum()) for maps in self.glyphs or ())
        return {"tokens": tokens, "cells": cells}

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
        return replace(
            self,
            tokens=self.tokens.to(device),
            labels=self.labels.to(device),
            positions=self.positions.to(device),
            padding=self.padding.to(device),
            views=tuple(_moved(stack, device) for stack in self.views),
            layout=self.layout.to(device),
            glyphs=None if self.glyphs is None else tuple(maps.to(device) for maps in self.glyphs),
            texts=None if self.texts is None else self.texts.to(device),
        )


def _moved(stack: Tensor, device: torch.device | str) -> Tensor:
    grey = stack.stride(1) == 0
    return stack[:, :1].to(device).expand(-1, 3, -1, -1) if grey else stack.to(device)


@dataclass
class _Rows:
    """Rows under construction: ids, and the number of the first that carries loss."""

    ids: list[list[int]] = field(default_factory=list)
    first: list[int] = field(default_factory=list)

    def tensors(self, length: int, pad: int) -> dict[str, Any]:
        """tokens, labels, positions and padding, [B, length]."""
        count = len(self.ids)
        tokens = np.full((count, length), pad, dtype=np.int64)
        labels = np.full((count, length), NO_LOSS, dtype=np.int64)
        padding = np.ones((count, length), dtype=bool)
        for row, (ids, first) in enumerate(zip(self.ids, self.first, strict=True)):
            tokens[row, : len(ids)] = ids
            padding[row, : len(ids)] = False
            labels[row, first - 1 : len(ids) - 1] = ids[first:]
        positions = np.tile(np.arange(length, dtype=np.int64), (count, 1))
        arrays = {"tokens": tokens, "labels": labels, "positions": positions, "padding": padding}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


class Collator:
    """Makes a micro-batch of records. A pure function of its arguments: a row does not depend on its
    neighbours.
    """

    def __init__(self, tokenizer: Tokenizer, spec: BatchSpec) -> None:
        self.tokenizer = tokenizer
        self.spec = spec

    def __call__(self, records: Sequence[Record], sources: Sequence[str]) -> MicroBatch:
        """One row a record, in order; `sources` are their names. DataError when a row does not fit."""
        rows, stacks = _Rows(), ViewStacks(self.spec)
        for number, record in enumerate(records):
            mode = self.spec.mode_of(record.key)
            text = self.tokenizer.encode(record.target) if self.spec.texts else []
            images = sum(
                stacks.add(number, page, mode, record if index == 0 else None, text)
                for index, page in enumerate(record.pages)
            )
            ids, first = self._row(record, images)
            rows.ids.append(ids)
            rows.first.append(first)
        longest, multiple = max(map(len, rows.ids)), self.spec.row_multiple
        length = min(-(-longest // multiple) * multiple, self.spec.max_length)
        names: dict[str, Any] = {"keys": [record.key for record in records], "sources": list(sources)}
        return MicroBatch(**rows.tensors(length, self.tokenizer.pad), **stacks.finish(), **names)

    def _row(self, record: Record, images: int) -> tuple[list[int], int]:
        """A row's ids, and the number of the first one that carries loss (all of them, for a hole: none)."""
        prompt = [
            self.tokenizer.bos,
            *[self.tokenizer.image] * images,
            *self.tokenizer.encode(record.prompt),
        ]
        ids = [*prompt, *self.tokenizer.encode(record.target), self.tokenizer.eos]
        if len(ids) > self.spec.max_length:
            raise DataError(
                f"record {record.key!r} ({record.source}) takes {len(ids)} positions, more than "
                f"data.max_length={self.spec.max_length}; set data.max_length={len(ids)} or shorten pages"
            )
        return ids, len(ids) if record.kind == HOLE else len(prompt)


def hole(key: str, source: str) -> Record:
    """A row without page and loss, in the place of a sample that cannot be used: every rank stays aligned."""
    return Record(key, HOLE, "", "", "", "", source or HOLE, HOLE, 0)


def prompt_batch(
    pages: Sequence[np.ndarray],
    prompt: str,
    tokenizer: Tokenizer,
    spec: BatchSpec,
    texts: Sequence[str] = (),
) -> MicroBatch:
    """One row a page that ends after the prompt, for generation, in the first mode of `spec`; shorter rows are padded
    at their end. DataError if one does not fit.

    pages: uint8 [height, width] or [height, width, 3], at least one. texts: what the pages say, for a model that is
    given texts in their place (`spec.texts`).
    """
    rows, stacks, asked = _Rows(), ViewStacks(replace(spec, glyphs=False)), tokenizer.encode(prompt)
    for number, page in enumerate(pages):
        text = tokenizer.encode(texts[number]) if spec.texts else []
        images = stacks.add(number, page, spec.parsed[0], None, text)
        ids = [tokenizer.bos, *[tokenizer.image] * images, *asked]
        if len(ids) >= spec.max_length:
            raise DataError(f"page and prompt take {len(ids)} positions: set data.max_length= above that")
        rows.ids.append(ids)
        rows.first.append(len(ids))
    names: dict[str, Any] = {
        "keys": [str(number) for number in range(len(pages))],
        "sources": [""] * len(pages),
    }
    length = max(map(len, rows.ids))
    return MicroBatch(**rows.tensors(length, tokenizer.pad), **stacks.finish(), **names)
