"""What sort of sample each one is, in numbers: its kind, and how strongly its pages compress their text. A loss is told apart by both.

The lists are fixed, so that every rank and every step has the same ones: a kind that is not ours counts as "other".
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Protocol

from data_pipeline.kinds import KINDS

KIND_NAMES = (*KINDS, "other")
EDGES = (5.0, 7.0, 10.0, 15.0, 20.0)  # text tokens a vision token, of the samples that have pages
COMPRESSION_NAMES = ("0-5", "5-7", "7-10", "10-15", "15-20", "20+", "no_page")
COUNT = len(KIND_NAMES) + len(COMPRESSION_NAMES)  # of strata: kinds, then compressions; a sample is in one of each


class Sorted(Protocol):
    """What decides the strata of a sample."""

    @property
    def kind(self) -> str:
        """As in its record."""

    @property
    def text_tokens(self) -> int:
        """Of its target."""

    @property
    def vision_tokens(self) -> int:
        """Of all its pages, as the paper counts them; 0 without a page."""


def strata_of(samples: Sequence[Sorted]) -> list[tuple[int, int]]:
    """Of each sample the numbers of its two strata, below COUNT."""
    return [(_kind(sample), len(KIND_NAMES) + _compression(sample)) for sample in samples]


def by_name(values: Sequence[float]) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """COUNT values, of every stratum one, as (by kind, by compression)."""
    kinds, compressions = values[: len(KIND_NAMES)], values[len(KIND_NAMES) :]
    return dict(zip(KIND_NAMES, kinds, strict=True)), dict(zip(COMPRESSION_NAMES, compressions, strict=True))


def _kind(sample: Sorted) -> int:
    return KIND_NAMES.index(sample.kind) if sample.kind in KIND_NAMES else len(KIND_NAMES) - 1


def _compression(sample: Sorted) -> int:
    if not sample.vision_tokens:
        return len(COMPRESSION_NAMES) - 1
    return bisect_right(EDGES, sample.text_tokens / sample.vision_tokens)
