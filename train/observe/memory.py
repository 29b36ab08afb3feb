"""Memory of each process and of its GPU, told as the most that any rank has."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from train.observe.observer import Look
from train.observe.ranks import Row

GIB = 2**30
_STATM = Path("/proc/self/statm")


class Memory:
    """`memory/host` everywhere, and on GPUs `memory/allocated` (tensors), `memory/reserved` (what torch keeps for them) and
    `memory/peak` (most tensors at once, since the process began); in GiB."""

    def begin(self) -> None:
        """Nothing to do."""

    def see(self, look: Look) -> None:
        """Nothing to do."""

    def values(self) -> list[float]:
        """As they are now."""
        return [host_memory(), *gpu_memory()]

    def judge(self, rows: Sequence[Row], step: int) -> Mapping[str, Any]:
        """The largest of each."""
        names = ("memory/host", "memory/allocated", "memory/reserved", "memory/peak")
        return {name: max(column) / GIB for name, column in zip(names, zip(*rows))}

    def close(self) -> None:
        """Nothing to do."""


def host_memory() -> float:
    """Bytes of this process that are in memory; those of its data workers are not counted. nan where Linux's /proc is not."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return float("nan")
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def gpu_memory() -> list[float]:
    """Bytes [allocated, reserved, peak] of this process's GPU; [] without one."""
    if not torch.cuda.is_available():
        return []
    return [float(read()) for read in (torch.cuda.memory_allocated, torch.cuda.memory_reserved, torch.cuda.max_memory_allocated)]
