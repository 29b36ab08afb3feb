"""Heads that predict the glyph map: which character covers each cell of the page. For training only; dropped
at export.

They give the encoder a reason to read before the decoder has learned to look at it. Cells are half a patch
a side. Shapes: V views, S pixels a side, P patches a side, G = 2 * P cells a side, F = P / 4 vision tokens
a side, K classes.
"""

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import Linear, Module
from train.config import ModelConfig
from train.model.deepencoder import Vision
from train.model.placement import Part

CELLS_PER_PATCH = 2  # a side
CELLS_PER_TOKEN = 8  # a side; a vision token covers 4 x 4 patches


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

    def forward(self, vision: Vision) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Class logits [V, G, G, K] as read from the patches, and as read from the vision tokens; None for what
        is not here.
        """
        patch = token = None
        if vision.patches is not None:
            patch = cells(self.patch(vision.patches), CELLS_PER_PATCH, self.classes)
        if vision.tokens is not None:
            side = round(vision.tokens.shape[1] ** 0.5)
            regions = vision.tokens.unflatten(1, (side, side))
            token = cells(self.token(regions), CELLS_PER_TOKEN, self.classes)
        return patch, token


def cells(logits: torch.Tensor, side: int, classes: int) -> torch.Tensor:
    """[V, R, R, side * side * K] -> [V, R * side, R * side, K]: each region's cells to their places on the
    page.
    """
    views, regions, _, _ = logits.shape
    split = logits.view(views, regions, regions, side, side, classes).transpose(2, 3)
    return split.reshape(views, regions * side, regions * side, classes)
