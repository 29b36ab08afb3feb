"""What is minimised: the next token, maps of glyphs, and a teacher's part."""

from train.objective.distill import Distill
from train.objective.next_token import NextToken, glyph_cross_entropy, with_noise

__all__ = ["Distill", "NextToken", "glyph_cross_entropy", "with_noise"]
