"""Two tensor-parallel ranks write the text that one process writes."""

from typing import Any

import pytest
from ranks import free_ports, launch

from tests.train.generate.tensor_reading import CASES, play


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    """All cases on both ranks, in one launch."""
    return launch(play, 2, 2, free_ports(2))


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """All cases in this process."""
    return play(1, free_ports(1))


@pytest.mark.parametrize("case", CASES)
def test_texts_equal_those_of_one_process(ranks, alone, case: str) -> None:
    assert all(rank[case] == alone[case] for rank in ranks)
    assert len({tuple(row) for row in alone[case]}) == len(alone[case])
