"""What the tuners' tests share: a grid of one process."""

from collections.abc import Iterator

import pytest

from parallel import topology


@pytest.fixture(scope="module")
def one_process() -> Iterator[None]:
    """Process groups of one process, as every model needs them."""
    topology.start(topology.Topology(), seed=0)
    yield
    topology.stop()
