"""The model that the tests of a module read with."""

from collections.abc import Iterator

import pytest

from parallel import topology
from tests.train.evaluate.reading_run import tiny_model
from train.model.optical import OpticalModel


@pytest.fixture(scope="module")
def model() -> Iterator[OpticalModel]:
    """A tiny model, in process groups of one process."""
    topology.start(topology.Topology(), seed=0)
    yield tiny_model()
    topology.stop()
