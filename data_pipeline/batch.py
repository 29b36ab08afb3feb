"""Records become micro-batches: token rows, labels, views of pages, and what stands at each `<image>` position.

A sample is `[bos] image positions of its pages, prompt, target [eos]`, after `BatchSpec.reserved` positions of padding's
token that count as its own; loss is on the target and its end only. A row holds one sample, or several one after the
other (`Collator.packed`), each as if it stood alone.
Pages stay uint8 (the model normalises them on its device), and a grey page's three channels share memory.

Every rank must run the encoder in every step, or ranks disagree on collectives: a micro-batch without any
page holds one zero view that stands nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_pipeline.errors import DataError, SampleError
from data_pipeline.predictions import Told
from data_pipeline.record import IGNORE_GLYPH, Record
from data_pipeline.resolution import Mode
from data_pipeline.shown import Shown, ViewStacks
from data_pipeline.spec import BatchSpec
from data_pipeline.strata import strata_of
from data_pipeline.tokenizer import Tokenizer

__all__ = ["BatchSpec", "Collator", "MicroBatch", "Sample", "Shown", "hole", "prompt_batch"]

NO_LOSS = -100
HOLE = "hole"  # kind of the record that stands where a sample could not be used
HOLE_POSITIONS = 2  # of a row: its begin and its end; after those that are reserved


@dataclass
class MicroBatch:
    """B rows of L positions, and the views of their pages in stacks of one size each.

    tokens, labels, positions: int64 [B, L]; labels[t] is tokens[t + 1] where loss is wanted, else -100.
    padding: bool [B, L], True where a row has ended. views: stacks uint8 [V, 3, S, S], S ascending. layout: int64, for
    each `<image>` token in the order of the rows the row of the table that stands there:

        [vision tokens of the first stack, view by view, row by row; of the second; …; newline; separator]

    shown: the pages, in the order in which `layout` has them. glyphs: for each stack uint8 [V, G, G] classes (255:
    unknown), or None. texts: int64 [views, T], what each page says, -1 beyond its end, in the order of the views;
    None unless `BatchSpec.texts`. keys, sources: of each row; of a packed one all its samples', parted by spaces.

    Of packed rows only (else None): bounds: int32 [S + 1], on the CPU wherever the rest is: where the samples begin in the
    rows laid end to end, and B * L; what fills up a row counts as a sample here. samples: int64 [B, L], the number of
    the sample that a position belongs to, counted through the micro-batch; -1 where a row has ended. `positions` begin at
    0 with each sample.

    strata: int64 [S, 2], of each sample in order its two strata (`strata.strata_of`); None where nobody collated records.

    Of what a teacher teaches (`taught.TaughtCollator`): twin: the same samples as it reads them, in the same order, each in a
    row of its own. told: its predictions at the labelled positions, in the order of the rows.
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
    bounds: Tensor | None = None
    samples: Tensor | None = None
    strata: Tensor | None = None
    twin: "MicroBatch | None" = None
    told: Told | None = None

    def weights(self) -> dict[str, float]:
        """What losses are averaged over: "tokens" with a label, "cells" of views with a known class, "pages" that a teacher
        sees as well.
        """
        tokens = float((self.labels != NO_LOSS).sum())
        cells = sum(float((maps != IGNORE_GLYPH).sum()) for maps in self.glyphs or ())
        pages = {} if self.twin is None else {"pages": float(len(self.shown))}
        return {"tokens": tokens, "cells": cells, **pages}

    @property
    def count(self) -> int:
        """Samples in all rows together."""
        return sum(len(row.split()) for row in self.keys)

    def shape(self) -> tuple[int, int]:
        """(rows, length)."""
        return self.tokens.shape[0], self.tokens.shape[1]

    def padded(self, length: int) -> "MicroBatch":
        """The same rows, filled up to `length` positions; packed rows have their full length."""
        more = length - self.tokens.shape[1]
        if not more:
            return self
        assert self.bounds is None, f"packed rows of {self.tokens.shape[1]} positions, others of {length}"
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
            samples=None if self.samples is None else self.samples.to(device),
            strata=None if self.strata is None else self.strata.to(device),
            twin=None if self.twin is None else self.twin.to(device),
            told=None if self.told is None else self.told.to(device),
        )


