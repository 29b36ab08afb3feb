"""What test_run_watch.py puts into ranks before they become `python -m train`."""

import time
from typing import Any

from tests.faults.injections import gather_each_step

READ = 0.4  # seconds that a sample takes
AGAIN = 25  # forwards more than needed


def slow_storage() -> None:
    """Each sample of this rank comes late."""
    from data_pipeline.reader import ShardReader

    gather_each_step()
    read = ShardReader.read

    def late(self: ShardReader, shard: int, sample: int) -> Any:
        time.sleep(READ)
        return read(self, shard, sample)

    ShardReader.read = late  # type: ignore[method-assign]


def slow_computing() -> None:
    """This rank computes every forward several times."""
    import torch

    from train.objective import NextToken

    gather_each_step()
    forward = NextToken.__call__

    def longer(self: NextToken, *arguments: Any) -> Any:
        more = AGAIN if torch.is_grad_enabled() else 0
        with torch.no_grad():
            for _ in range(more):
                forward(self, *arguments)
        return forward(self, *arguments)

    NextToken.__call__ = longer  # type: ignore[method-assign]
