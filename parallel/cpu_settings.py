"""How torch uses a CPU: settings that change how fast results come, not what they are. Figures: docs/journal.md.

* Matrix products in fp32 by oneDNN instead of MKL on AMD's processors: MKL leaves half of their AVX-512 unused. torch
  reaches oneDNN by `fp32_precision="bf16"`, which permits reduced precision where the processor has a unit for it (AMX).
  Those of AMD have none, and the products stay exact to fp32; that is checked before it is relied on.
* Large tensors in huge pages: a step takes and frees the same ones, and each new small page costs a page fault.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_CHECKED = ((256, 256, 256), (7, 1024, 33), (1500, 96, 384))  # (rows, inner, columns) of products
EXACT = 1e-5  # relative error that a product in fp32 stays below, and one in bf16 does not
_KEPT_KERNELS = "256"  # oneDNN makes a kernel for every shape and keeps it, 0.7 MB each; a step has about 60 shapes


def apply() -> None:
    """Puts the settings in place; as early as possible, before torch makes its first tensor."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _KEPT_KERNELS)
    _keep_small_freed_memory()
    if _gains_by_onednn():
        _products("bf16")
        if not _exact():
            _products("none")


def by_onednn() -> bool:
    """Whether matrix products in fp32 go to oneDNN."""
    return _onednn().fp32_precision == "bf16"


@contextlib.contextmanager
def products_of_any_shape() -> Iterator[None]:
    """Inside, matrix products are MKL's, which needs no kernel for each shape: for shapes that do not come again."""
    if not by_onednn():
        yield
        return
    _products("none")
    try:
        yield
    finally:
        _products("bf16")


as_they_are = contextlib.nullcontext  # products by what `apply` chose


def _products(precision: str) -> None:
    _onednn().fp32_precision = precision


def _onednn() -> Any:
    return torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


def _gains_by_onednn() -> bool:
    with contextlib.suppress(OSError):
        amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
        return amd and torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return False


def _exact() -> bool:
    """Whether products, plain and batched, are those of fp32 as they are now computed."""
    return all(_exact_for(rows, inner, columns) for rows, inner, columns in _CHECKED)


def _exact_for(rows: int, inner: int, columns: int) -> bool:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, rows, inner, generator=generator), torch.randn(2, inner, columns, generator=generator)
    wanted = first.double() @ second.double()
    found = (first @ second, torch.stack([first[0] @ second[0], first[1] @ second[1]]))
    return all(float((product - wanted).abs().max() / wanted.abs().max()) < EXACT for product in found)


def _keep_small_freed_memory() -> None:
    """Tells glibc to use freed memory of small tensors again, and to give back that of large ones: in huge pages new memory
    is cheap, and kept it would leave holes that nothing else fits.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 2**21)  # a huge page
        libc.mallopt(trim_threshold, 2**26)
