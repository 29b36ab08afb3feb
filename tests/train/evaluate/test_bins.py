"""Bins that the data choose are ascending, hold every page, and are no finer than the pages allow."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.errors import UserError
from train.evaluate.bins import MOST_BINS, PAGES_A_BIN, check_bins, edges_by_quantiles


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=400))
def test_edges_are_ascending_and_hold_every_page(counts: list[int]) -> None:
    edges = edges_by_quantiles(counts)
    assert edges == sorted(set(edges)) and len(edges) >= 2
    assert edges[0] <= min(counts) and max(counts) < edges[-1]
    assert len(edges) - 1 <= max(1, min(MOST_BINS, len(counts) // PAGES_A_BIN))


def test_bins_hold_about_equally_many_pages() -> None:
    counts = list(range(617, 1299))
    edges = edges_by_quantiles(counts)
    sizes = [sum(low <= count < high for count in counts) for low, high in pairwise(edges)]
    assert len(sizes) == MOST_BINS and max(sizes) < 1.5 * min(sizes)
    assert all(edge % 10 == 0 for edge in edges)  # as people write them


def test_short_texts_get_exact_edges() -> None:
    assert edges_by_quantiles([3] * 40 + [7] * 40) == [3, 7, 8]


def test_few_pages_make_one_bin() -> None:
    assert edges_by_quantiles([12, 9, 15]) == [9, 16]


def test_bins_beside_all_pages_are_refused_with_ones_that_fit() -> None:
    check_bins([650], [600, 700])
    with pytest.raises(UserError, match=r"they hold 12 to 30 text tokens, so try bins=\[12, 32\]"):
        check_bins([12, 30], [600, 700])
