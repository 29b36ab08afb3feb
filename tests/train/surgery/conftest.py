"""A grid of one process, as models and checkpoints need it."""

from collections.abc import Iterator

import pytest

from parallel import topology


@pytest.fixture(scope="module")
def one_process() -> Iterator[None]:
    """Process groups of one process."""
    topology.start(topology.Topology(), seed=0)
    yield
    topology.stop()
