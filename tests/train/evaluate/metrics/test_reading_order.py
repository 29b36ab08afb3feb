"""Reading order as an edit distance of places."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluate.metrics import reading_order


@pytest.mark.parametrize(
    ("places", "missed", "distance"),
    [
        ([], [], 0.0),
        ([1, 2, 3], [], 0.0),
        ([2, 5, 9], [], 0.0),
        ([1, 3, 2], [], 2 / 3),
        ([4, 1, 2, 3], [], 2 / 4),  # one block far from its place: taken out and put back
        ([3, 2, 1], [], 2 / 3),
        ([1, 2], [3, 4], 2 / 4),
        ([], [1], 1.0),
        ([1, 1, 2], [], 0.0),
    ],
)
def test_order_of_known_lists(places: list[float], missed: list[float], distance: float) -> None:
    assert reading_order(places, missed) == pytest.approx(distance)


@settings(deadline=None)
@given(st.permutations(range(1, 8)))
def test_order_is_zero_for_ascending_places_only(places: list[int]) -> None:
    distance = reading_order(places)
    assert 0.0 <= distance <= 1.0
    assert (distance == 0.0) == all(one < other for one, other in pairwise(places))
