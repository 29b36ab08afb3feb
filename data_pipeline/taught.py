"""Micro-batches for a student with a teacher: beside each, the same samples as the teacher reads them, or what it told of them.

A teacher may see the same pages in other modes, with more vision tokens, so that its rows are longer and every text stands
elsewhere in them. What is the same is the text: the labelled positions of each sample, in order. Twins have a row a sample,
also where the student's rows are packed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from data_pipeline.batch import Collator, MicroBatch, Sample
from data_pipeline.errors import SampleError
from data_pipeline.predictions import PredictionReader, Told
from data_pipeline.record import Record
from data_pipeline.spec import BatchSpec
from data_pipeline.tokenizer import Tokenizer


@dataclass(frozen=True)
class TaughtSample(Sample):
    """A sample with its twin, or with what was told of it."""

    twin: Sample | None = None
    told: Told | None = None


class TaughtCollator(Collator):
    """teacher: what a teacher that runs along takes. told: predictions to look up in its place."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        spec: BatchSpec,
        teacher: BatchSpec | None = None,
        told: PredictionReader | None = None,
    ) -> None:
        super().__init__(tokenizer, spec)
        self.told = told
        self.teacher = None if teacher is None else Collator(tokenizer, teacher)

    def sample(self, record: Record) -> Sample:
        """SampleError as well for one that does not fit the teacher's row, or of which nothing was told."""
        sample = super().sample(record)
        twin = None if self.teacher is None else self._twin(record)
        if twin is not None and not record.pages:  # cut to the shorter of both rows
            count = min(len(sample.ids) - sample.first, len(twin.ids) - twin.first)
            del sample.ids[sample.first + max(count, 0) :], twin.ids[twin.first + max(count, 0) :]
        told = None if self.told is None else self.told.find(record.key, sample.ids[sample.first :])
        known = {field.name: getattr(sample, field.name) for field in fields(sample)}
        return TaughtSample(**known, twin=twin, told=told)

    def _twin(self, record: Record) -> Sample:
        assert self.teacher is not None
        try:
            return self.teacher.sample(record)
        except SampleError as error:
            if error.reason != "too long":
                raise
            raise SampleError(
                "too long for the teacher",
                f"record {record.key!r} ({record.source}) does not fit the {self.teacher.spec.max_length} positions of the "
                f"teacher in distill.teacher_modes={list(self.teacher.spec.modes)}; choose modes of fewer tokens",
            ) from None

    def _assembled(
        self,
        rows: Sequence[Sequence[Sample]],
        sources: Sequence[Sequence[str]],
        length: int,
        borders: dict[str, Any],
    ) -> MicroBatch:
        batch = super()._assembled(rows, sources, length, borders)
        samples = [sample for row in rows for sample in row]
        if self.teacher is not None:
            twins = [[sample.twin] for sample in samples if isinstance(sample, TaughtSample) and sample.twin]
            names = [[name] for row in sources for name in row]
            batch = replace(batch, twin=self.teacher.rows(twins, names))
        if self.told is not None:
            told = [sample.told for sample in samples if isinstance(sample, TaughtSample) and sample.told]
            batch = replace(batch, told=Told(*(torch.cat(parts) for parts in zip(*told, strict=True))))
        return batch
