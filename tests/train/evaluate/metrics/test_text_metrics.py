"""The figures of the curve, against slow implementations written here and against values known by hand."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluate.metrics import (
    character_error_rate,
    edit_distance,
    precision,
    word_error_rate,
    word_precision,
)


def table_distance(left: Sequence[str], right: Sequence[str]) -> int:
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
        expected = 1.0 if longest == 0 else 1.0 - table_distance(left, right) / longest
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


def test_error_rates_agree_with_the_textbook_on_random_texts() -> None:
    generator = random.Random(3)
    for _ in range(200):
        left = random_text(generator, generator.randrange(1, 12))
        right = random_text(generator, generator.randrange(0, 20))
        assert character_error_rate(left, right) == pytest.approx(table_distance(left, right) / len(left))
        words, others = (left * 3).split(), (right * 3).split()
        if words:
            expected = table_distance(words, others) / len(words)
            assert word_error_rate(left * 3, right * 3) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "characters", "words"),
    [
        ("", "", 0.0, 0.0),
        ("", "made up", 1.0, 1.0),
        ("ab", "", 1.0, 1.0),
        ("the cat", "the  cat", 1 / 7, 0.0),
        ("a b c d", "a x c d e", 3 / 7, 2 / 4),
        ("ab", "ababab", 2.0, 1.0),
        ("go", "go go go go", 4.5, 3.0),
    ],
)
def test_error_rates_of_known_pairs(reference: str, hypothesis: str, characters: float, words: float) -> None:
    assert character_error_rate(reference, hypothesis) == pytest.approx(characters)
    assert word_error_rate(reference, hypothesis) == pytest.approx(words)


@settings(deadline=None)
@given(st.text("ab c漢", max_size=12), st.text("ab c漢", max_size=12))
def test_edit_distance_is_symmetric_bounded_and_zero_for_equal_texts_only(left: str, right: str) -> None:
    distance = edit_distance(left, right)
    assert distance == edit_distance(right, left)
    assert 0.0 <= distance <= 1.0
    assert (distance == 0.0) == (left == right)
    assert precision(left, right) == pytest.approx(1.0 - distance)


def test_edit_distance_of_lists_counts_items() -> None:
    assert edit_distance([1, 2, 3, 4], [1, 3, 4]) == pytest.approx(1 / 4)
    assert edit_distance(["<b>", "x"], ["<i>", "x"]) == pytest.approx(1 / 2)
