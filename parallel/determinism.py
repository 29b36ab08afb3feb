"""The same numbers from the same run, bit by bit: what has to be set for that, and what stands against it.

On the CPU two runs of one configuration are bit-equal as they are. On GPUs atomic additions, cuBLAS's workspaces, cuDNN's
choice of kernels and NCCL's choice of algorithms decide in which order numbers are added; as in Megatron-LM's deterministic
mode they are told to keep to one. Importing this file loads no torch.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from parallel.errors import ParallelError

# what is set where nothing is, and every value that keeps to one order; libraries read them when they start
VARIABLES = {
    "CUBLAS_WORKSPACE_CONFIG": (":4096:8", ":16:8"),
    "NCCL_ALGO": ("Ring", "Tree", "CollnetDirect", "CollnetChain", "^NVLS"),
    "NVTE_ALLOW_NONDETERMINISTIC_ALGO": ("0",),
}


def variable_faults(environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable that somebody has set to what makes runs differ."""
    for name, allowed in VARIABLES.items():
        value = environment.get(name)
        if value is not None and value not in allowed:
            yield (
                f"deterministic=true: the environment variable {name}={value} lets runs differ. Unset it, set it to "
                f"{' or '.join(allowed)}, or choose deterministic=false."
            )


@contextmanager
def reproducible(asked: bool) -> Iterator[None]:
    """Inside, torch and the libraries below it keep to one order, if that is `asked`; afterwards all is as before.

    Enter it before the first CUDA call. Raises ParallelError for an operation that has no such way of computing.
    """
    if not asked:
        yield
        return
    unset = [name for name in VARIABLES if name not in os.environ]
    os.environ.update({name: VARIABLES[name][0] for name in unset})
    import torch

    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        raise ParallelError(
            f"deterministic=true: {str(error).split(',')[0]} on this device. Choose deterministic=false, or "
            "leave out what needs it."
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]
        for name in unset:
            os.environ.pop(name, None)
