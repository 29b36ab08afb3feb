"""A grid of one process, as checkpoints need it."""

from tests.train.convert.conftest import one_process

__all__ = ["one_process"]
