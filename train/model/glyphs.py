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

CELLS_PER_PATCH = 2  # a side
CELLS_PER_TOKEN = 8  # a side; a vision token covers 4 x 4 patches


class GlyphHeads(Module):
    """One linear layer on each patch of the windowed branch, one on each vision token."""

    def __init__(self, model: ModelConfig, config: TransformerConfig) -> None:
        super().__init__(config)
        self.classes = model.glyph_classes
        self.patch = Linear(config, model.encoder.window_width, CELLS_PER_PATCH**2 * self.classes)
        self.token = Linear(config, model.decoder.width, CELLS_PER_TOKEN**2 * self.classes)

    def forward(self, vision: Vision) -> tuple[torch.Tensor, torch.Tensor]:
        """Class logits [V, G, G, K] as read from the patches, and as read from the vision tokens."""
        side = round(vision.tokens.shape[1] ** 0.5)
        tokens = vision.tokens.unflatten(1, (side, side))
        return (
            cells(self.patch(vision.patches), CELLS_PER_PATCH, self.classes),
            cells(self.token(tokens), CELLS_PER_TOKEN, self.classes),
        )


def cells(logits: torch.Tensor, side: int, classes: int) -> torch.Tensor:
    """[V, R, R, side * side * K] -> [V, R * side, R * side, K]: each region's cells to their places on the
    page.
    """
    views, regions, _, _ = logits.shape
    split = logits.view(views, regions, regions, side, side, classes).transpose(2, 3)
    return split.reshape(views, regions * side, regions * side, classes)