def _moved(stack: Tensor, device: torch.device | str) -> Tensor:
    grey = stack.stride(1) == 0
    return stack[:, :1].to(device).expand(-1, 3, -1, -1) if grey else stack.to(device)


@dataclass(frozen=True)
class Sample:
    """A record with its ids, [reserved, bos, images, prompt, target, eos]; those from number `first` on carry loss.

    mode: how its pages become views. text: the tokens of what they say, where `BatchSpec.texts`. vision_tokens: of all its
    pages, as the paper counts them.
    """

    record: Record
    ids: list[int]
    first: int
    mode: Mode
    text: list[int]
    vision_tokens: int = 0

    @property
    def kind(self) -> str:
        """Of its record."""
        return self.record.kind

    @property
    def text_tokens(self) -> int:
        """Of its target, without its end."""
        return max(len(self.ids) - self.first - 1, 0)


class Collator:
    """Makes a micro-batch of records. A pure function of its arguments: a sample does not depend on its
    neighbours.
    """

    def __init__(self, tokenizer: Tokenizer, spec: BatchSpec) -> None:
        self.tokenizer = tokenizer
        self.spec = spec

    def __call__(self, records: Sequence[Record], sources: Sequence[str]) -> MicroBatch:
        """One row a record, in order; `sources` are their names. SampleError when a row does not fit."""
        return self.rows([[self.sample(record)] for record in records], [[source] for source in sources])

    def sample(self, record: Record) -> Sample:
        """A record ready to stand in a row. Text without a page is cut where a row ends; SampleError ("too long") for
        other records that do not fit one.
        """
        mode, sizes = self.spec.mode_of(record.key), [page.shape[:2] for page in record.pages]
        images = sum(self.spec.positions(height, width, mode) for height, width in sizes)
        ids, first = self._ids(record, images)
        if len(ids) > self.spec.max_length:
            if record.pages:
                raise SampleError(
                    "too long",
                    f"record {record.key!r} ({record.source}) takes {len(ids)} positions, more than data.max_length="
                    f"{self.spec.max_length}; set data.max_length={len(ids)} or shorten pages",
                )
            del ids[self.spec.max_length :]
        text = self.tokenizer.encode(record.target) if self.spec.texts else []
        vision = sum(self.spec.vision_tokens(height, width, mode) for height, width in sizes)
        return Sample(record, ids, first, mode, text, vision)

    def positions(self, key: str, prompt: str, target: str, sizes: Sequence[tuple[int, int]]) -> int:
        """Positions of a sample whose pages have these (height, width), without making it; above `max_length`, too long."""
        mode = self.spec.mode_of(key)
        text = len(self.tokenizer.encode(prompt)) + len(self.tokenizer.encode(target))
        pages = sum(self.spec.positions(height, width, mode) for height, width in sizes)
        return self.spec.reserved + text + 2 + pages

    @property
    def digest(self) -> str:
        """Of all that decides `positions`."""
        digest = f"{self.tokenizer.digest}/{self.spec.patch}/{self.spec.max_length}/{','.join(self.spec.modes)}"
        return f"{digest}/{self.spec.reserved}" if self.spec.reserved else digest

    def rows(self, rows: Sequence[Sequence[Sample]], sources: Sequence[Sequence[str]]) -> MicroBatch:
        """A row for each sequence of samples, at the length of the longest; `sources` are the samples' names."""
        longest = max(sum(len(sample.ids) for sample in row) for row in rows)
        multiple = self.spec.row_multiple
        length = min(-(-longest // multiple) * multiple, self.spec.max_length)
        return self._assembled(rows, sources, length, {})

    def packed(self, rows: Sequence[Sequence[Sample]], sources: Sequence[Sequence[str]]) -> MicroBatch:
        """The same, with rows of `max_length` positions in which each sample is as if it stood alone."""
        length = self.spec.max_length
        return self._assembled(
            rows, sources, length, _borders([[len(sample.ids) for sample in row] for row in rows], length)
        )

    def _assembled(
        self,
        rows: Sequence[Sequence[Sample]],
        sources: Sequence[Sequence[str]],
        length: int,
        borders: dict[str, Any],
    ) -> MicroBatch:
        stacks = ViewStacks(self.spec)
        for number, row in enumerate(rows):
            for sample in row:
                for index, page in enumerate(sample.record.pages):
                    stacks.add(number, page, sample.mode, sample.record if index == 0 else None, sample.text)
        names: dict[str, Any] = {
            "keys": [" ".join(sample.record.key for sample in row) for row in rows],
            "sources": [" ".join(row) for row in sources],
            "strata": torch.tensor(strata_of([sample for row in rows for sample in row])),
        }
        ids = [[(sample.ids, sample.first) for sample in row] for row in rows]
        return MicroBatch(**_tensors(ids, length, self.tokenizer.pad), **stacks.finish(), **names, **borders)

    def _ids(self, record: Record, images: int) -> tuple[list[int], int]:
        """A sample's ids, and the number of the first one that carries loss (all of them, for a hole: none)."""
        prompt = [
            *[self.tokenizer.pad] * self.spec.reserved,
            self.tokenizer.bos,
            *[self.tokenizer.image] * images,
            *self.tokenizer.encode(record.prompt),
        ]
        ids = [*prompt, *self.tokenizer.encode(record.target), self.tokenizer.eos]
        return ids, len(ids) if record.kind == HOLE else len(prompt)


def _tensors(rows: Sequence[Sequence[tuple[list[int], int]]], length: int, pad: int) -> dict[str, Any]:
    """tokens, labels, positions and padding, [B, length]. rows: of each sample the ids, and which is the first with loss."""
    tokens = np.full((len(rows), length), pad, dtype=np.int64)
    labels = np.full((len(rows), length), NO_LOSS, dtype=np.int64)
    padding = np.ones((len(rows), length), dtype=bool)
    positions = np.tile(np.arange(length, dtype=np.int64), (len(rows), 1))
    for number, row in enumerate(rows):
        begin = 0
        for ids, first in row:
            end = begin + len(ids)
            tokens[number, begin:end] = ids
            padding[number, begin:end] = False
            labels[number, begin + first - 1 : end - 1] = ids[first:]
            positions[number, begin:] = np.arange(length - begin)
            begin = end
    arrays = {"tokens": tokens, "labels": labels, "positions": positions, "padding": padding}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _borders(lengths: Sequence[Sequence[int]], length: int) -> dict[str, Tensor]:
    """bounds and samples of packed rows whose samples have these lengths."""
    bounds, samples, number = [0], torch.full((len(lengths), length), -1), 0
    for row, counts in enumerate(lengths):
        begin = 0
        for count in counts:
            samples[row, begin : begin + count] = number
            begin, number = begin + count, number + 1
            bounds.append(row * length + begin)
        if begin < length:
            bounds.append((row + 1) * length)
    return {"bounds": torch.tensor(bounds, dtype=torch.int32), "samples": samples}


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
    rows: list[list[int]] = []
    stacks, asked = ViewStacks(replace(spec, glyphs=False)), tokenizer.encode(prompt)
    for number, page in enumerate(pages):
        text = tokenizer.encode(texts[number]) if spec.texts else []
        images = stacks.add(number, page, spec.parsed[0], None, text)
        ids = [*[tokenizer.pad] * spec.reserved, tokenizer.bos, *[tokenizer.image] * images, *asked]
        if len(ids) >= spec.max_length:
            raise DataError(f"page and prompt take {len(ids)} positions: set data.max_length= above that")
        rows.append(ids)
    names: dict[str, Any] = {
        "keys": [str(number) for number in range(len(pages))],
        "sources": [""] * len(pages),
    }
    unlabelled = [[(ids, len(ids))] for ids in rows]
    return MicroBatch(**_tensors(unlabelled, max(map(len, rows)), tokenizer.pad), **stacks.finish(), **names)
