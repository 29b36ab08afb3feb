"""A grid of one process, as models and checkpoints need it, and another implementation of a small model."""

from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor

from parallel import topology
from train.config import ModelConfig


@pytest.fixture(scope="module")
def one_process() -> Iterator[None]:
    """Process groups of one process."""
    topology.start(topology.Topology(), seed=0)
    yield
    topology.stop()


@pytest.fixture(scope="module")
def peers(one_process: None) -> tuple[Any, dict[str, Tensor], ModelConfig]:
    """transformers' model, what it releases, and our sizes of it."""
    pytest.importorskip(
        "transformers.models.unlimited_ocr", reason="transformers is absent: install the extra `dev`"
    )
    from tests.train.model.peer_model import peer_size, released, their_model

    model = peer_size()
    theirs = their_model(model, seed=3)
    return theirs, released(theirs, lambda parameter: parameter.data), model
