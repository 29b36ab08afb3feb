"""Which pages a report shows: fixed places in the order of precision, so that nobody picks the pretty ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.evaluate.measure import Measured

SAMPLE_CHOICE = (
    "Of the {pages} held-out pages of each source, ordered by precision: the best, the median and the worst{lots}. "
    "No page was picked by hand."
)
LOTS = "; of the random-text pages the median"
LARGEST_SIDE = 1000  # pixels of a picture in the report


@dataclass(frozen=True)
class Sample:
    """A page to show: which it is in the order of precision, its picture, what it says and what was read."""

    source: str
    key: str
    choice: str
    page: np.ndarray
    reference: str
    hypothesis: str
    precision: float
    random: bool
    mode: str


def choose_samples(
    source: str, pages: Sequence[Measured], choices: Sequence[str], random: bool
) -> list[Sample]:
    """The pages at fixed places in the order of precision (equal ones in the order of the source)."""
    ordered = sorted(pages, key=lambda page: -(page.values["precision"] or 0.0))
    places = {"best": 0, "median": len(ordered) // 2, "worst": len(ordered) - 1}
    return [_sample(source, choice, ordered[places[choice]], random) for choice in choices]


def sample_choice(pages: int, lots: bool) -> str:
    """In words, how the samples were chosen."""
    return SAMPLE_CHOICE.format(pages=pages, lots=LOTS if lots else "")


def _sample(source: str, choice: str, found: Measured, random: bool) -> Sample:
    return Sample(
        source, found.page.key, choice, _shown(found.page.picture()), found.page.reference, found.reading.text,
        float(found.values["precision"] or 0.0), random, found.mode,
    )  # fmt: skip


def _shown(page: np.ndarray) -> np.ndarray:
    """The picture, made smaller where it is too large for a report."""
    from PIL import Image

    image = Image.fromarray(page)
    if max(image.size) <= LARGEST_SIDE:
        return page
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BICUBIC)
    return np.asarray(image)
