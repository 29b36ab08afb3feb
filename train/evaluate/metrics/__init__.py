"""What is measured on pages that were read: pure functions of what stands on a page and what was read."""

from train.evaluate.metrics.bootstrap import Interval, bootstrap_mean
from train.evaluate.metrics.order import reading_order
from train.evaluate.metrics.repetition import loops, repeated_share, repetition_rate
from train.evaluate.metrics.text import (
    character_error_rate,
    edit_distance,
    precision,
    word_error_rate,
    word_precision,
)

__all__ = [
    "Interval",
    "bootstrap_mean",
    "character_error_rate",
    "edit_distance",
    "loops",
    "precision",
    "reading_order",
    "repeated_share",
    "repetition_rate",
    "word_error_rate",
    "word_precision",
]
