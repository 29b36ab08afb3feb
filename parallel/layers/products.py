"""Grouped matrix products: each range of rows has a matrix of its own.

On a GPU they are torch's kernel. On a CPU that kernel is a loop over MKL's products, which is best while the matrices are
small; for large ones, where oneDNN is faster (`parallel.cpu_settings`), it gets blocks of a few fixed numbers of rows, as it
makes a kernel for each shape.

Shapes: G groups, R rows in all, K inputs, M outputs.
"""

import contextlib
from functools import cached_property

import torch
import torch.nn.functional as F

from parallel import cpu_settings

_BLOCKS = (1024, 512, 256, 128, 64)  # rows
_LARGE = 2**17  # elements of a matrix
_Block = tuple[int, int, int]  # group, first row, row after the last


class Groups:
    """Rows in groups, one group after the other; sizes: int [G]."""

    def __init__(self, sizes: torch.Tensor) -> None:
        self.sizes = sizes
        self.ends = sizes.cumsum(0).to(torch.int32)

    def times(self, rows_RK: torch.Tensor, matrices_GKM: torch.Tensor) -> torch.Tensor:
        """Each group's rows times its matrix, [R, M]."""
        if not _in_blocks(rows_RK, matrices_GKM[0].numel()):
            with cpu_settings.products_of_any_shape():
                return F.grouped_mm(rows_RK, matrices_GKM, offs=self.ends)
        out = rows_RK.new_empty(rows_RK.shape[0], matrices_GKM.shape[2])
        for blocks, products in self._passes():
            with products:
                for group, first, last in blocks:
                    torch.mm(rows_RK[first:last], matrices_GKM[group], out=out[first:last])
        return out

    def outer(self, left_RK: torch.Tensor, right_RM: torch.Tensor) -> torch.Tensor:
        """leftᵀ right of each group's rows, [G, K, M]: the gradient of `times` in its matrices. Zero for an empty group."""
        if not _in_blocks(left_RK, left_RK.shape[1] * right_RM.shape[1]):
            with cpu_settings.products_of_any_shape():
                return F.grouped_mm(left_RK.t(), right_RM, offs=self.ends)
        out = left_RK.new_zeros(len(self.sizes), left_RK.shape[1], right_RM.shape[1])
        for blocks, products in self._passes():
            with products:
                for group, first, last in blocks:
                    out[group].addmm_(left_RK[first:last].t(), right_RM[first:last])
        return out

    def _passes(self) -> tuple[tuple[list[_Block], contextlib.AbstractContextManager], ...]:
        """Blocks of fixed sizes, and what is left of each group, each with the products for it."""
        fixed, rest = self._cut
        return (fixed, cpu_settings.as_they_are()), (rest, cpu_settings.products_of_any_shape())

    @cached_property
    def _cut(self) -> tuple[list[_Block], list[_Block]]:
        fixed, rest, first = [], [], 0
        for group, size in enumerate(self.sizes.tolist()):
            end = first + size
            for rows in _BLOCKS:
                while end - first >= rows:
                    fixed.append((group, first, first + rows))
                    first += rows
            if end > first:
                rest.append((group, first, end))
            first = end
        return fixed, rest


def _in_blocks(rows: torch.Tensor, elements: int) -> bool:
    if rows.dtype == torch.float64:
        return True  # torch's kernel has no doubles
    return rows.device.type == "cpu" and rows.dtype == torch.float32 and elements >= _LARGE and cpu_settings.by_onednn()
