"""A rank of a world that does not exist: megatron-core's groups over torch's fake backend, which sends nothing.

1,024 ranks take a tenth of a second. One rank at a time: the process must have no groups of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import gcd

from parallel.errors import ParallelError
from parallel.topology import Topology


def smallest(tensor: int, pipeline: int, expert: int) -> Topology:
    """The smallest world in which a rank has the same shapes as in any larger one: data parallelism splits none."""
    return Topology(tensor, pipeline, expert, data=expert // gcd(expert, tensor))


@contextmanager
def rank_of(topology: Topology, pipeline_rank: int) -> Iterator[None]:
    """Inside, this process is the first rank of a pipeline stage of `topology`."""
    import torch.distributed as dist

    if dist.is_initialized():
        raise ParallelError("A plan needs a process without process groups: call parallel.topology.stop() first.")
    from megatron.core import parallel_state
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from parallel import cpu
    from parallel.topology import seed_everything, stop

    cpu.install()
    rank = pipeline_rank * topology.tensor * topology.data
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=topology.world)
    try:
        parallel_state.initialize_model_parallel(**topology.for_megatron(), create_gloo_process_groups=False)
        seed_everything(0)
        yield
    finally:
        stop()
