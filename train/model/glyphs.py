"""Heads that predict the glyph map: which character covers each cell of the page. For training only; dropped
at export.

They give the encoder a reason to read before the decoder has learned to look at it. Cells are half a patch
a side. Shapes: V views, S pixels a side, P patches a side, G = 2 * P cells a side, F = P / 4 vision tokens
a side, K classes.
"""

from typing import TypeAlias

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from data_pipeline.resolution import COMPRESSION
from data_pipeline.resolution import GLYPH_CELLS_PER_PATCH as CELLS_PER_PATCH
from parallel.layers import Linear, Module
from train.config import ModelConfig
from train.model.deepencoder import Vision
from train.model.placement import Part

CELLS_PER_TOKEN = CELLS_PER_PATCH * COMPRESSION  # a side; a vision token covers 4 x 4 patches


Maps: TypeAlias = tuple[torch.Tensor, ...]


class GlyphHeads(Module):
    """One linear layer on each patch of the windowed branch, one on each vision token; each on the stage of what
    it reads.
    """

    def __init__(self, model: ModelConfig, config: TransformerConfig, part: Part) -> None:
        super().__init__(config)
        self.classes = model.glyph_classes
        if part.window:
            self.patch = Linear(config, model.encoder.window_width, CELLS_PER_PATCH**2 * self.classes)
        if part.embedding:
            self.token = Linear(config, model.decoder.width, CELLS_PER_TOKEN**2 * self.classes)

    def forward(self, vision: Vision) -> tuple[Maps | None, Maps | None]:
        """Class logits [V, G, G, K] of each stack as read from the patches, and as read from the vision tokens; None
        for what is not here.
        """
        patch = token = None
        if vision.patches is not None:
            patch = tuple(cells(self.patch(stack), CELLS_PER_PATCH, self.classes) for stack in vision.patches)
        if vision.tokens is not None:
            token = tuple(
                cells(self.token(_square(stack)), CELLS_PER_TOKEN, self.classes) for stack in vision.tokens
            )
        return patch, token


def _square(tokens_VLD: torch.Tensor) -> torch.Tensor:
    """[V, F * F, D] -> [V, F, F, D]."""
    side = round(tokens_VLD.shape[1] ** 0.5)
    return tokens_VLD.unflatten(1, (side, side))


def cells(logits: torch.Tensor, side: int, classes: int) -> torch.Tensor:
    """[V, R, R, side * side * K] -> [V, R * side, R * side, K]: each region's cells to their places on the
    page.
    """
    views, regions, _, _ = logits.shape
    split = logits.view(views, regions, regions, side, side, classes).transpose(2, 3)
    return split.reshape(views, regions * side, regions * side, classes)
