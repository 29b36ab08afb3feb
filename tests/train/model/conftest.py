"""What the model's tests share: a grid of one process, small configurations, batches of noise."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from parallel import topology
from tests.train.model.small_model import IMAGE_TOKEN, noise_pages, small_model
from train.config import ModelConfig


@pytest.fixture(scope="module")
def one_process() -> Iterator[None]:
    """Process groups of one process, as every model needs them."""
    topology.start(topology.Topology(), seed=0)
    yield
    topology.stop()


@pytest.fixture
def image_token() -> int:
    """Id of `<image>` in the batches of `pages`."""
    return IMAGE_TOKEN


@pytest.fixture
def small() -> ModelConfig:
    """`small_model`."""
    return small_model()


@pytest.fixture
def pages() -> SimpleNamespace:
    """`noise_pages`."""
    return noise_pages()
