"""Which blocks stand for which."""

import random
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from train.evaluate.metrics import edit_distance
from train.evaluate.metrics.matching import Match, assignment, distances, match_blocks, occurs

BLOCKS = [
    "Theferryleftatdawnandnobodyondeckhadslept",
    "Ofthecrewoffortyonlyninehadsailedthisroutebefore",
    "Thepilothadpromisedtowaitforthematthesecondbuoy",
    "Elevenfathomsofwaterandnolightanywhereonthecoast",
]


def matched(true: list[str], written: list[str]) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    return {(match.true, match.written) for match in match_blocks(true, written)}


def test_blocks_read_exactly_are_matched_in_any_order() -> None:
    for order in permutations(range(4)):
        written = [BLOCKS[index] for index in order]
        assert matched(BLOCKS, written) == {((index,), (place,)) for place, index in enumerate(order)}


def test_a_block_cut_in_pieces_is_joined() -> None:
    third = BLOCKS[2]
    written = [BLOCKS[0], third[:15], third[15:34], third[34:], BLOCKS[1]]
    assert matched(BLOCKS[:3], written) == {((0,), (0,)), ((2,), (1, 2, 3)), ((1,), (4,))}


def test_blocks_written_as_one_share_it() -> None:
    written = [BLOCKS[0] + BLOCKS[1] + BLOCKS[2], BLOCKS[3]]
    assert matched(BLOCKS, written) == {((0, 1, 2), (0,)), ((3,), (1,))}


def test_what_was_left_out_and_what_was_made_up() -> None:
    assert matched(BLOCKS[:2], []) == {((0,), ()), ((1,), ())}
    assert matched([], BLOCKS[:2]) == {((), (0,)), ((), (1,))}
    assert matched(BLOCKS[:1], [BLOCKS[0], "0123456789"]) == {((0,), (0,)), ((), (1,))}
    assert matched(BLOCKS[:2], [BLOCKS[1]]) == {((1,), (0,)), ((0,), ())}


def test_leftovers_are_paired_however_far_apart() -> None:
    assert matched([BLOCKS[0], "abcdefgh"], [BLOCKS[0], "0123456789"]) == {((0,), (0,)), ((1,), (1,))}


@settings(deadline=None)
@given(
    st.lists(st.text("abc", min_size=1, max_size=9), max_size=5),
    st.lists(st.text("abc", min_size=1, max_size=9), max_size=5),
)
def test_every_block_is_in_exactly_one_match(true: list[str], written: list[str]) -> None:
    matches = match_blocks(true, written)
    assert sorted(index for match in matches for index in match.true) == list(range(len(true)))
    assert sorted(index for match in matches for index in match.written) == list(range(len(written)))
    assert Match((), ()) not in matches
    if any(not match.true for match in matches):  # nothing is left over on both sides
        assert all(match.written for match in matches)


def test_assignment_is_the_cheapest_of_all() -> None:
    generator = np.random.default_rng(1)
    for _ in range(30):
        costs = generator.random((4, 5))
        best = min(
            sum(costs[row, column] for row, column in enumerate(order)) for order in permutations(range(5), 4)
        )
        pairs = assignment(costs)
        assert len(pairs) == 4
        assert sum(costs[pair] for pair in pairs) == pytest.approx(best)


def test_distances_are_the_normalised_edit_distances() -> None:
    table = distances(BLOCKS, BLOCKS[:2])
    assert table.shape == (4, 2)
    assert all(
        table[row, column] == edit_distance(BLOCKS[row], BLOCKS[column])
        for row in range(4)
        for column in range(2)
    )


def test_occurs_agrees_with_looking_everywhere() -> None:
    generator = random.Random(4)
    for _ in range(400):
        text = "".join(generator.choices("abc", k=generator.randrange(0, 40)))
        needle = "".join(generator.choices("abc", k=generator.randrange(1, 12)))
        limit = generator.choice([0.2, 0.4, 0.6])
        span = len(needle)
        windows = [text[start : start + span] for start in range(len(text) - span + 1)]
        expected = any(Levenshtein.distance(needle, window) < limit * span for window in windows)
        assert occurs(needle, text, limit) == expected
