"""Loops in text, against the definition followed letter by letter."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluate.metrics import loops, repeated_share
from train.evaluate.metrics.repetition import COPIES, LEAST_REPEATED, LONGEST_UNIT


def share_by_definition(text: str) -> float:
    """Grows every run of every unit from every place."""
    repeated: set[int] = set()
    for unit in range(1, min(LONGEST_UNIT, len(text)) + 1):
        for begin in range(len(text) - unit):
            end = begin + unit
            while end < len(text) and text[end] == text[end - unit]:
                end += 1
            length = end - begin
            if length >= COPIES * unit and length - unit >= LEAST_REPEATED:
                repeated |= set(range(begin + unit, end))
    return len(repeated) / len(text) if text else 0.0


def test_share_agrees_with_the_definition_on_texts_that_stutter() -> None:
    generator = random.Random(1)
    for _ in range(150):
        pieces = ("".join(generator.choices("ab漢", k=generator.randrange(1, 5))) for _ in range(6))
        text = "".join(piece * generator.choice([1, 1, 3, 4, 7]) for piece in pieces)
        assert repeated_share(text) == pytest.approx(share_by_definition(text))


@settings(deadline=None)
@given(st.text("ab", max_size=60))
def test_share_agrees_with_the_definition_on_any_text(text: str) -> None:
    assert repeated_share(text) == pytest.approx(share_by_definition(text))


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("abc" * 3, 0.0),  # three copies are no run
        ("abcd" * 4, 12 / 16),
        ("-" * 12, 0.0),  # a short rule
        ("x" * 100, 0.99),
        ("The end. " * 50, 49 / 50),
        ("👩‍🔬" * 10, 27 / 30),  # code points, not bytes
    ],
)
def test_share_of_known_texts(text: str, share: float) -> None:
    assert repeated_share(text) == pytest.approx(share)


def test_a_page_loops_when_it_runs_in_circles_and_its_reference_does_not() -> None:
    page = (
        "A page of prose with nothing odd about it, and a table of contents: one ........................ 12"
    )
    assert not loops(page, page)
    assert loops(page + " and so on" * 30, page)
    assert loops("0 | " * 40)
    assert not loops("0 | " * 40, "0 | " * 38)


def test_a_loop_of_a_whole_paragraph_is_seen() -> None:
    generator = random.Random(2)
    paragraph = "".join(generator.choices("abcdefghij ", k=900))
    assert loops(paragraph * 5)
    assert not loops(paragraph)


def test_the_text_may_hold_halves_of_surrogate_pairs() -> None:
    assert repeated_share("\ud800" * 40) == pytest.approx(39 / 40)
