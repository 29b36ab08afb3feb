"""How a matrix is rounded: the arithmetic is torchao's, called and not written again, so that what training rounds to is
what its integer tensors hold.

    q = clamp(round(w / scale) + zero, -2^(b-1), 2^(b-1) - 1)        used = (q - zero) scale

Each row has a scale for every `group` of neighbouring inputs, or one for all of them. Symmetric: the scale is
max|w| / ((2^b - 1) / 2), zero is 0. Otherwise both are of the least and the largest value. fp8: e4m3, the scale max|w| / 448.

Shapes: R rows, K inputs, G groups of a row. Integers of any width are held as int8.
"""

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

heard = logging.root.manager.disable
logging.disable(logging.WARNING)  # torchao tells of kernels for other machines and Pythons
try:
    from torchao.quantization.quant_primitives import (
        MappingType,
        _choose_scale_float8,
        _dequantize_affine_float8,
        _fake_quantize_affine,
        _quantize_affine_float8,
        choose_qparams_affine_with_min_max,
        dequantize_affine,
        quantize_affine,
    )
finally:
    logging.disable(heard)

FLOAT8 = torch.float8_e4m3fn


class Scales(NamedTuple):
    """scale, zero: [R, G], fp32; `zero` holds integers."""

    scale: torch.Tensor
    zero: torch.Tensor


@dataclass(frozen=True)
class Rounding:
    """bits: of a value, 2 to 8. group: K of one scale; 0 for all of a row. float8: e4m3 in the place of integers."""

    bits: int
    group: int = 0
    symmetric: bool = True
    float8: bool = False

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the largest integer."""
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1

    @torch.no_grad()
    def ranges(self, rows_RK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The least and the largest value of each group, [R, G]."""
        groups = rows_RK.view(len(rows_RK), -1, self.group or rows_RK.shape[1])
        return groups.amin(-1), groups.amax(-1)

    @torch.no_grad()
    def scales(self, low_RG: torch.Tensor, high_RG: torch.Tensor) -> Scales:
        """Of groups whose values reach from `low` to `high`."""
        if self.float8:
            both = torch.stack([low_RG, high_RG], -1)
            scale = _choose_scale_float8(both.view(-1, 2), [1, 2], FLOAT8).view(low_RG.shape)
            return Scales(torch.where(scale > 0, scale, 1.0), torch.zeros_like(scale))
        kind = MappingType.SYMMETRIC if self.symmetric else MappingType.ASYMMETRIC
        scale, zero = choose_qparams_affine_with_min_max(
            low_RG, high_RG, kind, (1, 1), torch.int8, *self.bounds, self._smallest(low_RG),
            scale_dtype=torch.float32, zero_point_dtype=torch.float32,
        )  # fmt: skip
        return Scales(scale, zero)

    def rounded(self, rows_RK: torch.Tensor, scales: Scales) -> torch.Tensor:
        """[R, K] as it is used. The gradient passes what is in range as if it were not rounded, to the scale as well."""
        if self.float8:
            return _Float8.apply(rows_RK, scales.scale)
        block = (1, rows_RK.shape[1] // scales.scale.shape[1])
        return _fake_quantize_affine(rows_RK, block, *scales, torch.int32, *self.bounds)

    @torch.no_grad()
    def integers(self, rows_RK: torch.Tensor, scales: Scales) -> torch.Tensor:
        """What is stored, [R, K] int8; of fp8, e4m3."""
        if self.float8:
            return _quantize_affine_float8(rows_RK, scales.scale, FLOAT8)
        block = (1, rows_RK.shape[1] // scales.scale.shape[1])
        return quantize_affine(rows_RK, block, *scales, torch.int8, *self.bounds)

    @torch.no_grad()
    def restored(self, integers_RK: torch.Tensor, scales: Scales, dtype: torch.dtype) -> torch.Tensor:
        """The values that `integers` stand for, [R, K]."""
        if self.float8:
            return _dequantize_affine_float8(integers_RK, scales.scale, dtype)
        block = (1, integers_RK.shape[1] // scales.scale.shape[1])
        return dequantize_affine(integers_RK, block, *scales, torch.int8, *self.bounds, output_dtype=dtype)

    def _smallest(self, values: torch.Tensor) -> float:
        """The smallest scale there is, as torchao has it."""
        return torch.finfo(values.dtype).smallest_normal


class _Float8(torch.autograd.Function):
    """Values of e4m3. The gradient passes as it is; torchao's own way back would round it to e4m3, too, where small ones are 0."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return _dequantize_affine_float8(_quantize_affine_float8(rows, scale, FLOAT8), scale, rows.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return gradient, None


# What is multiplied with a weight: a scale and a zero for each position (torchao's int8 dynamic activations).
ACTIVATIONS = Rounding(8, symmetric=False)
ACTIVATIONS_FLOAT8 = Rounding(8, float8=True)
