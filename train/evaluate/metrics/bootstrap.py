"""The uncertainty of a mean over pages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean over pages, with the bounds between which a repeat of the measurement would mostly fall."""

    mean: float
    low: float
    high: float

    def bounds(self) -> list[float]:
        """[low, high], as written in metrics.json."""
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
