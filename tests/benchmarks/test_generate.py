"""The figures of `benchmarks.generate` are what was measured, and texts that differ end it."""

import pytest

from benchmarks.generate import check, figures_of


def test_ratios_are_theirs_over_ours() -> None:
    seconds = {
        "theirs greedy": [9.0, 10.0, 11.0],
        "theirs first": [1.0, 1.0, 1.0],
        "first": [1.0, 1.0, 1.0],
        "greedy": [3.0, 5.0, 3.0],
    }
    taken = {"seconds": seconds, "processor": {name: [1.0] * 3 for name in seconds}}
    found = figures_of(taken, (50.0 * 2**20, 100.0 * 2**20), {"greedy": 1.0}, 600)
    row = found["rows"]["greedy"]
    assert row["ratio"][1] == pytest.approx(3.0)  # of 9 / 3, 10 / 5, 11 / 3
    assert row["ratio_after_first"][1] == pytest.approx(4.0)  # of 8 / 2, 9 / 4, 10 / 2
    assert row["processor_ratio"] == pytest.approx([1.0, 1.0, 1.0])
    assert row["tokens_per_second"] == pytest.approx(200.0)
    assert found["theirs"]["tokens_per_second"] == pytest.approx(60.0)
    assert found["memory_ratio"] == 0.5 and found["memory_mib"] == [50.0, 100.0]


def test_another_text_than_theirs_ends_it() -> None:
    check(2, {"greedy": [[1, 2, 3], [4, 5, 6]]}, [[1, 2, 3], [4, 5, 6]])
    with pytest.raises(SystemExit, match="batch 2, lookup: page 1 differs from theirs at id 2"):
        check(2, {"lookup": [[1, 2, 3], [4, 5, 7]]}, [[1, 2, 3], [4, 5, 6]])
