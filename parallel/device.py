"""The device of this process, and how many threads it may use."""

import os

import torch

from parallel import cpu_settings
from parallel.errors import ParallelError

_LOCAL_RANK = 0


def device() -> torch.device:
    """The CUDA device of this process, or the CPU where there is none."""
    return torch.device("cuda", _LOCAL_RANK) if torch.cuda.is_available() else torch.device("cpu")


def use_device(local_rank: int, world: int) -> torch.device:
    """Makes `local_rank`'s GPU current, or shares the cores among the `world` processes of a machine without one.

    Raises ParallelError when more processes than GPUs were started on this machine.
    """
    global _LOCAL_RANK
    if torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise ParallelError(
                f"Local rank {local_rank} has no GPU: this machine shows {torch.cuda.device_count()}. "
                "Start one process a GPU, or set CUDA_VISIBLE_DEVICES."
            )
        _LOCAL_RANK = local_rank
        torch.cuda.set_device(local_rank)
        return device()
    cpu_settings.apply()
    if "OMP_NUM_THREADS" not in os.environ:
        neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        torch.set_num_threads(max(1, _cores() // neighbours))
    return device()


def _cores() -> int:
    """Cores this process may run on; a batch system often gives fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
