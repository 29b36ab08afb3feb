"""LoRA and DoRA: a frozen weight turned, and stretched, by few parameters.

    V = W + s B A            s = alpha / r, or alpha / sqrt(r) rank-stabilised
    LoRA: V                  DoRA: (m / ‖V‖) V, row by row, m beginning as ‖W‖

A and B are the factors, B begins at zero, so that training begins at W. The norm takes no part in the gradient (DoRA, section
4.3) and changes only when the weights do: it is computed once an optimizer step, without forming V:

    ‖V‖² = ‖W‖² + 2 s Σ (W Aᵀ) ∘ B + s² Σ (B A Aᵀ) ∘ B

Where tensor ranks share out the inputs, each has a part of this sum, and one all-reduce of `outputs` numbers completes it.

A linear layer does not form V either: y = (m / ‖V‖) ∘ (W x + s B A x), with no gradient in W to make. Experts, convolutions,
embeddings, and weights that are masked or rounded afterwards, do.

Shapes: R rank, the axes of a weight's matrix ("outputs", "inputs"), and for experts one more axis before all of them.
Sources: LoRA arXiv 2106.09685, rank-stabilised LoRA arXiv 2312.03732, DoRA arXiv 2402.09353.
"""

import math
import zlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from megatron.core.tensor_parallel import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
)

from parallel.layers import Site, WeightTransform, shared_by_ranks
from parallel.layers.transform import Multiply
from train.transform.stretched import Stretched

SMALLEST = 1e-12  # squared norm of a row: one of zeros stays zero


@dataclass(frozen=True)
class Factors:
    """rank: R. scale: s. magnitude: DoRA instead of LoRA. dropout: share of what the factors read that is left out; linear
    layers alone.
    """

    rank: int
    scale: float
    magnitude: bool
    dropout: float = 0.0


