"""The uncertainty of a mean."""

import numpy as np
import pytest

from train.evaluate.metrics import bootstrap_mean


def test_bootstrap_interval_holds_the_mean_and_repeats_with_its_seed() -> None:
    values = np.random.default_rng(0).uniform(size=50).tolist()
    first, again, other = (bootstrap_mean(values, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.bounds() != other.bounds()
    assert first.low < first.mean < first.high
    assert first.mean == pytest.approx(sum(values) / 50)


def test_bootstrap_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for repeat in range(200):
        interval = bootstrap_mean(generator.normal(0.5, 0.2, size=40).tolist(), seed=repeat, resamples=400)
        covered += interval.low <= 0.5 <= interval.high
    assert 175 <= covered <= 199


def test_bootstrap_of_equal_values_has_no_width_and_of_none_is_refused() -> None:
    interval = bootstrap_mean([0.25] * 8)
    assert interval.bounds() == [0.25, 0.25]
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean([])
