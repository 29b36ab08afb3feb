"""Which pages a report shows: fixed places in the order of precision, so that nobody picks the pretty ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.record import Record
from train.evaluate.metrics import precision
from train.generate.decoding import Reading

SAMPLE_CHOICE = (
    "Of the {pages} held-out pages of each source, ordered by precision: the best, the median and the worst; of the "
    "random-text pages the median. No page was picked by hand."
)


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


def choose_samples(
    source: str, items: Sequence[Record], readings: Sequence[Reading], choices: Sequence[str], random: bool
) -> list[Sample]:
    """The pages at fixed places in the order of precision (equal ones in the order of the shard set)."""
    scored = [
        (precision(item.target, reading.text), index)
        for index, (item, reading) in enumerate(zip(items, readings, strict=True))
    ]
    ordered = sorted(scored, key=lambda pair: -pair[0])
    places = {"best": 0, "median": len(ordered) // 2, "worst": len(ordered) - 1}
    samples = []
    for choice in choices:
        score, index = ordered[places[choice]]
        item, text = items[index], readings[index].text
        samples.append(Sample(source, item.key, choice, item.pages[0], item.target, text, score, random))
    return samples
