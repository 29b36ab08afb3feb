"""What the tests of transforms share: a grid of one process."""

from collections.abc import Iterator

import pytest
import torch

from parallel import topology
from tests.train.model.small_model import IMAGE_TOKEN, small_model
from train.config import ModelConfig


@pytest.fixture(scope="module")
def one_process() -> Iterator[None]:
    """Process groups of one process, as every layer needs them."""
    topology.start(topology.Topology(), seed=0)
    yield
    topology.stop()


@pytest.fixture(scope="module")
def small_optical(one_process: None) -> tuple[ModelConfig, torch.nn.Module]:
    """A model with every part at toy size."""
    from train.model.optical import build

    return small_model(), build(small_model(), IMAGE_TOKEN)
