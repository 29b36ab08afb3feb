"""Processes that take turns answer what they are asked, and say when they end."""

import pytest

from benchmarks.turns import Turn
from parallel.errors import ParallelError


def test_a_child_that_ends_is_told_as_an_error_not_waited_for() -> None:
    with pytest.raises(ParallelError, match="ended"), Turn("benchmarks.trainers", ["nobody"]):
        pass
