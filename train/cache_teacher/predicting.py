"""A teacher that predicts: records in, samples of predictions out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_pipeline.batch import NO_LOSS, Collator, Sample
from data_pipeline.errors import SampleError
from data_pipeline.prediction_sets import Facts
from data_pipeline.predictions import encode
from data_pipeline.record import Record
from parallel import checkpoint as checkpoints
from parallel.device import device
from parallel.layers.divergence import log_softmaxes, top_predictions
from train.cache_teacher.config import CacheConfig
from train.config import ParallelConfig
from train.distill.identity import checkpoint_digest
from train.distill.teacher import Lesson, Teacher
from train.find_run import locate
from train.load import load_trained

POSITIONS = 1024  # whose logits exist at once


@dataclass(frozen=True)
class Predictor:
    """A teacher with what is asked of it."""

    teacher: Teacher
    collator: Collator
    config: CacheConfig
    vocabulary: int
    model: str  # digest of the checkpoint

    @classmethod
    def of(cls, config: CacheConfig, sizes: ParallelConfig) -> "Predictor":
        """Loads the teacher, split over tensor ranks."""
        found = checkpoints.newest(locate(Path(config.teacher), "teacher").checkpoints)
        trained = load_trained(Path(config.teacher), sizes, "teacher")
        assert found is not None  # load_trained refuses a run without a checkpoint
        decoder, unit = trained.config.model.decoder, np.lcm(8, config.tensor).item()
        length = decoder.max_length // unit * unit
        modes = tuple(config.modes or trained.spec.modes)
        spec = replace(trained.spec, modes=modes, max_length=length, row_multiple=unit)
        trained.model.requires_grad_(False)
        return cls(
            Teacher(trained.model, spec, decoder.width),
            Collator(trained.tokenizer, spec),
            config,
            decoder.vocab_size,
            checkpoint_digest(found),
        )

    def facts(self, data: str) -> Facts:
        """Of the predictions of a shard set with this digest."""
        config, collator = self.config, self.collator
        top_k = min(config.top_k, self.vocabulary)
        return Facts(
            data, collator.tokenizer.digest, self.vocabulary, top_k, config.temperature, str(locate(Path(config.teacher)).folder),
            self.model,
            list(collator.spec.modes),
        )  # fmt: skip

    def samples(self, records: Iterator[Record], refused: Counter[str]) -> Iterator[dict[str, Any]]:
        """What is predicted of the records; those that do not fit the teacher are counted in `refused`."""
        ready = self._ready(records, refused)
        while batch := list(islice(ready, self.config.batch_size)):
            yield from self._told(batch)

    def _ready(self, records: Iterator[Record], refused: Counter[str]) -> Iterator[Sample]:
        for record in records:
            try:
                yield self.collator.sample(record)
            except SampleError as error:
                refused[error.reason] += 1

    @torch.no_grad()
    def _told(self, samples: Sequence[Sample]) -> Iterator[dict[str, Any]]:
        batch = self.collator.rows([[sample] for sample in samples], [[""] for _ in samples]).to(device())
        ids, logs = self._likeliest(self.teacher(batch))
        counts = (batch.labels != NO_LOSS).sum(1).tolist()
        for sample, its_ids, its_logs in zip(samples, ids.split(counts), logs.split(counts), strict=True):
            labels = np.array(sample.ids[sample.first :], dtype=np.int32)
            yield encode(sample.record.key, labels, its_ids.numpy(), its_logs.numpy())

    def _likeliest(self, lesson: Lesson) -> tuple[torch.Tensor, torch.Tensor]:
        """ids [N, K] and log-probabilities [N, K + 1] on the CPU, a block of positions at a time."""
        group = self.teacher.model.decoder.output_layer.tp_group
        found = []
        for first in range(0, max(len(lesson.source.rows), 1), POSITIONS):
            logits = lesson.source.block(slice(first, first + POSITIONS)).float()
            (logs,) = log_softmaxes([logits / self.config.temperature], group)
            found.append(top_predictions(logs, self.config.top_k, group))
        return torch.cat([one.ids for one in found]).cpu(), torch.cat([one.logs for one in found]).cpu()
