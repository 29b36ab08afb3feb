"""What tests of distillation share: a teacher's run, a shard set of pages, one process's groups."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from parallel.topology import Topology, start, stop
from tests.train.distill.teaching import write_teacher
from tests.train.shard_set import make_records, write_shard_set


@pytest.fixture(scope="module")
def one_process() -> Iterator[None]:
    """Process groups of one process, as every model needs them."""
    start(Topology(), seed=0)
    yield
    stop()


@pytest.fixture(scope="module")
def teacher_run(one_process: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a teacher with random weights."""
    return write_teacher(tmp_path_factory.mktemp("teacher") / "large")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of 10 pages."""
    return write_shard_set(tmp_path_factory.mktemp("data") / "pages", make_records(10, prompt="Read."))
