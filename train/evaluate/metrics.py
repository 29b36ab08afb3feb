"""What is measured on a page that was read: pure functions of two strings, and the uncertainty of their mean.

`precision` is the figure of the compression curve: 1 − normalised edit distance on characters, order- and
count-aware. It is deliberately not what the published Fox script prints under that name (a set overlap of
words, computed with the two sides swapped): that one forgives every repetition and every lost word order.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein


def precision(reference: str, hypothesis: str) -> float:
    """1 − Levenshtein(reference, hypothesis) / length of the longer, in [0, 1]; two empty texts agree fully
    (1.0).

    Characters are code points, compared as they are: no lower-casing, no normalisation, spaces count.
    """
    longest = max(len(reference), len(hypothesis))
    if longest == 0:
        return 1.0
    return 1.0 - Levenshtein.distance(reference, hypothesis) / longest


def word_precision(reference: str, hypothesis: str) -> float:
    """Share of the predicted words (by whitespace) that the reference holds, each counted as often as it
    stands there.

    Nothing predicted is 0.0, unless there was nothing to read either (1.0).
    """
    expected, predicted = Counter(reference.split()), Counter(hypothesis.split())
    if not predicted:
        return 0.0 if expected else 1.0
    return (expected & predicted).total() / predicted.total()


@dataclass(frozen=True)
class Interval:
    """A mean over pages, with the bounds between which a repeat of the measurement would mostly fall."""

    mean: float
    low: float
    high: float

    def bounds(self) -> list[float]:
        """[low, high], as written in evaluation.json."""
        return [self.low, self.high]


def bootstrap_mean(
    values: Sequence[float], *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Mean of `values` with its percentile bootstrap interval (resampling pages with replacement; same seed,
    same bounds).

    The interval speaks of the choice of held-out pages only: not of the training seed, which it cannot see.
    Raises ValueError for no values at all.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("bootstrap_mean needs at least one value")
    choice = np.random.default_rng(seed).integers(0, sample.size, size=(resamples, sample.size))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(sample[choice].mean(axis=1), [tail, 1.0 - tail])
    return Interval(float(sample.mean()), float(low), float(high))