class LowRank(WeightTransform):
    """The factors of one weight."""

    def __init__(self, site: Site, factors: Factors, key: str, seed: int) -> None:
        """Around the weight as it is now. key: its name in the whole model; with `seed` it decides the first values."""
        super().__init__()
        self.site, self.factors = site, factors
        matrix = site.matrix(site.weight.detach())
        *experts, outputs, _ = matrix.shape
        self._precise = torch.promote_types(matrix.dtype, torch.float32)
        first = site.part(_first_values(site.whole_shape, factors.rank, f"{seed} {key}"), ("", "inputs"))
        self.a = torch.nn.Parameter(first.to(matrix.device, self._precise).contiguous())  # [R, inputs]
        self.b = torch.nn.Parameter(
            torch.zeros(*experts, outputs, factors.rank, dtype=self._precise, device=matrix.device)
        )  # [outputs, R]
        self.axes = {"a": ("", "inputs"), "b": ("outputs", "")}
        self._squares: torch.Tensor | None = None  # ‖W‖² of each row
        self._held: tuple[tuple[int, ...], torch.Tensor] | None = None  # ‖V‖, and of which weights
        if factors.magnitude:
            self.m = torch.nn.Parameter(self.squares(site.weight).sqrt().clone())  # [outputs]
            self.m.decays = False  # type: ignore[attr-defined]
            self.axes["m"] = ("outputs",)

    def forward(
        self, weight: torch.Tensor, x: torch.Tensor | None = None, multiply: Multiply | None = None
    ) -> torch.Tensor:
        """The used weight; or of a linear layer, with `x` and its way to `multiply`, the product."""
        if x is not None and multiply is not None:
            return self.product(weight, x, multiply)
        b = self._spread(self.b)
        matrix = self.site.matrix(weight) + self.factors.scale * (b @ self._gathered(self.a)).to(weight.dtype)
        if self.factors.magnitude:
            matrix = self.stretch(weight).unsqueeze(-1).to(matrix.dtype) * matrix
        return self.site.like_weight(matrix)

    def unmerged(self, used: torch.Tensor) -> torch.Tensor:
        """The stored weight from the used one: the inverse of `forward`, by the norm that this was made with."""
        matrix = self.site.matrix(used)
        if self.factors.magnitude:
            matrix = matrix / self.stretch(self.site.weight).unsqueeze(-1).to(matrix.dtype)
        added = self.factors.scale * (self.b @ self.a).to(matrix.dtype)
        return self.site.like_weight(matrix - added)

    def product(self, weight: torch.Tensor, x: torch.Tensor, multiply: Multiply) -> torch.Tensor:
        """y of this rank, [..., outputs]; where ranks share out the inputs, its part of the sum."""
        if self.site.kind != "linear":
            return multiply(x, self(weight))
        read = F.dropout(x, self.factors.dropout) if self.factors.dropout and self.training else x
        inner, b = self._inner(read), self._spread(self.b).to(x.dtype) * self.factors.scale
        stretch = self.stretch(weight) if self.factors.magnitude else None
        if read is x or stretch is None:
            added_up = self.site.split == "inputs" and self.site.ranks > 1  # over ranks, in place
            return Stretched.apply(multiply(x, weight), inner, b, stretch, added_up)
        # As peft does: what the factors do not read is also left out of what stretching adds to W x.
        stretch = stretch.to(x.dtype)
        return multiply(x, weight) + (stretch - 1) * multiply(read, weight) + stretch * F.linear(inner, b)

    def _inner(self, x: torch.Tensor) -> torch.Tensor:
        """A x, [..., R]: whole and for all positions where this rank's outputs need it, else of this rank's inputs."""
        a = self.a.to(x.dtype)
        if self.site.ranks == 1 or self.site.split == "inputs":
            return F.linear(x, a)
        if self.site.sequence:
            return gather_from_sequence_parallel_region(F.linear(x, shared_by_ranks(a)))
        return copy_to_tensor_model_parallel_region(F.linear(x, a))

    def stretch(self, weight: torch.Tensor) -> torch.Tensor:
        """m / ‖V‖ of each output, [outputs]."""
        return self._spread(self.m) / self.norm(weight)

    @torch.no_grad()
    def norm(self, weight: torch.Tensor) -> torch.Tensor:
        """‖V‖ of each row, [outputs], in fp32 or better; held until the weights change."""
        versions = (weight._version, self.a._version, self.b._version)
        if self._held is None or self._held[0] != versions:
            self._held = (versions, self._norm(weight))
        return self._held[1]

    def _norm(self, weight: torch.Tensor) -> torch.Tensor:
        a, b, scale = self.a.to(self._precise), self.b.to(self._precise), self.factors.scale
        # In the weight's own format: of half precision no copy in fp32 is made, and the error is a small part of a rounding of V.
        matrix = self.site.matrix(weight)
        crossed = (matrix @ a.to(matrix.dtype).mT).to(self._precise)
        added = (2 * scale * crossed + scale**2 * (b @ (a @ a.mT))).mul_(b).sum(-1)
        return self.site.sum_over_inputs(added).add_(self.squares(weight)).clamp_(min=SMALLEST).sqrt_()

    @torch.no_grad()
    def squares(self, weight: torch.Tensor) -> torch.Tensor:
        """‖W‖² of each row, [outputs]; of a weight that does not train it is computed once."""
        if self._squares is not None:
            return self._squares
        squares = self.site.sum_over_inputs(
            self.site.matrix(weight.detach()).to(self._precise).square().sum(-1)
        )
        if not weight.requires_grad:
            self._squares = squares
        return squares

    def weights_changed(self) -> None:
        """The norm is of before."""
        self._held = None

    def weights_replaced(self) -> None:
        """So is that of the frozen weight."""
        self._held = self._squares = None

    def _spread(self, factor: torch.Tensor) -> torch.Tensor:
        """B or m: used by each rank for its part of the sum where inputs are shared out."""
        return shared_by_ranks(factor) if self.site.split == "inputs" and self.site.ranks > 1 else factor

    def _gathered(self, a: torch.Tensor) -> torch.Tensor:
        """A: used by each rank for its outputs where these are shared out."""
        return shared_by_ranks(a) if self.site.split == "outputs" and self.site.ranks > 1 else a


def _first_values(shape: tuple[int, ...], rank: int, name: str) -> torch.Tensor:
    """A of the whole weight, [.., R, inputs], uniform as torch and peft begin a linear layer: the same in every layout."""
    *experts, _, inputs = shape
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    bound = 1 / math.sqrt(inputs)
    return torch.empty(*experts, rank, inputs).uniform_(-bound, bound, generator=generator)
