"""The figures of the curve, against slow implementations written here and against values known by hand."""

import random

import numpy as np
import pytest

from train.evaluate.metrics import bootstrap_mean, precision, word_precision


def edit_distance(left: str, right: str) -> int:
    """Levenshtein by the textbook's recurrence over the full table."""
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for row in range(len(left) + 1):
        for column in range(len(right) + 1):
            if row == 0 or column == 0:
                table[row][column] = row + column
                continue
            change = 0 if left[row - 1] == right[column - 1] else 1
            table[row][column] = min(
                table[row - 1][column] + 1, table[row][column - 1] + 1, table[row - 1][column - 1] + change
            )
    return table[-1][-1]


def words_found(reference: str, hypothesis: str) -> int:
    """Predicted words that can be crossed out of the reference, one for one."""
    left = reference.split()
    found = 0
    for word in hypothesis.split():
        if word in left:
            left.remove(word)
            found += 1
    return found


def random_text(generator: random.Random, length: int) -> str:
    return "".join(generator.choice("ab é漢") for _ in range(length))


def test_precision_agrees_with_the_textbook_on_random_strings() -> None:
    generator = random.Random(1)
    for _ in range(300):
        left = random_text(generator, generator.randrange(0, 14))
        right = random_text(generator, generator.randrange(0, 14))
        longest = max(len(left), len(right))
        expected = 1.0 if longest == 0 else 1.0 - edit_distance(left, right) / longest
        assert precision(left, right) == pytest.approx(expected)
        assert precision(left, right) == precision(right, left)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("", "", 1.0),
        ("", "abc", 0.0),
        ("abc", "", 0.0),
        ("kitten", "sitting", 1 - 3 / 7),
        ("do not split the", "do not solit the", 15 / 16),
        ("Emma", "emma", 0.75),
        ("a b", "ab", 2 / 3),
    ],
)
def test_precision_of_known_pairs(reference: str, hypothesis: str, expected: float) -> None:
    assert precision(reference, hypothesis) == pytest.approx(expected)


def test_word_precision_agrees_with_crossing_words_out() -> None:
    generator = random.Random(2)
    for _ in range(300):
        reference = " ".join(generator.choices(["a", "b", "cc", "d"], k=generator.randrange(0, 9)))
        hypothesis = " ".join(generator.choices(["a", "b", "cc", "x"], k=generator.randrange(1, 9)))
        expected = words_found(reference, hypothesis) / len(hypothesis.split())
        assert word_precision(reference, hypothesis) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("", "", 1.0),
        ("a b", "", 0.0),
        ("", "a", 0.0),
        ("the cat", "the the the the", 0.25),
        ("a b c", "c b a", 1.0),
    ],
)
def test_word_precision_of_known_pairs(reference: str, hypothesis: str, expected: float) -> None:
    assert word_precision(reference, hypothesis) == pytest.approx(expected)


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
