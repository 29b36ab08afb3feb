"""Adafactor: second moments as a row and a column of each matrix (Shazeer & Stern, arXiv 1804.04235), without momentum.

The rule is torch.optim.Adafactor's, with steps relative to the size of a parameter and clipped by the size of its update.
Both sizes are of whole tensors, which `parallel.whole` brings together. Of a stack of experts each is a tensor of its own.
"""

from typing import Any

import torch

from parallel.whole import Whole
from train.optimizer.kept import KeepsOfWholes

_SMALLEST = torch.finfo(torch.float32).eps  # of a second moment's root
_SMALLEST_SIZE = 1e-3  # of a parameter, for its relative step


class Adafactor(KeepsOfWholes):
    """Keeps rows + columns numbers of a matrix where AdamW keeps 2 x rows x columns. Vectors keep all."""

    label = "adafactor"

    def __init__(self, groups: list[dict[str, Any]], lr: float, beta2_decay: float, clip: float) -> None:
        """lr: the largest relative step, which falls with the root of the count. beta2_decay: power of the count that the
        newest gradient weighs in second moments, below 0. clip: largest size of an update."""
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self._power, self._clip = beta2_decay, clip

    def shapes(self, shape: torch.Size) -> dict[str, tuple[int, ...]]:
        """Rows and columns of matrices; all of vectors."""
        if len(shape) < 2:
            return {"variance": tuple(shape)}
        return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of what has a gradient."""
        for group in self.param_groups:
            for flat in group["params"]:
                if flat.grad is None:
                    continue
                count = self.state[flat]["step"].add_(1).item()
                rate = min(group["lr"], count**-0.5)

                def update(whole: Whole, gradient: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
                    return self._update(whole, gradient, weights, count**self._power) * rate  # noqa: B023

                change = self._wholes.apply(flat, [flat.grad, flat.detach()], update)
                flat.mul_(1 - group["lr"] * group["weight_decay"]).sub_(change)

    def _update(
        self, whole: Whole, gradient: torch.Tensor, weights: torch.Tensor, newest: float
    ) -> torch.Tensor:
        """The step at a relative rate of 1; newest: what this gradient weighs in the second moments."""
        direction = (
            gradient * _estimate(self._kept[whole.name], gradient, newest).clamp_(min=_SMALLEST**2).rsqrt_()
        )
        size = _size(weights, whole).clamp(min=_SMALLEST_SIZE)
        return direction * (size / (_size(direction, whole) / self._clip).clamp(min=1.0))


def _estimate(moments: dict[str, torch.Tensor], gradient: torch.Tensor, newest: float) -> torch.Tensor:
    """The second moment of every weight, after this gradient joined what is kept of them."""
    squares = gradient.square()
    if "variance" in moments:
        return moments["variance"].lerp_(squares, newest).clone()
    row = moments["row_var"].lerp_(squares.mean(-1, keepdim=True), newest)
    column = moments["col_var"].lerp_(squares.mean(-2, keepdim=True), newest)
    return (row @ column).div_(row.mean(-2, keepdim=True).clamp_(min=_SMALLEST))


def _size(values: torch.Tensor, whole: Whole) -> torch.Tensor:
    """Root of the mean square, of each tensor of a stack."""
    axes = (-2, -1) if whole.is_stack else tuple(range(values.ndim))
    return values.square().mean(axes, keepdim=True).sqrt()
