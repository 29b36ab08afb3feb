"""A teacher that runs along: a trained model that reads the same samples and never changes.

It is split over tensor and expert ranks as its student is, and whole on every data rank; of its own run come its size and its
resolution, of the student's the samples. What it tells are the rows from which its logits are made, not the logits.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from data_pipeline.batch import MicroBatch
from data_pipeline.spec import BatchSpec
from parallel.layers import Asked, TeacherRows
from train.model.optical import OpticalModel


class Lesson(NamedTuple):
    """What a teacher makes of a micro-batch: its rows at the labelled positions with its output matrix, and the vision tokens
    [V, F * F, E] of its stacks."""

    source: TeacherRows
    vision: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Teacher:
    """model: in evaluation mode, without gradients. spec: what it takes. width: of its hidden states and vision tokens."""

    model: OpticalModel
    spec: BatchSpec
    width: int

    @torch.no_grad()
    def __call__(self, batch: MicroBatch) -> Lesson:
        """All ranks that share the teacher call it together."""
        output = self.model(batch, asked=Asked(batch.labels, loss=False, rows=True), with_vision=True)
        decoder = self.model.decoder
        tied = self.model.share_embeddings_and_output_weights
        weight = decoder.shared_embedding_or_output_weight() if tied else decoder.output_layer.weight
        return Lesson(TeacherRows(output.labelled.rows, weight.detach()), output.vision)
