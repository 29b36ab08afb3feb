"""What a student is drawn to beside the next token: its teacher's predictions, its last hidden states, its vision tokens.

The teacher reads the same samples, usually the same pages in more vision tokens; what corresponds are the labelled positions
of each sample, in order. It is shown the text as it is, also where the student is shown it with noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data_pipeline.batch import MicroBatch
from data_pipeline.predictions import Told
from parallel.layers import Asked, Divergence, Predictions, Teaching
from parallel.pipeline import StageOutput
from train.config import DistillConfig
from train.distill.teacher import Lesson, Teacher
from train.model.optical import ModelOutput
from train.objective.distances import DISTANCES, of_pages, of_rows
from train.objective.next_token import NextToken, with_noise


@dataclass(frozen=True)
class Distill:
    """next_token: with the maps of glyphs. teacher: that runs along; None where batches hold what one told."""

    next_token: NextToken
    settings: DistillConfig
    teacher: Teacher | None = None

    def __call__(
        self, module: torch.nn.Module, batch: MicroBatch, normalizers: Mapping[str, float]
    ) -> StageOutput:
        """As `NextToken`, with more sums: "divergence" in nats and "hidden" over tokens, "features" over pages."""
        settings, lesson = self.settings, None
        if self.teacher is not None:
            assert batch.twin is not None, "the teacher's batch was not made: TaughtCollator"
            lesson = self.teacher(batch.twin)
        output = module(
            with_noise(batch, self.next_token.input_noise),
            with_glyphs=self.next_token.with_glyphs,
            asked=Asked(batch.labels, True, self._teaching(batch, lesson), rows=settings.hidden > 0, each=self.next_token.strata),
            with_vision=settings.features > 0,
        )
        loss, sums = self._predictions(batch, output, normalizers["tokens"])
        if lesson is not None:
            loss = loss + self._features(batch, output, lesson, normalizers, sums)
        return self.next_token.with_maps(loss, sums, output, batch, normalizers)

    def _teaching(self, batch: MicroBatch, lesson: Lesson | None) -> Teaching | None:
        asked = self.settings
        if not asked.weight:
            return None
        divergence = Divergence(asked.divergence, asked.temperature, asked.mixture, asked.top_k)
        if lesson is not None:
            return Teaching(divergence, lesson.source, asked.weight, asked.next_token)
        assert batch.told is not None, "the teacher's predictions were not looked up: TaughtCollator"
        return Teaching(divergence, predictions(batch.told, asked.top_k), asked.weight, asked.next_token)

    def _predictions(
        self, batch: MicroBatch, output: ModelOutput, tokens: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss over tokens, where it arises, and its sums."""
        zero = torch.zeros((), device=batch.labels.device)
        if output.labelled is None:
            return zero, {"loss": zero, "divergence": zero, **self.next_token.apart(batch, None)}
        loss, nats, divergence, _, each = output.labelled
        assert loss is not None and nats is not None and divergence is not None
        whole = loss if self.settings.weight else self.settings.next_token * loss
        return whole / tokens, {"loss": nats, "divergence": divergence, **self.next_token.apart(batch, each)}

    def _features(
        self,
        batch: MicroBatch,
        output: ModelOutput,
        lesson: Lesson,
        normalizers: Mapping[str, float],
        sums: dict[str, Tensor],
    ) -> Tensor:
        """The loss over features, whose sums are added to `sums`."""
        settings, distance = self.settings, DISTANCES[self.settings.distance]
        loss = torch.zeros((), device=batch.labels.device)
        if settings.hidden > 0:
            assert output.labelled is not None and output.labelled.rows is not None
            found = of_rows(output.labelled.rows, lesson.source.rows, distance)
            loss, sums["hidden"] = loss + settings.hidden * found / normalizers["tokens"], found.detach()
        if settings.features > 0:
            assert output.vision is not None and batch.twin is not None
            own, other = by_size(output.vision, batch), by_size(lesson.vision, batch.twin)
            found = of_pages(own, batch.shown, other, batch.twin.shown, distance)
            loss = loss + settings.features * found / normalizers["pages"]
            sums["features"] = found.detach()
        return loss


def by_size(stacks: Sequence[Tensor], batch: MicroBatch) -> dict[int, Tensor]:
    """Vision tokens of each stack by the pixels of its views."""
    return {views.shape[-1]: stack for views, stack in zip(batch.views, stacks, strict=True)}


def predictions(told: Told, top_k: int) -> Predictions:
    """What was told as a distribution; with `top_k` the less likely tokens join the rest."""
    logs = told.logs.float()
    if top_k and top_k < told.ids.shape[1]:
        logs = torch.cat([logs[:, :top_k], logs[:, top_k:].logsumexp(1, keepdim=True)], 1)
    return Predictions(told.ids[:, : logs.shape[1] - 1].long(), logs.log_softmax(1))  # fp16 leaves 1e-3 to mend
