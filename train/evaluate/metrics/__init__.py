"""What is measured on pages that were read: pure functions of what stands on a page and what was read."""

from train.evaluate.metrics.bootstrap import Interval, bootstrap_mean
from train.evaluate.metrics.documents import DocumentScores, overall_edit, overall_without_cdm, score_document
from train.evaluate.metrics.fox import FoxScores, fox_as_published, fox_scores
from train.evaluate.metrics.order import reading_order
from train.evaluate.metrics.repetition import loops, repeated_share
from train.evaluate.metrics.tables import teds
from train.evaluate.metrics.text import (
    character_error_rate,
    edit_distance,
    precision,
    word_error_rate,
    word_precision,
)

__all__ = [
    "DocumentScores",
    "FoxScores",
    "Interval",
    "bootstrap_mean",
    "character_error_rate",
    "edit_distance",
    "fox_as_published",
    "fox_scores",
    "loops",
    "overall_edit",
    "overall_without_cdm",
    "precision",
    "reading_order",
    "repeated_share",
    "score_document",
    "teds",
    "word_error_rate",
    "word_precision",
]
