"""Rounding with a look at what a matrix multiplies: AWQ, by torchao, and GPTQ.

Each takes one matrix and rows that it multiplied, in the model as it was before anything was rounded.

Shapes: R outputs, K inputs, N rows.
"""

from collections.abc import Sequence

import torch
from torchao.prototype.awq.core import AWQObserver
from torchao.quantization import IntxWeightOnlyConfig, MappingType, PerAxis, PerGroup

from parallel.layers import Site
from train.quantize.grid import Rounded
from train.transform.rounding import Rounding, Scales

BLOCK = 128  # inputs after whose errors the rest of the matrix is corrected at once
DAMPING = 0.01  # of the mean of the products' diagonal, added to it


@torch.no_grad()
def by_awq(site: Site, rounding: Rounding, inputs: Sequence[torch.Tensor]) -> Rounded:
    """Each input is stretched before rounding and shrunk after it, by the power of its mean size with which torchao's search
    finds the least error of the outputs.
    """
    matrix = site.matrix(site.weight)
    parts = matrix.unbind(0) if matrix.ndim == 3 else (matrix,)
    used = [_awq(part.float(), rounding, rows) for part, rows in zip(parts, inputs, strict=True)]
    return Rounded(site.like_weight(torch.stack(used).view(matrix.shape).to(matrix.dtype)))


@torch.no_grad()
def by_gptq(site: Site, rounding: Rounding, inputs: Sequence[torch.Tensor]) -> Rounded:
    """Input by input, each one's error made good by those not rounded yet, as far as what is multiplied allows."""
    matrix = site.matrix(site.weight)
    parts = matrix.unbind(0) if matrix.ndim == 3 else (matrix,)
    found = [gptq(part.float(), rounding, rows) for part, rows in zip(parts, inputs, strict=True)]
    integers = torch.stack([part for part, _ in found]).view(matrix.shape)
    scales = Scales(*(torch.cat(kind) for kind in zip(*(part for _, part in found), strict=True)))
    rows = rounding.restored(integers.view(-1, matrix.shape[-1]), scales, matrix.dtype)
    return Rounded(site.like_weight(rows.view(matrix.shape)), integers, scales)


def _awq(weight_RK: torch.Tensor, rounding: Rounding, rows_NK: torch.Tensor) -> torch.Tensor:
    stretch = torch.ones(weight_RK.shape[1], device=weight_RK.device)
    if len(rows_NK):  # an expert that nothing came to is rounded to the nearest
        kind = MappingType.SYMMETRIC if rounding.symmetric else MappingType.ASYMMETRIC
        grain = PerGroup(rounding.group) if rounding.group else PerAxis(0)
        integers = getattr(torch, f"int{rounding.bits}")
        observer = AWQObserver(
            weight_RK, None, IntxWeightOnlyConfig(weight_dtype=integers, granularity=grain, mapping_type=kind)
        )
        observer(rows_NK, None)
        stretch = observer.calculate_qparams()
    stretched = weight_RK * stretch
    return rounding.rounded(stretched, rounding.scales(*rounding.ranges(stretched))) / stretch


def gptq(weight_RK: torch.Tensor, rounding: Rounding, rows_NK: torch.Tensor) -> tuple[torch.Tensor, Scales]:
    """(integers [R, K], scales). A group's scale is that of its weights when its first input is rounded."""
    left, inputs = weight_RK.clone(), weight_RK.shape[1]
    factor_KK = _inverse_factor(rows_NK, inputs)
    group = rounding.group or inputs
    block = max(group, BLOCK // group * group) if rounding.group else BLOCK
    one = Rounding(rounding.bits, symmetric=rounding.symmetric)
    integers = torch.empty(weight_RK.shape, dtype=torch.int8, device=weight_RK.device)
    found: list[Scales] = []
    for first in range(0, inputs, block):
        last = min(first + block, inputs)
        errors = torch.zeros_like(left[:, first:last])
        for column in range(first, last):
            if column % group == 0:
                found.append(one.scales(*one.ranges(left[:, column : column + group])))
            value = left[:, column : column + 1]
            integers[:, column : column + 1] = one.integers(value, found[-1])
            error = (value - one.rounded(value, found[-1])) / factor_KK[column, column]
            left[:, column + 1 : last] -= error * factor_KK[column, column + 1 : last]
            errors[:, column - first : column - first + 1] = error
        left[:, last:] -= errors @ factor_KK[first:last, last:]
    return integers, Scales(*(torch.cat(kind, 1) for kind in zip(*found, strict=True)))


def _inverse_factor(rows_NK: torch.Tensor, inputs: int) -> torch.Tensor:
    """The upper Cholesky factor of the inverse of xᵀx, [K, K]: its row k says how later inputs make good an error of input k."""
    products = rows_NK.T @ rows_NK
    diagonal = products.diagonal()
    diagonal[diagonal == 0] = 1.0  # an input that was always zero has nothing to make good
    diagonal += DAMPING * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(products))
    return torch.linalg.cholesky(inverse, upper=True)
