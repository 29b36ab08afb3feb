"""docs/faults.md is what the tests inject, and no failure is left out."""

from pathlib import Path

import pytest

from tests.faults.table import FAILURES, PAGE, page, rows


def test_every_failure_is_injected_by_a_test_that_is_not_slow() -> None:
    injected = {row.failure for row in rows() if not row.slow}
    assert [failure for failure in FAILURES if failure not in injected] == []


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(rows()), "write it anew: python -m tests.faults.table"


def test_markers_are_read_with_their_order_their_slowness_and_their_mistakes(tmp_path: Path) -> None:
    source = """
@pytest.mark.slow
@pytest.mark.fault("clock skew", injected="a", handled="b | c", lost="nothing")
@pytest.mark.parametrize("x", [1])
def test_one(x): ...

@pytest.mark.fault("node loss", injected="d", handled="e "
    "f", lost="nothing")
def test_two(): ...
"""
    (tmp_path / "test_some.py").write_text(source)
    two, one = rows(tmp_path)
    assert (two.failure, two.handled, two.test, two.slow) == ("node loss", "e f", "test_some.py::test_two", False)
    assert (one.failure, one.slow) == ("clock skew", True)
    assert page([one]) == page([])
    (tmp_path / "test_some.py").write_text(source.replace('lost="nothing"', "lost=nothing"))
    with pytest.raises(ValueError, match="test_some.py::test_one: write @pytest.mark.fault"):
        rows(tmp_path)
    (tmp_path / "test_some.py").write_text(source.replace("clock skew", "clock"))
    with pytest.raises(ValueError, match=r"not in FAILURES .*: clock \(test_some.py::test_one\)"):
        rows(tmp_path)
